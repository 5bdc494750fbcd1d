"""What the status page shows, and in which order."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from exporter.core.quota_state import State
from exporter.core.scope import Scope
from exporter.web.pages.condition import Condition
from exporter.web.pages.rendering import notices
from exporter.web.pages.status import PER_PAGE, Query, StatusPage, status_page
from tests.web.test_routes import DAY, HOUR, NOON, House, house

Given = Callable[[House], Awaitable[None]]


def page_of(config: str, given: Given | None = None, **asked: str) -> StatusPage:
    """The page of an exporter to which something was said."""

    async def shown() -> StatusPage:
        async with house(config) as running:
            if given is not None:
                await given(running)
            now = running.clock()
            snapshot = await running.service.snapshot(now)
            recent = running.service.usage.recent.totals(now)
            return status_page(snapshot, recent, Query.parse(asked))

    return asyncio.run(shown())


def conditions(page: StatusPage) -> dict[str, Condition]:
    return {
        "/".join(part for part in shown.row.scope if part): shown.row.condition
        for shown in page.scopes
    }


def order(page: StatusPage) -> list[str]:
    return [shown.row.scope.provider for shown in page.scopes]


MANY = """\
budgets:
  calm: 1_000_000
  high: 1000
  spent: 1000
  kept: 1000
  slow: 1000
  idle: 1000
prediction: {exhausted_at: off}
"""


async def all_conditions(running: House) -> None:
    await running.push(
        {"provider": "calm", "tokens": 10},
        {"provider": "high", "tokens": 850, "timestamp": NOON - 11 * HOUR},
        {"provider": "spent", "tokens": 1000},
        {"provider": "kept", "tokens": 1200},
        {"provider": "slow", "tokens": 1},
        {"provider": "free", "tokens": 1},
    )
    await running.service.refresh(NOON)
    running.service.states.overrule(Scope("kept"), State.AVAILABLE, None, NOON, "month's end")
    signal = {"provider": "slow", "status": 429, "headers": {"retry-after": "30"}, "body": {}}
    assert (await running.http.post("/v1/signals", json=signal)).status_code == 200
    state = {"state": "quota_exhausted", "retry_after": NOON + HOUR}
    await running.http.put("/v1/providers/stopped/state", json=state)


def test_the_worst_comes_first() -> None:
    found = conditions(page_of(MANY, all_conditions))
    assert list(found.items()) == [
        ("spent", Condition.OUT),  # until midnight
        ("stopped", Condition.OUT),  # for an hour
        ("kept", Condition.OVERRULED),
        ("slow", Condition.THROTTLED),
        ("high", Condition.HIGH),
        ("calm", Condition.AVAILABLE),
        ("idle", Condition.UNUSED),
        ("free", Condition.UNBUDGETED),
    ]


def test_what_is_expected_to_run_out_comes_before_what_is_only_used_a_lot() -> None:
    async def given(running: House) -> None:
        await running.push(
            {"provider": "fast", "tokens": 700},
            {"provider": "full", "tokens": 990, "timestamp": NOON - 12 * HOUR},
        )

    config = "budgets: {fast: 1000, full: 1000}\nprediction: {method: linear, exhausted_at: off}\n"
    page = page_of(config, given)
    assert order(page)[0] == "full"  # both will, by the line: the first of them first
    assert set(conditions(page).values()) == {Condition.LIKELY}


def test_a_part_of_a_provider_that_is_out_is_out_with_it() -> None:
    async def given(running: House) -> None:
        await running.push({"provider": "openai", "model": "gpt-5", "tokens": 1000})

    config = "budgets: {openai: [1000, {tokens: 50_000, period: day, model: gpt-5}]}\n"
    assert conditions(page_of(config, given)) == {
        "openai": Condition.OUT,
        "openai/gpt-5": Condition.BLOCKED,
    }


def test_every_word_of_a_search_has_to_occur_somewhere_in_a_row() -> None:
    async def given(running: House) -> None:
        await running.push({"provider": "openai", "model": "gpt-5", "consumer": "x", "tokens": 1})

    config = """\
budgets:
  openai: [1000, {tokens: 50, period: day, model: gpt-5, labels: {owner: Search-Team}}]
  gemini: {requests: 5, period: minute}
"""
    for search, found in {
        "": {"openai", "openai/gpt-5", "gemini"},
        "OPENAI": {"openai", "openai/gpt-5"},
        "openai gpt": {"openai/gpt-5"},
        "search-team": {"openai/gpt-5"},
        "minute": {"gemini"},
        "never used": {"gemini"},
        "minute openai": set(),
    }.items():
        assert set(conditions(page_of(config, given, q=search))) == found, search


def test_counts_are_of_all_that_was_found_whatever_is_shown() -> None:
    page = page_of(MANY, all_conditions, show="out")
    assert set(conditions(page).values()) == {Condition.OUT}
    assert (page.found, page.total, page.counts[Condition.OUT]) == (2, 8, 2)
    assert sum(page.counts.values()) == 8
    assert sum(page_of(MANY, all_conditions, q="spent").counts.values()) == 1


@pytest.mark.parametrize(
    ("sort", "first", "last"),
    [("name", "calm", "stopped"), ("used", "kept", "stopped"), ("probability", "spent", "free")],
)
def test_rows_can_be_sorted(sort: str, first: str, last: str) -> None:
    found = order(page_of(MANY, all_conditions, sort=sort))
    assert (found[0], found[-1]) == (first, last)


def test_rows_can_be_sorted_by_their_next_reset() -> None:
    config = "budgets: {a: {tokens: 5, period: month}, b: {tokens: 5, period: hour}, c: 5}\n"
    assert order(page_of(config, sort="resets")) == ["b", "c", "a"]


def test_many_scopes_come_in_pages() -> None:
    config = "budgets:\n" + "".join(f"  p{number:03}: 5\n" for number in range(PER_PAGE + 3))
    first, second = page_of(config), page_of(config, page="2")
    assert (len(first.scopes), len(second.scopes), second.pages) == (PER_PAGE, 3, 2)
    assert order(second)[-1] == f"p{PER_PAGE + 2:03}"
    assert page_of(config, page="77").query.page == 2
    assert first.query.link(page=2) == "?page=2"


def test_a_link_keeps_what_was_asked_for() -> None:
    query = Query.parse({"q": "a b&c", "show": "out", "sort": "used", "page": "3"})
    assert query.link(page=4) == "?q=a+b%26c&show=out&sort=used&page=4"
    assert query.link(show=None) == "?q=a+b%26c&sort=used"
    assert Query().link() == "?"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"show": "broken"}, "show: expected one of out, overruled, throttled, likely, high, "),
        ({"sort": "luck"}, "sort: expected one of worst, name, used, resets, probability, got"),
        ({"page": "0"}, "page: expected 1 to 9999999, got '0'"),
        ({"page": "²"}, "page: expected 1 to 9999999, got '²'"),
        ({"page": "9" * 5000}, "page: expected 1 to 9999999, got '9999"),
        ({"q": "x" * 201}, "q: expected at most 200 characters, got 201"),
    ],
)
def test_a_wish_that_is_none_is_refused(asked: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the message is what is tested
        Query.parse(asked)
    assert message in str(refused.value)


def test_who_spends_a_scope_is_named_by_share_of_the_last_hour() -> None:
    async def given(running: House) -> None:
        uses = {"search": 300, "batch": 600, "bot": 90, "": 10}
        await running.push(
            *({"provider": "openai", "consumer": who, "tokens": n} for who, n in uses.items()),
            {"provider": "openai", "consumer": "old", "tokens": 99_999, "timestamp": NOON - DAY},
        )

    [shown] = page_of("budgets: {openai: 1_000_000}\n", given).scopes
    assert shown.spender_kind == "consumer"
    assert [(one.name, one.share) for one in shown.spenders] == [
        ("batch", 0.6),
        ("search", 0.3),
        ("bot", 0.09),
    ]


def test_of_a_budget_in_dollars_it_is_the_dearest_who_are_named_and_without_consumers_models() -> (
    None
):
    async def given(running: House) -> None:
        await running.push(
            {"provider": "openai", "model": "dear", "tokens": 1, "cost_usd": 3},
            {"provider": "openai", "model": "cheap", "tokens": 500, "cost_usd": 1},
        )

    [shown] = page_of("budgets: {openai: {usd: 50, period: day}}\n", given).scopes
    assert shown.spender_kind == "model"
    assert [(one.name, one.share, one.usd) for one in shown.spenders] == [
        ("dear", 0.75, 3.0),
        ("cheap", 0.25, 1.0),
    ]


def test_a_name_that_is_nearly_anothers_is_pointed_out() -> None:
    async def given(running: House) -> None:
        await running.push(
            {"provider": "openai", "tokens": 1}, {"provider": "anthropc", "tokens": 1}
        )

    config = "budgets: {openai: 100, opnai: 100, anthropic: 100, mistral: 100}\n"
    found = {shown.view.name: shown.similar for shown in page_of(config, given).scopes}
    assert found == {
        "openai": "",  # it has a budget, and is used
        "opnai": "openai",
        "anthropc": "anthropic",
        "anthropic": "anthropc",  # never used
        "mistral": "",
    }


def test_rate_limits_that_leave_the_least_come_first_and_those_of_the_past_last() -> None:
    async def given(running: House) -> None:
        headers = {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": "90",
            "x-ratelimit-reset-requests": "30m",
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "100",
            "x-ratelimit-reset-tokens": "30m",
        }
        signal = {"provider": "openai", "status": 200, "headers": headers, "body": {}}
        await running.http.post("/v1/signals", json=signal)
        gone = {name: "1s" if "reset" in name else "1" for name in headers}
        signal = {"provider": "groq", "status": 200, "headers": gone, "body": {}}
        await running.http.post("/v1/signals", json=signal)
        running.clock.now += 60

    limits = page_of("", given).limits
    assert [(one.provider, one.limit.name, one.used_ratio, one.over) for one in limits] == [
        ("openai", "tokens", 0.9, False),
        ("openai", "requests", pytest.approx(0.1), False),
        ("groq", "tokens", 0.0, True),
    ]


def test_usage_without_a_price_and_a_store_that_fails_are_said() -> None:
    async def said() -> list[str]:
        config = "budgets: {openai: {usd: 5, period: day}}\nprices: {gpt-5: {input: 1}}\n"
        async with house(config) as running:
            await running.push({"provider": "openai", "model": "own", "input_tokens": 5})
            snapshot = await running.service.snapshot(NOON)
            fine = [notice.text for notice in notices(snapshot)]
            running.store.fails = True
            await running.push({"provider": "openai", "tokens": 5})
            snapshot = await running.service.snapshot(NOON)
            return [*fine, *(one.text for one in notices(snapshot) if one.level == "bad")]

    assert asyncio.run(said()) == [
        "1 request has no price: own.",
        "The store does not answer: nothing new is counted.",
    ]


def test_a_window_that_is_only_reported_is_neither_unused_nor_misspelt() -> None:
    async def given(running: House) -> None:
        headers = {
            "anthropic-ratelimit-unified-5h-utilization": "0.85",
            "anthropic-ratelimit-unified-5h-reset": f"{NOON + 2 * HOUR:.0f}",
            "anthropic-ratelimit-unified-5h-status": "allowed",
        }
        signal = {"provider": "anthropic", "status": 200, "headers": headers, "body": {}}
        assert (await running.http.post("/v1/signals", json=signal)).status_code == 200

    page = page_of(
        "budgets: {anthropi: 100}\nprediction: {exhausted_at: off}\n", given, sort="name"
    )
    found = {shown.view.name: shown for shown in page.scopes}
    [window] = found["anthropic"].row.budgets
    assert (window.budget.unit, window.used_ratio) == ("share", 0.85)
    assert found["anthropic"].row.condition in (Condition.HIGH, Condition.LIKELY)
    assert found["anthropic"].similar == ""
    assert found["anthropi"].row.condition is Condition.UNUSED
    assert found["anthropi"].similar == "anthropic"
