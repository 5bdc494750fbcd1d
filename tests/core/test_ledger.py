"""Used tokens, held against a plain list of events."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.core.budget import Budget, BudgetUnit, Per, Quota, Weights
from exporter.core.grid import Grid
from exporter.core.ledger import Ledger
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.slots import (
    AHEAD_SECONDS,
    COARSE_SECONDS,
    FINE_HORIZON_SECONDS,
    FINE_SECONDS,
    Increments,
    blocks_of,
    merge,
)
from exporter.core.windows import Calendar, Period, Rolling, Unit

HOUR = 3600
DAY = 86_400
NOW = 1_761_400_003  # the night in which Europe's clocks are set back in 2025
RETENTION = 35 * DAY

DAILY = Calendar(Unit.DAY, ZoneInfo("UTC"))
CHEAP_CACHE: Weights = (1.0, 0.25, 1.5, 4.0, 4.0, 1.0)  # exact in binary
BUDGETS = {
    "openai": (
        Budget(1, DAILY),
        Budget(1, DAILY, CHEAP_CACHE, model="gpt-*|o3"),
        Budget(1, DAILY, unit=BudgetUnit.USD, consumer="batch-*"),
        Budget(1, DAILY, unit=BudgetUnit.REQUESTS, per=frozenset([Per.MODEL])),
        Budget(1, DAILY, unit=BudgetUnit.REQUESTS, model="o3"),
        Budget(1, DAILY, unit=BudgetUnit.USD, per=frozenset([Per.CONSUMER])),
    ),
    "gemini": (Budget(1, DAILY, CHEAP_CACHE),),
    "both": (Budget(1, DAILY, unit=BudgetUnit.REQUESTS, pool=("openai", "gemini")),),
}
SERIES = [
    Series(*names)
    for names in (
        ("openai", "gpt-5", "batch-1"),
        ("openai", "gpt-5", "web"),
        ("openai", "o3", ""),
        ("openai", "", "batch-2"),
        ("gemini", "pro", "web"),
        ("nobody", "gpt-5", "web"),
    )
]
ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Asia/Kolkata")
]


class Event(NamedTuple):
    series: Series
    timestamp: float
    counts: tuple[int, ...]  # as the store has them


def increments(events: Iterable[Event]) -> Increments:
    summed: Increments = {}
    for event in events:
        merge(summed, {(event.series, int(event.timestamp // FINE_SECONDS)): [*event.counts]})
    return summed


def amount(quota: Quota, event: Event) -> float:
    """What an event adds to a quota, told from the scope as a person would read it."""
    scope, budget = quota
    provider, model, consumer = event.series
    of_provider = provider in (budget.pool or (scope.provider,))
    of_model = scope.model in ("", model) or (
        scope.model == "gpt-*|o3" and (model.startswith("gpt-") or model == "o3")
    )
    of_consumer = scope.consumer in ("", consumer) or (
        scope.consumer == "batch-*" and consumer.startswith("batch-")
    )
    if not (of_provider and of_model and of_consumer):
        return 0.0
    if budget.unit is BudgetUnit.TOKENS:
        return sum(map(float.__mul__, budget.weights, map(float, event.counts)))
    return float(event.counts[6 if budget.unit is BudgetUnit.REQUESTS else 7])


def total(events: Iterable[Event], quota: Quota, begin: float, end: float) -> float:
    return sum(amount(quota, event) for event in events if begin <= event.timestamp < end)


def used(ledger: Ledger, quota: Quota, period: Period, now: float) -> float:
    return float(ledger.used(np.array([ledger.index.row(quota)]), period, now)[1][0])


def filled(events: list[Event], now: float) -> Ledger:
    ledger = Ledger(BUDGETS, RETENTION, now)
    ledger.add(increments(events))
    return ledger


calendars = st.builds(Calendar, st.sampled_from(Unit), st.sampled_from(ZONES))
rollings = st.integers(10, 30 * DAY).map(Rolling)
budgets = st.sampled_from([1, 7, 14, 1000, 1007, 10**9]) | st.integers(1, 10**10)
counts = st.tuples(*[st.sampled_from([0, 0, 1, 7, 1000, 10**9])] * 8)


def events_at(now: float, oldest: float = 34 * DAY) -> st.SearchStrategy[list[Event]]:
    """Events that a store may hold at `now`, dense where windows are short."""
    ages = st.integers(-AHEAD_SECONDS, 120) | st.integers(0, 5 * HOUR) | st.integers(0, int(oldest))
    event = st.builds(
        lambda series, age, counts: Event(series, now - age, counts),
        st.sampled_from(SERIES),
        ages,
        counts,
    )
    return st.lists(event, max_size=30)


def assert_alike(ledger: Ledger, other: Ledger, period: Period) -> None:
    """The same quotas, in whichever order they came up, of the same use and history."""
    assert set(ledger.index.quotas) == set(other.index.quotas)
    histories = ledger.history(), other.history()
    for quota in ledger.index.quotas:
        assert used(ledger, quota, period, NOW) == used(other, quota, period, NOW)
        rows = ledger.index.row(quota), other.index.row(quota)
        one, two = (held[0][row] for held, row in zip(histories, rows, strict=True))
        both = min(len(one), len(two))  # a block reaches to the end of its day
        np.testing.assert_array_equal(one[:both], two[:both])
        assert one[-1] == two[-1]
        assert histories[0][2][rows[0]] == histories[1][2][rows[1]]


def assert_used(ledger: Ledger, events: list[Event], period: Period, now: float) -> None:
    """Held against the list: exact for calendar windows, late by a slot at most for rolling."""
    for quota in ledger.index.quotas:
        found = used(ledger, quota, period, now)
        if isinstance(period, Calendar):
            assert found == total(events, quota, *period.window(now))
        else:
            slot = FINE_SECONDS if period.seconds <= FINE_HORIZON_SECONDS else COARSE_SECONDS
            begin = now - period.seconds
            ahead = now + AHEAD_SECONDS
            assert total(events, quota, begin, ahead + 1e-6) <= found
            assert found <= total(events, quota, begin - slot, ahead + slot)


@given(events=events_at(NOW), period=calendars | rollings)
def test_use_in_any_window_is_the_sum_of_its_events(events: list[Event], period: Period) -> None:
    assert_used(filled(events, NOW), events, period, NOW)


@given(events=events_at(NOW), period=calendars | rollings, order=st.randoms())
def test_the_order_of_events_and_how_they_come_together_change_nothing(
    events: list[Event], period: Period, order: Random
) -> None:
    ledger = Ledger(BUDGETS, RETENTION, NOW)
    shuffled = events.copy()
    order.shuffle(shuffled)
    for event in shuffled:
        ledger.add(increments([event]))
    together = filled(events, NOW)
    assert_alike(ledger, together, period)


@given(
    data=st.data(),
    steps=st.lists(
        st.sampled_from([-HOUR, -7, 0, 3, 10, 60, 17 * 60, 5 * HOUR, DAY, 3 * DAY, 20 * DAY]),
        min_size=1,
        max_size=12,
    ),
    period=calendars | st.integers(10, 5 * HOUR).map(Rolling) | rollings,
)
@settings(deadline=None)
def test_use_stays_right_while_time_passes_jumps_and_goes_back(
    data: st.DataObject, steps: list[int], period: Period
) -> None:
    ledger, events, now, latest = Ledger(BUDGETS, RETENTION, NOW), [], NOW, NOW
    for step in steps:
        now = max(now + step, latest - HOUR)
        latest = max(now, latest)
        ledger.advance(now)
        more = data.draw(events_at(now, oldest=33 * DAY))
        ledger.add(increments(more))
        events += more
        assert_used(ledger, events, period, now)
        edges, origin, _ = ledger.history()
        for quota in ledger.index.quotas:
            row = ledger.index.row(quota)
            assert edges[row, 0] == 0
            assert edges[row, -1] == total(events, quota, origin, latest + DAY)


def test_a_clock_that_goes_back_an_hour_and_ahead_again_loses_nothing() -> None:
    ledger, period = Ledger(BUDGETS, RETENTION, NOW), Rolling(5 * HOUR)
    event = Event(SERIES[0], NOW + AHEAD_SECONDS, (1, 0, 0, 0, 0, 0, 1, 0))
    ledger.add(increments([event]))
    for now in (NOW - HOUR, NOW):
        ledger.advance(now)
        assert_used(ledger, [event], period, now)


@given(events=events_at(NOW), order=st.randoms(), period=calendars)
@settings(deadline=None)
def test_stored_history_answers_every_quota_as_if_it_had_always_been_there(
    events: list[Event], order: Random, period: Period
) -> None:
    loaded = Ledger(BUDGETS, RETENTION, NOW)
    blocks = list(blocks_of(increments(events), NOW))
    order.shuffle(blocks)
    loaded.load(blocks)
    assert_alike(loaded, filled(events, NOW), period)
    assert_used(loaded, events, Rolling(5 * HOUR), NOW)


@given(events=events_at(NOW), period=calendars)
def test_the_sum_over_models_and_over_consumers_is_the_provider(
    events: list[Event], period: Period
) -> None:
    named = [event for event in events if all(event.series)]
    budgets = {
        "openai": tuple(
            Budget(1, DAILY, unit=unit, per=frozenset(per))
            for unit in (BudgetUnit.TOKENS, BudgetUnit.REQUESTS, BudgetUnit.USD)
            for per in ([], [Per.MODEL], [Per.CONSUMER])
        )
    }
    ledger = Ledger(budgets, RETENTION, NOW)
    ledger.add(increments(named))
    for unit in (BudgetUnit.TOKENS, BudgetUnit.REQUESTS, BudgetUnit.USD):
        sums = {
            per: sum(
                used(ledger, quota, period, NOW)
                for quota in ledger.index.quotas
                if quota.budget.unit is unit and quota.budget.per == frozenset(per)
            )
            for per in ((), (Per.MODEL,), (Per.CONSUMER,))
        }
        assert len(set(sums.values())) == 1


def test_every_model_seen_has_a_quota_but_those_named_and_what_is_unknown_or_folded() -> None:
    ledger = Ledger(BUDGETS, RETENTION, NOW)
    for series in (*SERIES, Series("openai", "other", "other")):
        ledger.members(series)
    found = {(quota.scope, quota.budget.unit) for quota in ledger.index.quotas if quota.budget.per}
    assert found == {
        (Scope("openai", "gpt-5"), BudgetUnit.REQUESTS),
        (Scope("openai", "", "web"), BudgetUnit.USD),
    }


def test_a_pool_is_out_with_its_name_and_every_provider_of_it() -> None:
    ledger = Ledger(BUDGETS, RETENTION, NOW)
    (pool,) = (quota for quota in ledger.index.quotas if quota.budget.pool)
    assert pool.scopes == (Scope("both"), Scope("openai"), Scope("gemini"))
    assert ledger.index.pooled(["gemini"]) == {"both", "gemini", "openai"}
    assert ledger.index.pooled(["nobody"]) == {"nobody"}


@given(events=events_at(NOW - AHEAD_SECONDS), seconds=rollings, budget=budgets)
@example([Event(SERIES[0], NOW - 900, (7,) + (0,) * 7)], Rolling(HOUR), 7)
def test_a_rolling_window_is_freed_at_the_first_moment_below_budget(
    events: list[Event], seconds: Rolling, budget: int
) -> None:
    ledger = filled(events, NOW)
    for quota in ledger.index.quotas:
        freed_at = ledger.freed_at(ledger.index.row(quota), seconds.seconds, budget, NOW)
        if used(ledger, quota, seconds, NOW) < budget:
            assert freed_at <= NOW
        else:
            assert freed_at > NOW
            assert used(ledger, quota, seconds, freed_at) < budget
            assert used(ledger, quota, seconds, freed_at - 0.001) >= budget


@given(events=events_at(NOW), seconds=st.sampled_from([600, HOUR, 6 * HOUR]))
def test_the_rate_is_use_over_time(events: list[Event], seconds: int) -> None:
    ledger = filled(events, NOW)
    edge = (NOW // FINE_SECONDS + 1) * FINE_SECONDS
    for quota in ledger.index.quotas:
        expected = total(events, quota, edge - seconds, edge) / seconds
        assert ledger.rate(np.array([ledger.index.row(quota)]), seconds, NOW)[0] == pytest.approx(
            expected
        )


@given(events=events_at(NOW))
def test_the_history_holds_every_bin_and_the_first_use(events: list[Event]) -> None:
    ledger = filled(events, NOW)
    edges, origin, since = ledger.history()
    for quota in ledger.index.quotas:
        row = ledger.index.row(quota)
        bins = np.zeros(edges.shape[1] - 1)
        first = np.inf
        for event in events:
            if cost := amount(quota, event):
                index = int((event.timestamp - origin) // COARSE_SECONDS)
                bins[index] += cost
                first = min(first, origin + index * COARSE_SECONDS)
        np.testing.assert_array_equal(np.diff(edges[row]), bins)
        assert since[row] == first


def test_what_is_older_than_the_retention_is_forgotten() -> None:
    events = [Event(SERIES[0], NOW - age * DAY, (5, 0, 0, 0, 0, 0, 1, 0)) for age in (0, 30, 40)]
    ledger = filled(events, NOW)
    assert ledger.history()[0][0, -1] == 10
    ledger.advance(NOW + 50 * DAY)
    assert ledger.history()[0][0, -1] == 0
    assert ledger.history()[2][0] == ledger.history()[1]


def test_an_event_of_a_provider_without_budget_is_no_matter() -> None:
    ledger = filled([Event(SERIES[-1], NOW, (1,) * 8)], NOW)
    assert not ledger.history()[0].any()


def test_a_grid_that_grows_keeps_its_sums() -> None:
    grid = Grid(FINE_SECONDS, HOUR, NOW)
    grid.reserve(1)
    slot = NOW // FINE_SECONDS
    grid.add(0, slot, 7.0)
    grid.reserve(5)
    grid.add(4, slot, 2.0)
    assert grid.total(np.arange(5), slot, slot + 1).tolist() == [7, 0, 0, 0, 2]


def test_another_amount_counts_the_same_and_another_scope_does_not() -> None:
    each = Budget(5, DAILY, per=frozenset({Per.MODEL}))
    ledger = Ledger({"openai": (each,)}, RETENTION, NOW)
    more = replace(each, amount=9, labels={"team": "ml"}, reserve=0.5, silenced_until=1.0)
    assert ledger.index.serves({"openai": (more,)})
    assert not ledger.index.serves({"openai": (replace(each, model="gpt-*"),)})
    assert not ledger.index.serves({"openai": (replace(each, unit=BudgetUnit.USD),)})
