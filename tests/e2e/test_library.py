"""The library, as a program imports it."""

from datetime import UTC, datetime, timedelta

from exporter import BurnRateTracker, State, StateStore, observe_token_usage


def test_a_program_can_keep_its_own_budget() -> None:
    noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    midnight = datetime(2026, 3, 5, tzinfo=UTC)
    burn, store = BurnRateTracker(), StateStore()
    burn.set_budget("openai", 1000)
    observe_token_usage(burn, store, "openai", 400, noon)
    assert store.state("openai", noon) == (State.AVAILABLE, None)
    observe_token_usage(burn, store, "openai", 200, noon)
    assert (burn.used("openai", noon), burn.budget("openai")) == (600, 1000)
    assert store.state("openai", noon) == (State.QUOTA_EXHAUSTED, midnight)
    assert store.exhausted_at(noon) == {"openai": midnight}
    assert store.state("openai", midnight) == (State.AVAILABLE, None)
    assert store.all_exhausted() == {"openai": midnight}
    assert store.exhausted_at(midnight + timedelta(seconds=1)) == {}
    assert str(State.QUOTA_EXHAUSTED) == "quota_exhausted"
