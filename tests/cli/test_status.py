"""The table that `status` prints."""

from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.cli.status import table

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def period(used: float, budget: int, probability: float, **more: object) -> dict[str, Any]:
    return {
        "used": used,
        "budget": budget,
        "unit": "tokens",
        "exhaustion_probability": probability,
        "exhaustion_at": None,
        "window_end": (NOW + timedelta(hours=12)).isoformat(),
        **more,
    }


def provider(name: str, periods: dict[str, Any] | None = None, **more: object) -> dict[str, Any]:
    return {
        "provider": name,
        "state": "available",
        "reason": None,
        "retry_after": None,
        "recovery_pending": False,
        "quotas": [{"period": name, **that} for name, that in (periods or {}).items()],
        **more,
    }


def out(name: str, hours: float) -> dict[str, Any]:
    return provider(
        name,
        state="quota_exhausted",
        reason="budget",
        retry_after=(NOW + timedelta(hours=hours)).isoformat(),
    )


def shown(*providers: dict[str, Any], colour: bool = False) -> list[str]:
    return table({one["provider"]: one for one in providers}, NOW, colour=colour).splitlines()


def test_without_providers_it_says_what_to_do() -> None:
    assert shown() == ["no providers yet: push some usage, or configure a budget"]


def test_columns_line_up() -> None:
    soon = (NOW + timedelta(minutes=125)).isoformat()
    lines = shown(
        provider("openai", periods={"day": period(700_000, 10**6, 0.93, exhaustion_at=soon)}),
        provider("a", periods={"day": period(0, 5, 0)}),
    )
    assert lines == [
        "PROVIDER  STATE      PERIOD  USED  BUDGET                   RUNS OUT  WHEN      RESETS",
        "openai    available  day     700k      1M  ███████░░░  70%       93%  in 2h05m  in 12h00m",
        "a         available  day        0       5  ░░░░░░░░░░   0%        0%            in 12h00m",
    ]


def test_the_most_urgent_come_first() -> None:
    lines = shown(
        provider("calm", periods={"day": period(1, 100, 0.01)}),
        provider("likely", periods={"day": period(1, 100, 0.9)}),
        out("gone", 3),
        provider("unbudgeted"),
    )
    assert [line.split()[0] for line in lines[1:]] == ["gone", "likely", "calm", "unbudgeted"]


def test_who_is_out_shows_why_and_until_when() -> None:
    lines = shown(out("a", 3), out("b", 50), out("c", 0), provider("d", recovery_pending=True))
    assert "quota exhausted (budget, in 3h00m)" in lines[1]
    assert "quota exhausted (budget, in 2d02h)" in lines[2]
    assert "quota exhausted (budget, now)" in lines[3]
    assert "available (recovery pending)" in lines[4]


def test_large_numbers_stay_short() -> None:
    sizes = {999: "999", 1500: "1.5k", 999_600: "1000k", 2_500_000: "2.5M", 3 * 10**9: "3G"}
    for used, text in sizes.items():
        line = shown(provider("x", periods={"day": period(used, 10**12, 0)}))[1]
        assert line.split()[3] == text


def test_use_beyond_the_budget_fills_the_bar_and_no_more() -> None:
    line = shown(provider("x", periods={"day": period(600, 100, 1)}))[1]
    assert f"{'█' * 10} 600%" in line


def test_colours_tell_how_bad_it_is() -> None:
    lines = shown(
        out("gone", 1),
        provider("likely", periods={"day": period(1, 100, 0.8)}),
        provider("calm", periods={"day": period(1, 100, 0.79)}),
        colour=True,
    )
    assert [line[:5] for line in lines[1:]] == ["\033[31m", "\033[33m", "\033[32m"]
    assert all(line.endswith("\033[0m") for line in lines[1:])


def test_a_budget_in_another_unit_and_scope_shows_both() -> None:
    spend = {**period(12.5, 50, 0.1), "unit": "usd", "period": "month", "consumer": "batch-*"}
    asked = {**period(25, 250, 0), "unit": "requests", "period": "day", "model": "gemini-3-pro*"}
    lines = shown(provider("gemini", quotas=[spend, asked]))
    assert [line.split()[2:7] for line in lines[1:]] == [
        ["month", "batch-*", "$12.50", "$50.00", "██░░░░░░░░"],
        ["day", "gemini-3-pro*", "25", "req", "250"],
    ]
