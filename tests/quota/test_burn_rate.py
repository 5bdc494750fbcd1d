"""The burn rate of the library: a day's budget, continued in a straight line."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.quota.burn_rate import KEPT_DAYS, BurnRateTracker, observe_token_usage
from exporter.quota.state_store import State, StateStore

MIDNIGHT = datetime(2026, 5, 4, tzinfo=UTC)
NEXT_MIDNIGHT = datetime(2026, 5, 5, tzinfo=UTC)
DAY = timedelta(days=1)

times_of_day = st.timedeltas(timedelta(0), DAY - timedelta.resolution)
records = st.lists(st.tuples(st.integers(0, 10**12), times_of_day), max_size=20)


def tracker(budget: int) -> BurnRateTracker:
    burn = BurnRateTracker()
    burn.set_budget("openai", budget)
    return burn


@pytest.mark.parametrize(
    ("budget", "tokens", "elapsed", "exhausted"),
    [
        (1_000_000, 500_000, timedelta(hours=12), False),  # exactly on the line
        (1_000_000, 500_001, timedelta(hours=12), True),
        (1_000_000, 500_000, timedelta(hours=12, microseconds=-1), True),
        (1_000_000, 50_000, timedelta(hours=1), True),
        (1_000_000, 2_000, timedelta(minutes=2, seconds=52), True),
        (1_000_000, 2_000, timedelta(minutes=2, seconds=53), False),
        (80_000, 1, timedelta(seconds=1), True),
        (1_000_000, 1_000_000, DAY - timedelta.resolution, True),  # spent
        (1_000_000, 999_999, DAY - timedelta.resolution, False),
        (1_000_000, 0, timedelta(0), False),
        (1_000_000, 1, timedelta(0), True),  # no time has passed: any use projects to infinity
        (3 * 2**60, 2**60, timedelta(hours=8), False),  # where floats would round
        (3 * 2**60, 2**60 + 1, timedelta(hours=8), True),
    ],
)
def test_exhausted_when_spent_or_when_the_line_ends_above_the_budget(
    budget: int, tokens: int, elapsed: timedelta, exhausted: bool
) -> None:
    answer = tracker(budget).record("openai", tokens, MIDNIGHT + elapsed)
    assert answer == ((True, NEXT_MIDNIGHT) if exhausted else (False, None))


@given(st.integers(1, 10**15), st.integers(0, 10**15), times_of_day)
def test_the_rule_is_exact(budget: int, tokens: int, elapsed: timedelta) -> None:
    share_of_day = Fraction(elapsed // timedelta.resolution, DAY // timedelta.resolution)
    expected = tokens >= budget or Fraction(tokens, budget) > share_of_day
    assert tracker(budget).record("openai", tokens, MIDNIGHT + elapsed)[0] is expected


@given(records, st.randoms(use_true_random=False))
def test_the_order_of_recording_never_changes_a_total(
    usage: list[tuple[int, timedelta]], random
) -> None:
    shuffled = random.sample(usage, len(usage))
    in_order, out_of_order = BurnRateTracker(), BurnRateTracker()
    for burn, events in ((in_order, usage), (out_of_order, shuffled)):
        for tokens, elapsed in events:
            burn.record("openai", tokens, MIDNIGHT + elapsed)
    total = sum(tokens for tokens, _ in usage)
    assert in_order.used("openai", MIDNIGHT) == total
    assert out_of_order.used("openai", MIDNIGHT) == total


@given(records.filter(bool), times_of_day, times_of_day)
def test_used_never_falls_as_now_moves_inside_a_window(
    usage: list[tuple[int, timedelta]], one: timedelta, other: timedelta
) -> None:
    burn = BurnRateTracker()
    before = 0
    for tokens, elapsed in usage:
        burn.record("openai", tokens, MIDNIGHT + elapsed)
        earlier, later = sorted((one, other))
        assert before <= burn.used("openai", MIDNIGHT + earlier)
        assert burn.used("openai", MIDNIGHT + earlier) <= burn.used("openai", MIDNIGHT + later)
        before = burn.used("openai", MIDNIGHT + later)


def test_a_new_day_starts_from_nothing() -> None:
    burn = tracker(100)
    burn.record("openai", 100, NEXT_MIDNIGHT - timedelta.resolution)
    assert burn.used("openai", NEXT_MIDNIGHT) == 0
    assert burn.record("openai", 1, NEXT_MIDNIGHT + timedelta(hours=1)) == (False, None)
    assert burn.used("openai", NEXT_MIDNIGHT) == 1


def test_the_day_is_that_of_utc_whatever_the_zone_of_now() -> None:
    burn = tracker(100)
    evening = datetime(2026, 5, 3, 20, tzinfo=timezone(timedelta(hours=-8)))
    assert burn.record("openai", 100, evening) == (True, NEXT_MIDNIGHT)
    assert burn.used("openai", MIDNIGHT) == 100


def test_late_usage_counts_in_its_own_day() -> None:
    burn = tracker(100)
    burn.record("openai", 5, MIDNIGHT + timedelta(hours=3))
    assert burn.record("openai", 100, MIDNIGHT - timedelta(seconds=1)) == (True, MIDNIGHT)
    assert burn.used("openai", MIDNIGHT) == 5
    assert burn.used("openai", MIDNIGHT - timedelta(seconds=1)) == 100


def test_a_clock_that_was_wrong_once_does_not_stop_the_count() -> None:
    burn = BurnRateTracker()
    burn.record("openai", 1, datetime(2099, 1, 1, tzinfo=UTC))
    for day in range(3 * KEPT_DAYS):
        burn.record("openai", 7, MIDNIGHT + day * DAY)
        assert burn.used("openai", MIDNIGHT + day * DAY) == 7


def test_only_the_newest_days_are_remembered() -> None:
    burn = BurnRateTracker()
    for day in range(KEPT_DAYS + 1):
        burn.record("openai", 7, MIDNIGHT + day * DAY)
    burn.record("openai", 9, MIDNIGHT - DAY)
    used = [burn.used("openai", MIDNIGHT + day * DAY) for day in range(-1, KEPT_DAYS + 1)]
    assert used == [0, 0] + [7] * KEPT_DAYS


def test_providers_are_counted_apart() -> None:
    burn = tracker(10)
    burn.record("openai", 10, MIDNIGHT)
    assert burn.used("gemini", MIDNIGHT) == 0
    assert burn.budget("gemini") == 0


def test_without_a_budget_usage_is_tracked_and_never_exhausted() -> None:
    burn = BurnRateTracker()
    assert burn.record("openai", 10**18, MIDNIGHT) == (False, None)
    assert burn.used("openai", MIDNIGHT) == 10**18


@pytest.mark.parametrize("off", [0, -1])
def test_a_budget_that_is_not_positive_turns_prediction_off(off: int) -> None:
    burn = tracker(10)
    burn.set_budget("openai", off)
    assert burn.budget("openai") == 0
    assert burn.record("openai", 100, MIDNIGHT) == (False, None)


def test_a_new_budget_judges_what_was_used_before() -> None:
    burn = tracker(1000)
    assert burn.record("openai", 10, MIDNIGHT + timedelta(hours=12)) == (False, None)
    burn.set_budget("openai", 15)
    assert burn.budget("openai") == 15
    assert burn.record("openai", 0, MIDNIGHT + timedelta(hours=12)) == (True, NEXT_MIDNIGHT)


def test_reset_drops_usage_and_keeps_budgets() -> None:
    burn = tracker(10)
    burn.record("openai", 9, MIDNIGHT)
    burn.reset()
    assert burn.used("openai", MIDNIGHT) == 0
    assert burn.budget("openai") == 10


NAIVE = MIDNIGHT.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b: b.record("", 1, MIDNIGHT), "provider: expected a name, got ''"),
        (lambda b: b.record("openai", -1, MIDNIGHT), "tokens: expected 0 or more, got -1"),
        (lambda b: b.record("openai", 1.0, MIDNIGHT), "tokens: expected an integer, got 1.0"),
        (lambda b: b.record("openai", True, MIDNIGHT), "tokens: expected an integer, got True"),
        (lambda b: b.record("openai", "1", MIDNIGHT), "tokens: expected an integer, got '1'"),
        (
            lambda b: b.record("openai", 1, NAIVE),
            "now: expected a datetime with a time zone, got datetime.datetime(2026, 5, 4, 0, 0)",
        ),
        (lambda b: b.set_budget("", 1), "provider: expected a name, got ''"),
        (lambda b: b.set_budget("openai", None), "tokens: expected an integer, got None"),
        (lambda b: b.budget(""), "provider: expected a name, got ''"),
        (lambda b: b.used("", MIDNIGHT), "provider: expected a name, got ''"),
        (
            lambda b: b.used("openai", NAIVE),
            "now: expected a datetime with a time zone, got datetime.datetime(2026, 5, 4, 0, 0)",
        ),
    ],
)
def test_bad_input_is_named_and_changes_nothing(call, message: str) -> None:
    burn = tracker(100)
    burn.record("openai", 1, MIDNIGHT)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        call(burn)
    assert str(caught.value) == message
    assert (burn.used("openai", MIDNIGHT), burn.budget("openai")) == (1, 100)


def test_observed_usage_marks_the_store_until_the_day_ends() -> None:
    burn, store = tracker(100), StateStore()
    noon = MIDNIGHT + timedelta(hours=12)
    observe_token_usage(burn, store, "openai", 50, noon)
    assert store.state("openai", noon) == (State.AVAILABLE, None)
    observe_token_usage(burn, store, "openai", 1, noon)
    assert store.state("openai", noon) == (State.QUOTA_EXHAUSTED, NEXT_MIDNIGHT)
    assert store.state("openai", NEXT_MIDNIGHT) == (State.AVAILABLE, None)


def test_a_predicted_exhaustion_replaces_what_a_provider_said() -> None:
    burn, store = tracker(100), StateStore()
    store.mark_quota_exhausted("openai", MIDNIGHT + 7 * DAY)
    observe_token_usage(burn, store, "openai", 100, MIDNIGHT)
    assert store.all_exhausted() == {"openai": NEXT_MIDNIGHT}


def test_usage_that_exhausts_nothing_leaves_the_store_alone() -> None:
    burn, store = tracker(100), StateStore()
    store.mark_quota_exhausted("openai", MIDNIGHT + 7 * DAY)
    observe_token_usage(burn, store, "openai", 0, MIDNIGHT)
    assert store.all_exhausted() == {"openai": MIDNIGHT + 7 * DAY}


class Yielding(int):
    """An integer that lets other threads run while it is added to another."""

    def __radd__(self, other: int) -> int:
        time.sleep(0)
        return other + int(self)


def test_nothing_is_lost_when_threads_record_at_once() -> None:
    burn, store = tracker(8 * 200), StateStore()

    def work(_: int) -> None:
        for _ in range(200):
            moment = NEXT_MIDNIGHT - timedelta.resolution
            observe_token_usage(burn, store, "openai", Yielding(1), moment)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert burn.used("openai", MIDNIGHT) == 8 * 200
    assert store.all_exhausted() == {"openai": NEXT_MIDNIGHT}
