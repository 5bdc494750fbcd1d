"""A provider's own count of days beside ours."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.budget import NANO
from exporter.core.daily_use import DAY_SECONDS, KEPT_DAYS, DailyUse
from exporter.core.provider_count import DELAY, CountDrift, DayCount, ProviderCounts
from exporter.core.series import Series
from exporter.core.slots import COARSE, COST, FINE_SECONDS, REQUESTS, WIDTH, Block, Counts

TODAY = 20_833
NOON = (TODAY + 0.5) * DAY_SECONDS


def counted(tokens: int, requests: int = 0, usd: float = 0.0) -> Counts:
    counts = [0] * WIDTH
    counts[0], counts[REQUESTS], counts[COST] = tokens, requests, round(usd * NANO)
    return counts


def compared(
    theirs: Mapping[int, float], ours: Mapping[int, int], now: float = NOON
) -> tuple[CountDrift, ...]:
    """Tokens by how many days ago."""
    counts = ProviderCounts()
    counts.record(
        "a",
        [DayCount(TODAY - ago, tokens) for ago, tokens in theirs.items()],
        lambda day: counted(ours[TODAY - day]),
        TODAY - 20,
        now,
    )
    return counts.drifts()["a"]


def test_a_finished_day_is_compared_once_late_reports_are_in() -> None:
    midnight = float(TODAY * DAY_SECONDS)
    theirs, ours = {2: 100.0, 1: 80.0, 0: 7.0}, {2: 100, 1: 100, 0: 9}
    (early,) = compared(theirs, ours, midnight + DELAY - 1)
    assert (early.day, early.ratio) == (TODAY - 2, 0.0)
    (late,) = compared(theirs, ours, midnight + DELAY)
    assert (late.day, late.theirs, late.ours, late.ratio) == (TODAY - 1, 80.0, 100.0, -0.2)


@pytest.mark.parametrize(
    ("theirs", "began"),
    [
        ({3: 100, 2: 100, 1: 150}, 1),
        ({3: 100, 2: 150, 1: 150}, 2),
        ({3: 150, 2: 130, 1: 150}, 3),
        ({3: 150, 2: 80, 1: 150}, 1),  # the other way round
        ({3: 150, 1: 150}, 1),  # a day that was never read
        ({2: 100, 1: 100}, None),
    ],
)
def test_since_when_is_the_first_of_the_days_that_differ_about_as_much(
    theirs: dict[int, float], began: int | None
) -> None:
    (drift,) = compared(theirs, dict.fromkeys(theirs, 100))
    assert drift.since == (None if began is None else (TODAY - began) * DAY_SECONDS)


def test_a_count_of_the_running_day_is_compared_as_it_was_read() -> None:
    counts = ProviderCounts()
    said = DayCount(TODAY, usd=5.0, running=True)
    counts.record("a", [said], lambda _: counted(10, 1, 4.0), TODAY - 1, NOON)
    (drift,) = counts.drifts()["a"]
    assert (drift.unit, drift.theirs, drift.ours, drift.ratio) == ("usd", 5.0, 4.0, 0.2)


def test_the_day_on_which_we_began_to_count_is_not_compared_nor_any_before() -> None:
    for first in (TODAY - 1, None):
        counts = ProviderCounts()
        days = [DayCount(TODAY - 2, 5.0), DayCount(TODAY - 1, 5.0)]
        counts.record("a", days, lambda _: counted(1), first, NOON)
        assert counts.drifts() == {"a": ()}


def test_who_is_no_longer_read_is_forgotten() -> None:
    counts = ProviderCounts()
    counts.record("a", [DayCount(TODAY - 1, 5.0)], lambda _: counted(1), TODAY - 9, NOON)
    counts.keep(["b"])
    assert (counts.drifts(), counts.read_at) == ({}, {})


amounts = st.integers(0, 10**12)


@given(amounts, amounts)
def test_the_ratio_is_theirs_less_ours_of_the_larger(theirs: int, ours: int) -> None:
    (drift,) = compared({1: float(theirs)}, {1: ours})
    (other,) = compared({1: float(ours)}, {1: theirs})
    assert -1 <= drift.ratio <= 1
    assert drift.ratio == -other.ratio
    assert (drift.ratio > 0) == (theirs > ours)
    assert (drift.since is None) == (theirs == ours)


def test_use_is_counted_by_provider_and_day_and_old_days_are_dropped() -> None:
    daily = DailyUse()
    slot = TODAY * DAY_SECONDS // FINE_SECONDS
    daily.add({(Series("a", "m"), slot): counted(5), (Series("a", "n"), slot): counted(6)}, NOON)
    daily.add({(Series("a", "m"), slot - 1): counted(7)}, NOON)
    assert [daily.counted("a", TODAY - ago)[0] for ago in (0, 1, 2)] == [11, 7, 0]
    assert daily.first_day("a") == TODAY - 1
    daily.add({}, NOON + KEPT_DAYS * DAY_SECONDS)
    assert daily.counted("a", TODAY) == [0] * WIDTH
    assert daily.first_day("a") == TODAY - 1


@given(st.lists(st.tuples(st.integers(0, 2 * KEPT_DAYS), st.sampled_from([0, 1, 7]))))
def test_stored_history_is_taken_up_in_any_order(stored: list[tuple[int, int]]) -> None:
    daily = DailyUse()
    for ago, tokens in stored:
        values = np.zeros(COARSE.bins, np.int64)
        values[ago] = tokens
        daily.load(Block(Series("a", "m"), COARSE, TODAY - ago, {0: values}), NOON)
    used = [ago for ago, tokens in stored if tokens]
    assert daily.first_day("a") == (TODAY - max(used) if used else None)
    for each in range(KEPT_DAYS):
        together = sum(tokens for ago, tokens in stored if ago == each)
        assert daily.counted("a", TODAY - each) == counted(together)
