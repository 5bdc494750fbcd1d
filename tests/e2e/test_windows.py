"""Late, early and folded usage over HTTP."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import yaml

from tests.e2e.running import Exporter

CONFIG = """\
budgets:
  late:
    - {tokens: 1000, period: 5h}
    - {tokens: 1000, period: 7d}
  zoned: {tokens: 1000, timezone: Pacific/Apia}
limits: {providers: 20, models_per_provider: 10}
retention: 8d
"""
DAY = 86400


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with Exporter(tmp_path_factory.mktemp("windows"), CONFIG) as running:
        yield running


def used(exporter: Exporter, provider: str, period: str) -> float | None:
    return exporter.value("llm_quota_used_tokens", provider=provider, period=period)


def test_a_late_event_counts_in_the_windows_its_time_falls_in(exporter: Exporter) -> None:
    now = time.time()
    for age, tokens in ((3600, 1), (6 * 3600, 10), (6 * DAY, 100)):
        event = {"provider": "late", "tokens": tokens, "timestamp": now - age}
        assert exporter.push(event).json()["accepted"] == 1
    assert (used(exporter, "late", "5h"), used(exporter, "late", "7d")) == (1, 111)


def test_a_day_begins_at_its_zones_midnight(exporter: Exporter) -> None:
    shown = exporter.provider("zoned")["periods"]
    assert isinstance(shown, dict)
    start = datetime.fromisoformat(shown["day"]["window_start"])
    before, after = (
        start - timedelta(minutes=1),
        min(start + timedelta(minutes=1), datetime.now(UTC)),
    )
    exporter.push(
        {"provider": "zoned", "tokens": 5, "timestamp": before.isoformat()},
        {"provider": "zoned", "tokens": 7, "timestamp": after.isoformat()},
    )
    assert used(exporter, "zoned", "day") == 7


@pytest.mark.parametrize(
    ("timestamp", "reason"),
    [
        (-8 * DAY - 60, "timestamp: older than the retention of 8d, got "),
        (+310, "timestamp: 310 s ahead of this clock, at most 300 allowed, got "),
        (+1e6, "timestamp: 1000000 s ahead of this clock, at most 300 allowed, got "),
    ],
)
def test_what_is_too_old_or_too_far_ahead_is_rejected_with_the_reason(
    exporter: Exporter, timestamp: float, reason: str
) -> None:
    at = time.time() + timestamp
    answer = exporter.push({"provider": "late", "tokens": 1, "timestamp": at})
    assert answer.status_code == 400
    (rejected,) = answer.json()["rejected"]
    stated = rejected["error"].partition(" s ahead")
    assert rejected["index"] == 0
    if stated[1]:  # the clock went on for a moment
        assert abs(float(stated[0].removeprefix("timestamp: ")) - timestamp) <= 5
        assert stated[2].startswith(reason.partition(" s ahead")[2])
    else:
        assert rejected["error"].startswith(reason)


@pytest.mark.parametrize("ahead", [-8 * DAY + 60, 290])
def test_what_is_just_within_bounds_is_counted(exporter: Exporter, ahead: float) -> None:
    at = datetime.fromtimestamp(time.time() + ahead, UTC).isoformat()
    answer = exporter.push({"provider": "bounds", "tokens": 1, "timestamp": at})
    assert answer.json()["accepted"] == 1


def test_names_beyond_the_caps_fold_into_other_with_one_line_of_log(exporter: Exporter) -> None:
    exporter.push(*({"provider": "late", "model": f"m{n}", "tokens": 1} for n in range(30)))
    for number in range(40):
        exporter.push({"provider": f"p{number}", "tokens": 1})
    seen = exporter.metrics()
    providers = {dict(ls)["provider"] for (name, ls) in seen if name == "llm_quota_requests_total"}
    models = {
        dict(labels)["model"]
        for (name, labels) in seen
        if name == "llm_quota_requests_total" and ("provider", "late") in labels
    }
    beside = providers - set(yaml.safe_load(CONFIG)["budgets"])  # which the cap is not for
    assert ("other" in providers, len(beside) <= 22) == (True, True)
    assert ("other" in models, len(models - {""})) == (True, 11)  # an unknown one is no name
    total = sum(v for (name, _), v in seen.items() if name == "llm_quota_requests_total")
    assert (
        total
        == seen["llm_quota_events_total", frozenset({("source", "usage"), ("outcome", "accepted")})]
    )
    for what in ("provider", "model"):
        assert seen["llm_quota_folded_total", frozenset({("what", what)})] > 0
        assert exporter.log().count(f"what={what} first=") == 1


def test_a_budgeted_provider_is_never_folded(exporter: Exporter) -> None:
    exporter.config.write_text(CONFIG.replace("  late:", "  latecomer: 50\n  late:"))
    exporter.hang_up()
    deadline = time.monotonic() + 10
    while "latecomer" not in exporter.http.get("/v1/providers").json():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    exporter.push({"provider": "latecomer", "tokens": 3})
    assert used(exporter, "latecomer", "day") == 3
