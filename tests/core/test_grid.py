"""Sums on a grid while the clock is set either way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.grid import Grid
from exporter.core.slots import AHEAD_SECONDS

HOUR = 3600
DAY = 24 * HOUR
NOW = 1_790_000_000
WIDTH = 10
HORIZON = 6 * HOUR


def grid(now: float = NOW) -> Grid:
    made = Grid(WIDTH, HORIZON, now)
    made.reserve(1)
    return made


def used(some: Grid, since: float, until: float) -> float:
    return float(some.total(np.array([0]), int(since // WIDTH), int(until // WIDTH))[0])


@pytest.mark.parametrize("jump", [-400 * DAY, -DAY, -HOUR, -1, 1, HOUR, DAY, 400 * DAY])
def test_after_the_clock_was_set_counting_is_right_at_once(jump: float) -> None:
    some = grid()
    some.add(0, NOW // WIDTH, 5.0)
    later = NOW + jump
    some.advance(later)
    some.add(0, int(later // WIDTH), 7.0)
    some.add(0, int((later - 5 * HOUR) // WIDTH), 11.0)
    recent = 5.0 if abs(jump) <= 1 else 0.0
    assert used(some, later - 60, later + 60) == 7.0 + recent
    assert used(some, later - 5 * HOUR - 60, later - 4 * HOUR) == 11.0


def test_a_clock_set_back_leaves_what_lies_within_the_horizon() -> None:
    some = grid()
    some.add(0, (NOW - 2 * HOUR) // WIDTH, 5.0)
    some.advance(NOW - HOUR)
    assert used(some, NOW - 3 * HOUR, NOW - HOUR) == 5.0


def test_what_another_clock_counted_far_ahead_counts_now() -> None:
    some = grid()
    some.add(0, (NOW + 2 * AHEAD_SECONDS) // WIDTH, 5.0)
    assert used(some, NOW - HOUR, NOW + DAY) == 5.0


steps = st.one_of(
    st.floats(0, 600), st.sampled_from([-400.0 * DAY, -DAY, -HOUR, -30.0, HOUR, DAY, 400.0 * DAY])
)


def test_what_was_counted_while_the_clock_was_ahead_is_there_when_time_comes_to_it() -> None:
    some = Grid(300, 35 * DAY, NOW + DAY)
    some.reserve(1)
    some.add(0, (NOW + DAY) // 300, 5.0)
    some.advance(NOW)
    again = Grid(300, 35 * DAY, NOW)  # as after a restart
    again.reserve(1)
    again.fill(np.array([0]), (NOW + DAY) // 300, np.array([[5.0]]))
    again.accumulate()
    for one in (some, again):
        one.advance(NOW + DAY + 60)
        rows, slot = np.array([0]), NOW // 300
        assert one.total(rows, slot, slot + DAY // 300 + 1).tolist() == [5.0]


@given(st.lists(st.tuples(steps, st.floats(0, 5 * HOUR)), min_size=1, max_size=40))
@settings(deadline=None)
def test_a_window_never_shows_less_than_was_counted_in_it_since_the_clock_was_set(
    moves: list[tuple[float, float]],
) -> None:
    some, now = grid(), float(NOW)
    since: list[float] = []  # moments of what was counted and is to be seen
    for step, age in moves:
        now += step
        some.advance(now)
        if not 0 <= step <= HOUR:
            since = []
        moment = now - age
        some.add(0, int(moment // WIDTH), 1.0)
        since.append(moment)
        first = int((now - 5.5 * HOUR) // WIDTH)
        expected = sum(first <= int(at // WIDTH) for at in since)
        assert some.total(np.array([0]), first, int(now // WIDTH) + 1)[0] >= expected
