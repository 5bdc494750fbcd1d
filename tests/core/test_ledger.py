"""Used tokens, held against a plain list of events."""

from collections.abc import Iterable
from random import Random
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.core.budget import PLAIN, Weights
from exporter.core.grid import Grid
from exporter.core.ledger import Ledger
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

CHEAP_CACHE: Weights = (1.0, 0.25, 1.5, 4.0, 4.0, 1.0)  # exact in binary
SERIES = [("openai", PLAIN), ("openai", CHEAP_CACHE), ("gemini", CHEAP_CACHE)]
ZONES = [
    ZoneInfo(name)
    for name in ("UTC", "Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Asia/Kolkata")
]


class Event(NamedTuple):
    provider: str
    timestamp: float
    counts: tuple[int, ...]

    def cost(self, weights: Weights) -> float:
        return sum(map(float.__mul__, weights, map(float, self.counts)))


def increments(events: Iterable[Event]) -> Increments:
    summed: Increments = {}
    for event in events:
        slot = int(event.timestamp // FINE_SECONDS)
        merge(summed, {(Series(event.provider, "model"), slot): [*event.counts, 1, 0]})
    return summed


def total(events: Iterable[Event], series: tuple[str, Weights], begin: float, end: float) -> float:
    provider, weights = series
    return sum(
        event.cost(weights)
        for event in events
        if event.provider == provider and begin <= event.timestamp < end
    )


def used(ledger: Ledger, series: tuple[str, Weights], period: Period, now: float) -> float:
    return float(ledger.used(np.array([ledger.row(*series)]), period, now)[1][0])


def filled(events: list[Event], now: float) -> Ledger:
    ledger = Ledger(SERIES, RETENTION, now)
    ledger.add(increments(events))
    return ledger


calendars = st.builds(Calendar, st.sampled_from(Unit), st.sampled_from(ZONES))
rollings = st.integers(10, 30 * DAY).map(Rolling)
budgets = st.sampled_from([1, 7, 14, 1000, 1007, 10**9]) | st.integers(1, 10**10)
counts = st.tuples(*[st.sampled_from([0, 0, 1, 7, 1000, 10**9])] * 6)


def events_at(now: float, oldest: float = 34 * DAY) -> st.SearchStrategy[list[Event]]:
    """Events that a store may hold at `now`, dense where windows are short."""
    ages = st.integers(-AHEAD_SECONDS, 120) | st.integers(0, 5 * HOUR) | st.integers(0, int(oldest))
    event = st.builds(
        lambda provider, age, counts: Event(provider, now - age, counts),
        st.sampled_from(["openai", "gemini", "without-budget"]),
        ages,
        counts,
    )
    return st.lists(event, max_size=30)


def assert_used(ledger: Ledger, events: list[Event], period: Period, now: float) -> None:
    """Held against the list: exact for calendar windows, late by a slot at most for rolling."""
    for series in SERIES:
        found = used(ledger, series, period, now)
        if isinstance(period, Calendar):
            assert found == total(events, series, *period.window(now))
        else:
            slot = FINE_SECONDS if period.seconds <= FINE_HORIZON_SECONDS else COARSE_SECONDS
            begin = now - period.seconds
            assert total(events, series, begin, now + 1e-6) <= found
            assert found <= total(events, series, begin - slot, now + slot)


@given(events=events_at(NOW), period=calendars | rollings)
def test_use_in_any_window_is_the_sum_of_its_events(events: list[Event], period: Period) -> None:
    assert_used(filled(events, NOW), events, period, NOW)


@given(events=events_at(NOW), period=calendars | rollings, order=st.randoms())
def test_the_order_of_events_and_how_they_come_together_change_nothing(
    events: list[Event], period: Period, order: Random
) -> None:
    ledger = Ledger(SERIES, RETENTION, NOW)
    shuffled = events.copy()
    order.shuffle(shuffled)
    for event in shuffled:
        ledger.add(increments([event]))
    together = filled(events, NOW)
    for series in SERIES:
        assert used(ledger, series, period, NOW) == used(together, series, period, NOW)
    for one, other in zip(ledger.history(), together.history(), strict=True):
        np.testing.assert_array_equal(one, other)


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
    ledger, events, now, latest = Ledger(SERIES, RETENTION, NOW), [], NOW, NOW
    for step in steps:
        now = max(now + step, latest - HOUR)
        latest = max(now, latest)
        ledger.advance(now)
        more = data.draw(events_at(now, oldest=33 * DAY))
        ledger.add(increments(more))
        events += more
        assert_used(ledger, events, period, now)
        edges, origin, _ = ledger.history()
        for row, series in enumerate(SERIES):
            assert edges[row, 0] == 0
            assert edges[row, -1] == total(events, series, origin, latest + DAY)


@given(events=events_at(NOW), order=st.randoms(), models=st.integers(1, 3))
@settings(deadline=None)
def test_loading_stored_blocks_of_any_series_and_order_equals_adding(
    events: list[Event], order: Random, models: int
) -> None:
    loaded, added = Ledger(SERIES, RETENTION, NOW), filled(events, NOW)
    blocks = []
    for model in range(models):
        of_model = increments(events[model::models])
        blocks += [
            block._replace(series=Series(block.series.provider, str(model)))
            for block in blocks_of(of_model, NOW)
        ]
    order.shuffle(blocks)
    loaded.load(blocks)
    for period in (Rolling(5 * HOUR), Rolling(7 * DAY)):
        for series in SERIES:
            assert used(loaded, series, period, NOW) == used(added, series, period, NOW)
    assert_used(loaded, events, Rolling(5 * HOUR), NOW)


@given(events=events_at(NOW - AHEAD_SECONDS), seconds=rollings, budget=budgets)
@example([Event("openai", NOW - 900, (7,) + (0,) * 5)], Rolling(HOUR), 7)
def test_a_rolling_window_is_freed_at_the_first_moment_below_budget(
    events: list[Event], seconds: Rolling, budget: int
) -> None:
    ledger = filled(events, NOW)
    for series in SERIES:
        freed_at = ledger.freed_at(ledger.row(*series), seconds.seconds, budget, NOW)
        if used(ledger, series, seconds, NOW) < budget:
            assert freed_at <= NOW
        else:
            assert freed_at > NOW
            assert used(ledger, series, seconds, freed_at) < budget
            assert used(ledger, series, seconds, freed_at - 0.001) >= budget


@given(events=events_at(NOW), seconds=st.sampled_from([600, HOUR, 6 * HOUR]))
def test_the_rate_is_use_over_time(events: list[Event], seconds: int) -> None:
    ledger = filled(events, NOW)
    edge = (NOW // FINE_SECONDS + 1) * FINE_SECONDS
    for row, series in enumerate(SERIES):
        expected = total(events, series, edge - seconds, edge) / seconds
        assert ledger.rate(np.array([row]), seconds, NOW)[0] == pytest.approx(expected)


@given(events=events_at(NOW))
def test_the_history_holds_every_bin_and_the_first_use(events: list[Event]) -> None:
    ledger = filled(events, NOW)
    edges, origin, since = ledger.history()
    for row, series in enumerate(SERIES):
        bins = np.zeros(edges.shape[1] - 1)
        first = np.inf
        for event in events:
            if event.provider == series[0] and (cost := event.cost(series[1])):
                index = int((event.timestamp - origin) // COARSE_SECONDS)
                bins[index] += cost
                first = min(first, origin + index * COARSE_SECONDS)
        np.testing.assert_array_equal(np.diff(edges[row]), bins)
        assert since[row] == first


def test_what_is_older_than_the_retention_is_forgotten() -> None:
    events = [Event("openai", NOW - age * DAY, (5, 0, 0, 0, 0, 0)) for age in (0, 30, 40)]
    ledger = filled(events, NOW)
    assert ledger.history()[0][0, -1] == 10
    ledger.advance(NOW + 50 * DAY)
    assert ledger.history()[0][0, -1] == 0
    assert ledger.history()[2][0] == ledger.history()[1]


def test_an_event_of_a_provider_without_budget_is_no_matter() -> None:
    ledger = filled([Event("nobody", NOW, (1,) * 6)], NOW)
    assert not ledger.history()[0].any()


def test_a_grid_that_grows_keeps_its_sums() -> None:
    grid = Grid(FINE_SECONDS, HOUR, NOW)
    grid.reserve(1)
    slot = NOW // FINE_SECONDS
    grid.add(0, slot, 7.0)
    grid.reserve(5)
    grid.add(4, slot, 2.0)
    assert grid.total(np.arange(5), slot, slot + 1).tolist() == [7, 0, 0, 0, 2]
