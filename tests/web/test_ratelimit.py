"""The limit on all clients together."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.web.toolkit.ratelimit import RateLimit, RateLimiter


def test_a_burst_passes_at_once_and_then_one_request_per_interval() -> None:
    limiter = RateLimiter(RateLimit(interval=2.0, burst=3), now=100.0)
    assert [limiter.allow(100.0) for _ in range(4)] == [True, True, True, False]
    assert [limiter.allow(at) for at in (101.0, 102.0, 103.0, 104.0)] == [False, True, False, True]


def test_a_clock_set_back_delays_the_next_request_by_no_more_than_an_interval() -> None:
    limiter = RateLimiter(RateLimit(interval=2.0, burst=1), now=5000.0)
    assert [limiter.allow(at) for at in (5000.0, 100.0, 102.0)] == [True, False, True]


@given(
    st.integers(1, 20),
    st.lists(st.integers(0, 8), max_size=200).map(lambda steps: [step / 4 for step in steps]),
)
def test_no_stretch_of_time_lets_more_pass_than_its_share_and_a_burst(
    burst: int, steps: list[float]
) -> None:
    limiter = RateLimiter(RateLimit(interval=1.0, burst=burst), now=0.0)
    now, passed = 0.0, []
    for step in steps:
        now += step
        if limiter.allow(now):
            passed.append(now)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - start)
