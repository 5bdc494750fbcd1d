"""Time that passed for sure."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.storage.trusted_time import CATCH_UP, TrustedTime

HOUR = 3600.0
NOW = 1_790_000_000.0


def test_it_is_the_clocks_time_while_time_passes_under_our_eyes() -> None:
    time = TrustedTime(NOW, NOW)
    for hour in range(1, 100):
        assert time.observe(NOW + hour * HOUR) == NOW + hour * HOUR


def test_after_a_pause_it_catches_up() -> None:
    time, begin = TrustedTime(NOW, NOW + 30 * 24 * HOUR), NOW + 30 * 24 * HOUR
    seen = [time.observe(begin + hour * HOUR) for hour in range(1, 30 * 24)]
    assert seen[0] == NOW + CATCH_UP * HOUR
    assert seen[-1] == begin + (30 * 24 - 1) * HOUR


@given(st.lists(st.floats(-1e8, 1e8) | st.floats(0, 7200), max_size=30))
def test_it_is_never_later_than_the_clock_says_nor_than_time_can_have_passed(
    steps: list[float],
) -> None:
    now, time, passed = NOW, TrustedTime(NOW, NOW), 0.0
    for step in steps:
        now += step
        passed += step if 0 < step <= 7200 else 0
        assert time.observe(now) <= min(now, NOW + CATCH_UP * passed + 1e-3)
