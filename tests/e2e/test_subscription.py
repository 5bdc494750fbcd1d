"""A user of Claude Code: telemetry is on, the status line is passed on, nothing is configured."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.intake.otlp import JSON
from tests.dashboard_expressions import RULES
from tests.e2e.running import Samples
from tests.intake.otlp_bodies import metric, metrics_body, point
from tests.test_rules import program, succeeds
from tests.web.test_routes import House, house

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
WEEK = 7 * DAY
STEP = 10 * MINUTE
DELTA = 1

KINDS = {"input": 2_000, "output": 8_000, "cacheRead": 400_000, "cacheCreation": 30_000}
"""Tokens of ten minutes of work."""

WALL = 4 * DAY + 3 * HOUR  # Friday noon
WORKED = 4 * 9 * 6 + 3 * 6  # steps until then

Signal = Mapping[str, Any]


def working(at: float) -> bool:
    moment = datetime.fromtimestamp(at, UTC)
    return moment.weekday() < 5 and 9 <= moment.hour < 18


def status_line(weekly: float, session: float, at: float) -> Signal:
    """What Claude Code hands to the command of its status line."""
    five_hours = {
        "used_percentage": 100 * session,
        "resets_at": at - (at - MONDAY) % (5 * HOUR) + 5 * HOUR,
    }
    told = {
        "session_id": "not read",
        "model": {"id": "claude-opus-5", "display_name": "Opus"},
        "cost": {"total_cost_usd": 1.2},
        "rate_limits": {
            "five_hour": five_hours,
            "seven_day": {"used_percentage": 100 * weekly, "resets_at": MONDAY + WEEK},
        },
    }
    return {"provider": "anthropic", "status": 200, "body": told}


def headers(weekly: float, session: float, at: float) -> Signal:
    """What the API answers, as a hook in an SDK passes it on."""
    unified = "anthropic-ratelimit-unified"
    resets = {"5h": at - (at - MONDAY) % (5 * HOUR) + 5 * HOUR, "7d": MONDAY + WEEK}
    used = {"5h": session, "7d": weekly}
    told = {f"{unified}-status": "allowed"}
    for name, share in used.items():
        told[f"{unified}-{name}-utilization"] = f"{share:.2f}"
        told[f"{unified}-{name}-reset"] = str(int(resets[name]))
        told[f"{unified}-{name}-status"] = "allowed"
    return {"provider": "anthropic", "status": 200, "headers": told, "model": "claude-opus-5"}


async def work(house: House, at: float) -> None:
    """Telemetry of the last ten minutes."""
    points = [
        point(tokens, at - STEP, at, type=kind, model="claude-opus-5")
        for kind, tokens in KINDS.items()
    ]
    body = metrics_body([metric("claude_code.token.usage", points, DELTA)], JSON, "claude-code")
    answer = await house.http.post("/v1/metrics", content=body, headers={"content-type": JSON})
    assert answer.status_code == 200, answer.text


async def week(house: House, told: Any, until: float) -> list[tuple[float, Samples]]:
    """Work from Monday on, and scrape every ten minutes."""
    scrapes = []
    done, session = 0, 0
    for step in range(int(until / STEP)):
        house.clock.now = at = MONDAY + (step + 1) * STEP
        if (at - MONDAY) % (5 * HOUR) < STEP:
            session = 0
        if working(at - STEP):
            await work(house, at)
            done, session = done + 1, session + 1
            signal = told(round(done / WORKED, 2), round(session / 60, 2), at)
            answer = await house.http.post("/v1/signals", json=signal)
            assert answer.json()["accepted"] == 1, answer.text
        scrapes.append((at, await house.metrics()))
    return scrapes


def of(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset({"provider": "anthropic", **labels}.items())))


WEEKLY = {"period": "7d", "unit": "share"}


@pytest.mark.parametrize("told", [status_line, headers])
def test_it_is_warned_a_day_before_the_weekly_wall(told: Any, tmp_path: Path) -> None:
    async def story() -> None:
        async with house("") as built:
            scrapes = await week(built, told, WALL - HOUR)
            warned = [
                at - MONDAY
                for at, one in scrapes
                if (of(one, "llm_quota_exhaustion_probability", **WEEKLY) or 0.0) >= 0.8
            ]
            assert warned
            assert warned[0] < WALL - DAY
            last = scrapes[-1][1]
            assert of(last, "llm_quota_used_ratio", **WEEKLY) == pytest.approx(1.0, abs=0.06)
            moment = of(last, "llm_quota_exhaustion_timestamp_seconds", **WEEKLY)
            assert moment == pytest.approx(MONDAY + WALL, abs=3 * HOUR)
            assert of(last, "llm_quota_window_start_timestamp_seconds", **WEEKLY) == MONDAY
            assert of(last, "llm_quota_window_end_timestamp_seconds", **WEEKLY) == MONDAY + WEEK
            assert (of(last, "llm_quota_burn_rate", window="6h", **WEEKLY) or 0.0) > 1
            scopes = (await built.http.get("/v1/availability")).json()["scopes"]
            (one,) = [one for one in scopes if one["provider"] == "anthropic"]
            assert one["probability"] >= 0.8
            assert one["exhaustion_at"] is not None
            shown = await built.provider("anthropic")
            assert shown["periods"]["7d"]["used_share"] == pytest.approx(1.0, abs=0.06)
            assert "7d" in (await built.http.get("/")).text
            alerts(scrapes, tmp_path)

    asyncio.run(story())


def alerts(scrapes: list[tuple[float, Samples]], folder: Path) -> None:
    """The alert rules fire a day before the wall, by what was scraped."""
    names = {key for _, one in scrapes for key in one if key[0].startswith("llm_quota_")}
    series = []
    for name, labels in sorted(names, key=str):
        told = ",".join(f"{label}={json.dumps(value)}" for label, value in sorted(labels))
        zero = MONDAY if "timestamp" in name else 0.0
        values = [one.get((name, labels)) for _, one in scrapes]
        shown = ["_" if value is None else repr(value - zero) for value in values]
        series.append({"series": f'{name}{{job="llm",{told}}}', "values": " ".join(["_", *shown])})
    firing = 'count(ALERTS{{alertname="{}",alertstate="firing",provider="anthropic",period="{}"}})'
    last = int(scrapes[-1][0] - MONDAY)

    def fires(alert: str, period: str, at: float, count: int) -> dict[str, Any]:
        found = [{"labels": "{}", "value": count}] if count else []
        expression = firing.format(alert, period)
        return {"expr": expression, "eval_time": f"{int(at)}s", "exp_samples": found}

    test = {
        "interval": "10m",
        "input_series": series,
        "promql_expr_test": [
            fires("LLMQuotaExhaustionLikely", "7d", WALL - DAY, 1),
            fires("LLMQuotaExhaustionImminent", "7d", last, 1),
            fires("LLMQuotaExhaustionLikely", "5h", last, 0),
        ],
    }
    groups = {
        group["name"]: [rule for rule in group["rules"] if "record" in rule]
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
    }
    document = {
        "rule_files": list(map(str, RULES)),
        # What is recorded is looked for at the same moment: ten minutes ago is too old. promtool
        # evaluates groups in any order but this one.
        "group_eval_order": sorted(groups, key=lambda name: not groups[name]),
        "evaluation_interval": "10m",
        "tests": [test],
    }
    path = folder / "alerts.yml"
    path.write_text(yaml.safe_dump(document, width=10**9))
    succeeds(program("promtool"), "test", "rules", path)
