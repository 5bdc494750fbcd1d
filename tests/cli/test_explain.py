"""The words and bars that `explain` prints."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exporter.cli.explain import bars, explained

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
MIDNIGHT = NOW.timestamp() - 12 * 3600


def quota(**more: Any) -> dict[str, Any]:
    course = {
        "timestamps": [MIDNIGHT + 6 * 3600 * step for step in range(5)],
        "used": [0, 250_000, 500_000],
        "usual": [0, 200_000, 400_000, 600_000, 800_000],
        "usual_lower": [0, 100_000, 200_000, 300_000, 400_000],
        "usual_upper": [0, 250_000, 500_000, 750_000, 1_000_000],
    }
    return {
        "period": "day",
        "unit": "tokens",
        "budget": 1_000_000,
        "reserve": 0.0,
        "used": 500_000,
        "used_ratio": 0.5,
        "projected": 950_000,
        "projected_lower": 800_000,
        "projected_upper": 1_200_000,
        "exhaustion_probability": 0.625,
        "exhaustion_at": (NOW + timedelta(hours=9)).isoformat(),
        "history_days": 20.5,
        "learning": False,
        "windows": 12,
        "course": course,
        "record": {
            "windows": 9,
            "brier": 0.05,
            "mean_probability": 0.3,
            "share_exhausted": 0.25,
        },
        **more,
    }


def test_a_budget_is_explained_in_words_and_beside_its_usual_course() -> None:
    assert explained({"provider": "openai", "quotas": [quota()]}, NOW).splitlines() == [
        "openai: 1M per day",
        "  used 500k (50%), projected 950k (800k to 1.2M)",
        "  62.5% likely to run out, most likely in 9h00m",
        "  12 earlier windows scored, of 20.5 days of history",
        "  record: 9 windows scored, 30% was said on average, 25% came true, Brier score 0.050",
        "  now   ▁▃▅   500k",
        "  usual ▁▂▄▅▇ 800k",
        "  lower ▁▂▂▃▄ 400k",
        "  upper ▁▃▅▆█ 1M",
        "  from 2026-03-04 00:00 UTC to 2026-03-05 00:00 UTC",
    ]


def test_a_young_budget_says_that_it_is_learning() -> None:
    course = {**quota()["course"], "usual": [], "usual_lower": [], "usual_upper": []}
    young = quota(
        course=course,
        history_days=0.3,
        learning=True,
        windows=0,
        record=None,
        exhaustion_at=None,
        model="gpt-5",
        unit="usd",
        budget=5.0,
        used=1.0,
    )
    lines = explained({"provider": "openai", "quotas": [young]}, NOW).splitlines()
    assert lines[0] == "openai gpt-5: $5.00 per day"
    assert lines[2:5] == [
        "  62.5% likely to run out",
        "  learning: 0.3 days of history, no earlier window yet",
        "  no window was over yet: the forecasts are not scored",
    ]
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("minutes", "drawn"),
    [(10, "▅   "), (179, "▅   "), (181, "▁▅  "), (361, "▁▅  "), (12 * 60 + 200, "▁▂▄▅")],
)
def test_what_is_used_by_now_is_drawn_whatever_the_last_moment_of_the_course(
    minutes: int, drawn: str
) -> None:
    now = datetime.fromtimestamp(MIDNIGHT, UTC) + timedelta(minutes=minutes)
    course = quota()["course"]
    past = [0, 200_000, 400_000][: 1 + minutes // 360]
    cut = {name: values[:4] for name, values in course.items()} | {"used": past}
    lines = explained({"provider": "openai", "quotas": [quota(course=cut)]}, now).splitlines()
    assert f"  now   {drawn} 500k" in lines


def test_without_a_budget_there_is_nothing_to_explain() -> None:
    found = {"provider": "openai", "quotas": []}
    said = "openai: no budget and no reported window, so nothing is forecast"
    assert explained(found, NOW) == said


def test_bars_end_where_values_do() -> None:
    assert bars([0, 5, 10], 10, 5) == "▁▅█  "
    assert bars([0, 0], 0, 2) == "▁▁"
