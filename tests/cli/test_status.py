"""The tables that `status` prints."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from exporter.cli.spending import Spending
from exporter.cli.status import providers_table

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


def later(**ahead: float) -> str:
    return (NOW + timedelta(**ahead)).isoformat()


def period(used: float, budget: int, probability: float, **more: object) -> dict[str, Any]:
    return {
        "used": used,
        "budget": budget,
        "unit": "tokens",
        "exhaustion_probability": probability,
        "exhaustion_at": None,
        "window_end": later(hours=12),
        **more,
    }


def provider(name: str, periods: dict[str, Any] | None = None, **more: object) -> dict[str, Any]:
    return {
        "provider": name,
        "state": "available",
        "reason": None,
        "retry_after": None,
        "recovery_pending": False,
        "throttled_until": None,
        "override": None,
        "scopes": [],
        "quotas": [{"period": name, **that} for name, that in (periods or {}).items()],
        **more,
    }


def out(name: str, **ahead: float) -> dict[str, Any]:
    state = {"state": "quota_exhausted", "reason": "budget", "retry_after": later(**ahead)}
    return provider(name, **state)


def printed(*providers: dict[str, Any], width: int = 120, colour: bool = False) -> list[str]:
    text = io.StringIO()
    console = Console(
        file=text, width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    console.print(providers_table({one["provider"]: one for one in providers}, NOW, width))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_without_providers_it_says_what_to_do() -> None:
    assert printed() == ["no providers yet: push some usage, or configure a budget"]


def test_columns_line_up() -> None:
    ahead = later(minutes=125)
    lines = printed(
        provider("openai", periods={"day": period(700_000, 10**6, 0.93, exhaustion_at=ahead)}),
        provider("a", periods={"day": period(0, 5, 0)}),
    )
    assert lines == [
        "PROVIDER  STATE      BUDGET  USED                %  RUNS OUT      RESETS",
        "openai    available  1M day  700k  ███████░░░  70%  93% in 2h05m  in 12h00m",
        "a         available  5 day      0  ░░░░░░░░░░   0%  0%            in 12h00m",
    ]


def test_eighty_columns_hold_a_row_of_a_budget() -> None:
    exhaustion = {"exhaustion_at": later(hours=10)}
    lines = printed(
        provider("anthropic", periods={"month": period(700_000, 10**6, 0.93, **exhaustion)}),
        width=80,
    )
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80


def test_what_has_no_room_wraps_within_its_column() -> None:
    lines = printed(out("a-provider-with-a-long-name-" + "x" * 40, hours=3), width=80)
    assert all(len(line) <= 80 for line in lines)
    assert len(lines) > 2
    assert all(not line.partition("x ")[2] for line in lines[2:])  # nothing but the name goes on


def test_a_pipe_gets_whole_lines() -> None:
    name = "a-provider-with-a-long-name-" + "x" * 100
    assert len(printed(out(name, hours=3), width=10_000)) == 2


def test_the_most_urgent_come_first() -> None:
    lines = printed(
        provider("calm", periods={"day": period(1, 100, 0.01)}),
        provider("likely", periods={"day": period(1, 100, 0.9)}),
        out("gone", hours=3),
        provider("unbudgeted"),
    )
    assert [line.split()[0] for line in lines[1:]] == ["gone", "likely", "calm", "unbudgeted"]


def test_who_is_out_shows_why_and_until_when() -> None:
    lines = printed(
        out("a", hours=3), out("b", hours=50), out("c"), provider("d", recovery_pending=True)
    )
    assert "out (budget) in 3h00m" in lines[1]
    assert "out (budget) in 2d02h" in lines[2]
    assert "out (budget) now" in lines[3]
    assert "recovery pending" in lines[4]


def test_an_operators_word_and_a_throttle_show() -> None:
    override = {"state": "available", "until": later(hours=2), "by": "operator", "reason": ""}
    lines = printed(
        provider("a", override=override), provider("b", throttled_until=later(seconds=20))
    )
    assert "available (operator, ends in 2h00m)" in lines[1]
    assert "throttled in 20s" in lines[2]


def test_a_model_that_is_out_by_itself_has_a_row() -> None:
    part = {key: value for key, value in out("x", hours=1).items() if key != "quotas"}
    lines = printed(provider("a", scopes=[{**part, "provider": "a", "model": "gpt-5"}]))
    assert lines[2].split() == ["a", "out", "(budget)", "in", "1h00m", "gpt-5"]


@pytest.mark.parametrize(
    ("name", "unit", "ahead", "shown"),
    [
        ("day", "tokens", {"seconds": 20}, "in 20s"),
        ("day", "tokens", {"seconds": 0}, "now"),
        ("minute", "requests", {"seconds": 59}, "in 59s"),
        ("5h", "tokens", {"seconds": 0}, "rolls"),
        ("5h", "tokens", {"seconds": 20}, "rolls"),
        ("5h", "share", {"hours": 2}, "in 2h00m"),
    ],
)
def test_only_a_rolling_window_rolls(
    name: str, unit: str, ahead: dict[str, float], shown: str
) -> None:
    quota = period(0, 1, 0, window_end=later(**ahead), unit=unit)
    assert printed(provider("x", periods={name: quota}))[1].endswith("  " + shown)


def test_large_numbers_stay_short() -> None:
    sizes = {999: "999", 1500: "1.5k", 999_600: "1000k", 2_500_000: "2.5M", 3 * 10**9: "3G"}
    for used, text in sizes.items():
        line = printed(provider("x", periods={"day": period(used, 10**12, 0)}))[1]
        assert line.split()[4] == text


def test_use_beyond_the_budget_fills_the_bar_and_no_more() -> None:
    line = printed(provider("x", periods={"day": period(600, 100, 1)}))[1]
    assert f"{'█' * 10}  600%" in line


def test_colours_tell_how_bad_it_is() -> None:
    lines = printed(
        out("gone", hours=1),
        provider("likely", periods={"day": period(1, 100, 0.8)}),
        provider("calm", periods={"day": period(1, 100, 0.79)}),
        colour=True,
    )
    assert [line[:5] for line in lines[1:]] == ["\033[31m", "\033[33m", "\033[32m"]


def test_a_budget_in_another_unit_and_scope_shows_both() -> None:
    spend = {**period(12.5, 50, 0.1), "unit": "usd", "period": "month", "consumer": "batch-*"}
    asked = {**period(25, 250, 0), "unit": "requests", "period": "day", "model": "gemini-3-pro*"}
    lines = printed(provider("gemini", quotas=[spend, asked]))
    assert [line.split()[2:7] for line in lines[1:]] == [
        ["$50.00", "month", "batch-*", "$12.50", "██░░░░░░░░"],
        ["250", "req", "day", "gemini-3-pro*", "25"],
    ]


def test_a_name_is_text_and_no_markup() -> None:
    assert printed(provider("[red]x[/red]"))[1].startswith("[red]x[/red]")


# -- who used it --


def exposition(search: int, batch: int) -> str:
    return f"""\
# TYPE llm_quota_consumer_tokens counter
llm_quota_consumer_tokens_total{{provider="openai",consumer="search"}} {search}
llm_quota_consumer_tokens_total{{provider="openai",consumer="batch"}} {batch}
llm_quota_consumer_tokens_total{{provider="gemini",consumer="search"}} 0
# TYPE llm_quota_consumer_requests counter
llm_quota_consumer_requests_total{{provider="openai",consumer="search"}} 3
# TYPE llm_quota_consumer_cost_usd counter
llm_quota_consumer_cost_usd_total{{provider="openai",consumer="batch"}} 1234.5
"""


def spent(spending: Spending, metrics: str, now: float) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=120).print(spending.table(metrics, now))
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_who_used_most_comes_first() -> None:
    assert spent(Spending("consumer", "openai"), exposition(3000, 1000), 0.0) == [
        "PROVIDER  CONSUMER  TOKENS    %  REQUESTS       USD",
        "openai    search        3k  75%         3      0.00",
        "openai    batch         1k  25%         0  1,234.50",
    ]


def test_of_a_watch_who_spends_fastest_comes_first() -> None:
    spending = Spending("consumer", None)
    spent(spending, exposition(3000, 1000), 100.0)
    lines = spent(spending, exposition(3000, 1600), 130.0)
    assert lines[0].endswith("USD  TOKENS/MIN")
    assert [(line.split()[1], line.split()[-1]) for line in lines[1:]] == [
        ("batch", "1.2k"),
        ("search", "0"),
        ("search", "0"),
    ]


def test_kinds_of_tokens_of_a_model_are_summed() -> None:
    metrics = (
        "# TYPE llm_quota_tokens counter\n"
        'llm_quota_tokens_total{provider="openai",model="gpt-5",kind="input"} 40\n'
        'llm_quota_tokens_total{provider="openai",model="gpt-5",kind="output"} 2\n'
    )
    assert spent(Spending("model", None), metrics, 0.0)[1].split()[:3] == ["openai", "gpt-5", "42"]


def test_without_usage_there_is_no_table() -> None:
    assert spent(Spending("model", None), "", 0.0) == ["no usage of a model yet"]
