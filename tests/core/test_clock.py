"""Jumps of the wall clock."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.core.clock import TOLERANCE, ClockWatch

NOW = 1_800_000_000.0
passing = st.floats(0, 1e7)


@given(st.lists(st.tuples(passing, st.floats(-TOLERANCE * 0.99, TOLERANCE * 0.99))))
def test_a_clock_that_runs_a_little_off_is_not_set(steps: list[tuple[float, float]]) -> None:
    wall, steady = NOW, 0.0
    watch = ClockWatch(wall, steady)
    for seconds, off in steps:
        wall, steady = wall + seconds + off, steady + seconds
        assert watch.observe(wall, steady) == 0


@given(
    passing,
    st.floats(TOLERANCE * 1.01, 1e9) | st.floats(-1e9, -TOLERANCE * 1.01),
    passing,
)
def test_a_jump_is_told_once_and_by_how_much(before: float, jump: float, after: float) -> None:
    watch = ClockWatch(NOW, 0.0)
    told = watch.observe(NOW + before + jump, before)
    assert abs(told - jump) < 1e-3
    assert watch.observe(NOW + before + jump + after, before + after) == 0
