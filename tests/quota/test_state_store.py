"""The states of the library: who is out, until when."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.quota.state_store import State, StateStore

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)

moments = st.builds(
    datetime.fromtimestamp,
    st.integers(946_684_800, 2_114_380_800),  # 2000 to 2036
    st.timezones(),
)


def test_a_provider_nobody_spoke_of_is_available() -> None:
    assert StateStore().state("openai", NOON) == (State.AVAILABLE, None)


def test_states_are_their_names() -> None:
    assert [str(state) for state in State] == ["available", "quota_exhausted"]


@given(moments)
def test_a_state_decays_exactly_at_retry_after(retry_after: datetime) -> None:
    store = StateStore()
    store.mark_quota_exhausted("openai", retry_after)
    at = retry_after.astimezone(UTC)
    assert store.state("openai", at - TICK) == (State.QUOTA_EXHAUSTED, at)
    assert store.state("openai", at) == (State.AVAILABLE, None)
    assert store.exhausted_at(at - TICK) == {"openai": at}
    assert store.exhausted_at(at) == {}
    assert store.all_exhausted() == {"openai": at}


@given(moments, moments)
def test_a_state_depends_on_the_instant_and_not_on_how_it_is_written(
    retry_after: datetime, now: datetime
) -> None:
    store = StateStore()
    store.mark_quota_exhausted("openai", retry_after)
    expected = retry_after.astimezone(UTC) > now.astimezone(UTC)
    assert (store.state("openai", now)[0] is State.QUOTA_EXHAUSTED) is expected
    assert ("openai" in store.exhausted_at(now)) is expected


def test_the_hour_that_clocks_show_twice_is_two_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    store = StateStore()
    store.mark_quota_exhausted("openai", second)
    assert store.state("openai", first)[0] is State.QUOTA_EXHAUSTED


def test_the_last_mark_wins_be_it_longer_or_shorter() -> None:
    store = StateStore()
    for hours in (5, 1, 3):
        store.mark_quota_exhausted("openai", NOON + timedelta(hours=hours))
    assert store.all_exhausted() == {"openai": NOON + timedelta(hours=3)}


def test_marking_available_drops_the_pending_retry() -> None:
    store = StateStore()
    store.mark_quota_exhausted("openai", NOON + timedelta(hours=1))
    store.mark_quota_exhausted("gemini", NOON + timedelta(hours=1))
    store.mark_available("openai")
    store.mark_available("never-heard-of")
    assert store.state("openai", NOON) == (State.AVAILABLE, None)
    assert store.all_exhausted() == {"gemini": NOON + timedelta(hours=1)}


def test_exhausted_until_nothing_is_available() -> None:
    store = StateStore()
    store.mark_quota_exhausted("openai", NOON)
    store.mark_quota_exhausted("openai", None)
    assert store.all_exhausted() == {}


def test_elapsed_marks_stay_visible_for_recovery_probing() -> None:
    store = StateStore()
    store.mark_quota_exhausted("openai", NOON - timedelta(days=3))
    store.mark_quota_exhausted("gemini", NOON + timedelta(days=3))
    assert set(store.all_exhausted()) == {"openai", "gemini"}
    assert set(store.exhausted_at(NOON)) == {"gemini"}


def test_changing_what_was_returned_changes_nothing() -> None:
    store = StateStore()
    store.mark_quota_exhausted("openai", NOON)
    store.all_exhausted().clear()
    store.exhausted_at(NOON - TICK).clear()
    assert store.all_exhausted() == {"openai": NOON}


NAIVE = NOON.replace(tzinfo=None)
BEFORE_TIME = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.mark_quota_exhausted("", NOON), "provider: expected a name, got ''"),
        (lambda s: s.mark_quota_exhausted("", None), "provider: expected a name, got ''"),
        (lambda s: s.mark_quota_exhausted(None, NOON), "provider: expected a name, got None"),
        (
            lambda s: s.mark_quota_exhausted("openai", NAIVE),
            "retry_after: expected a datetime with a time zone, "
            "got datetime.datetime(2026, 3, 29, 12, 0)",
        ),
        (
            lambda s: s.mark_quota_exhausted("openai", 1774785600),
            "retry_after: expected a datetime with a time zone, got 1774785600",
        ),
        (
            lambda s: s.mark_quota_exhausted("openai", BEFORE_TIME),
            "retry_after: expected a year from 1 to 9999, got datetime.datetime(1, 1, 1, 0, 0, "
            "tzinfo=datetime.timezone(datetime.timedelta(seconds=3600)))",
        ),
        (lambda s: s.mark_available(""), "provider: expected a name, got ''"),
        (lambda s: s.state("", NOON), "provider: expected a name, got ''"),
        (
            lambda s: s.state("openai", NAIVE),
            "now: expected a datetime with a time zone, got datetime.datetime(2026, 3, 29, 12, 0)",
        ),
        (
            lambda s: s.exhausted_at(NAIVE),
            "now: expected a datetime with a time zone, got datetime.datetime(2026, 3, 29, 12, 0)",
        ),
    ],
)
def test_bad_input_is_named_and_changes_nothing(call, message: str) -> None:
    store = StateStore()
    store.mark_quota_exhausted("openai", NOON)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        call(store)
    assert str(caught.value) == message
    assert store.all_exhausted() == {"openai": NOON}
