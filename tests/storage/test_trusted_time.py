"""Time that passed for sure."""

import math

from hypothesis import given
from hypothesis import strategies as st

from exporter.storage.trusted_time import TrustedTime

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 1_790_000_000.0


def test_it_is_the_clocks_time_while_time_passes_under_our_eyes() -> None:
    time = TrustedTime(NOW, NOW)
    for hour in range(1, 100):
        assert time.observe(NOW + hour * HOUR) == NOW + hour * HOUR


def test_a_pause_is_believed_after_a_day() -> None:
    begin = NOW + 30 * DAY
    time = TrustedTime(NOW, begin)
    seen = [time.observe(begin + hour * HOUR) for hour in range(1, 25)]
    assert seen[:-1] == [NOW + hour * HOUR for hour in range(1, 24)]
    assert seen[-1] == begin + DAY


@given(st.lists(st.floats(-1e8, 1e8) | st.floats(0, HOUR), max_size=30))
def test_it_is_never_later_than_the_clock_says_nor_on_the_first_day_than_time_passed(
    steps: list[float],
) -> None:
    now, time, passed = NOW, TrustedTime(NOW, NOW), 0.0
    for step in steps:
        now += step
        passed += step if 0 < step <= 2 * HOUR else 0
        assert time.observe(now) <= now
        assert time.at <= (math.inf if passed >= DAY else NOW + passed + 1e-3)
