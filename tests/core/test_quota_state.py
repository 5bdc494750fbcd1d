"""The quota state machine of one provider."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.quota_state import IN_FLIGHT, QuotaState, Reason, State, View, transition

NOW = 1_800_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR

moments = st.floats(min_value=NOW, max_value=NOW + 40 * DAY, allow_nan=False)
reasons = st.sampled_from(Reason)
causes = st.tuples(reasons, moments)
seconds = st.floats(min_value=0.001, max_value=40 * DAY)


KINDS_OF_WORDS = [
    *("cause", "success", "budget", "predict", "unlikely", "operator", "slow", "forget")
]


def standing_of(causes: list[tuple[Reason, float]]) -> QuotaState:
    standing = QuotaState()
    for reason, retry_at in causes:
        standing = standing.marked(reason, retry_at, NOW)
    return standing


@st.composite
def states(draw: st.DrawFn) -> QuotaState:
    """Any standing that a few observations can lead to."""
    standing = QuotaState()
    for _ in range(draw(st.integers(0, 8))):
        at = draw(moments)
        match draw(st.sampled_from(KINDS_OF_WORDS)):
            case "cause":
                standing = standing.marked(draw(reasons), at + draw(seconds), at)
            case "success":
                standing = standing.succeeded(at)
            case "budget":
                standing = standing.with_budget(draw(st.none() | moments), at)
            case "predict":
                standing = standing.with_prediction(draw(moments), at)
            case "unlikely":
                standing = standing.without_prediction(at)
            case "operator":
                standing = standing.available(at)
            case "slow":
                standing = standing.throttled(at + draw(seconds), at)
            case "forget":
                standing = standing.forgetting(at)
    return standing


def test_a_provider_nobody_spoke_of_is_available() -> None:
    assert QuotaState().state(NOW) == View(State.AVAILABLE)
    assert QuotaState().pending_since(NOW) is None


@given(reason=reasons, after=seconds)
def test_a_cause_ends_exactly_at_its_retry_at(reason: Reason, after: float) -> None:
    retry_at = NOW + after
    standing = QuotaState().marked(reason, retry_at, NOW, "said so")
    before = NOW + after / 2
    assert standing.state(before) == View(State.QUOTA_EXHAUSTED, reason, retry_at, "said so")
    assert standing.pending_since(before) is None
    assert standing.state(retry_at) == View(State.AVAILABLE)
    assert standing.pending_since(retry_at) == retry_at


@given(st.lists(causes, max_size=4, unique_by=lambda cause: cause[0]), moments, st.randoms())
def test_the_order_of_independent_causes_does_not_matter(causes, now, random) -> None:
    shuffled = random.sample(causes, len(causes))
    one, other = standing_of(causes), standing_of(shuffled)
    assert one.state(now) == other.state(now)
    assert one.pending_since(now) == other.pending_since(now)


@given(st.lists(st.tuples(moments, seconds), min_size=1, max_size=5), moments)
def test_of_several_refusals_by_the_provider_the_latest_reset_counts(refusals, now) -> None:
    last = max(at + wait for at, wait in refusals)
    standing = QuotaState()
    for at, wait in sorted(refusals):
        standing = standing.marked(Reason.PROVIDER, at + wait, at)
    exhausted = standing.state(now).state is State.QUOTA_EXHAUSTED
    assert exhausted == (now < last)


def test_an_operators_last_word_replaces_the_one_before() -> None:
    standing = QuotaState().marked(Reason.OPERATOR, NOW + DAY, NOW)
    standing = standing.marked(Reason.OPERATOR, NOW + HOUR, NOW + 1)
    assert standing.state(NOW + 2).retry_at == NOW + HOUR


@given(states(), moments, moments)
def test_a_prediction_never_changes_what_stronger_evidence_says(standing, retry_at, now) -> None:
    before = standing.state(now)
    after = standing.with_prediction(retry_at, now).state(now)
    if before.reason not in (None, Reason.PREDICTED):
        assert after == before


def test_a_prediction_neither_shortens_nor_lengthens_a_providers_reset() -> None:
    week = QuotaState().marked(Reason.PROVIDER, NOW + 7 * DAY, NOW)
    assert week.with_prediction(NOW + HOUR, NOW).state(NOW).retry_at == NOW + 7 * DAY
    minute = QuotaState().marked(Reason.PROVIDER, NOW + 60, NOW)
    assert minute.with_prediction(NOW + DAY, NOW).state(NOW).retry_at == NOW + 60


def test_a_provider_is_not_available_while_a_weaker_cause_lives() -> None:
    standing = QuotaState().marked(Reason.PROVIDER, NOW + 60, NOW).with_budget(NOW + DAY, NOW)
    assert standing.state(NOW) == View(State.QUOTA_EXHAUSTED, Reason.PROVIDER, NOW + DAY)
    assert standing.state(NOW + 60) == View(State.QUOTA_EXHAUSTED, Reason.BUDGET, NOW + DAY)


class TestSuccess:
    def test_it_disproves_a_refusal_made_before_it(self) -> None:
        refused = QuotaState().marked(Reason.PROVIDER, NOW + DAY, NOW)
        assert refused.succeeded(NOW + IN_FLIGHT).state(NOW + IN_FLIGHT) == View(State.AVAILABLE)
        assert refused.succeeded(NOW + IN_FLIGHT).pending_since(NOW + 2 * DAY) is None

    def test_it_proves_nothing_when_it_was_under_way_before_the_refusal(self) -> None:
        refused = QuotaState().marked(Reason.PROVIDER, NOW + DAY, NOW)
        assert refused.succeeded(NOW - 60) is refused
        assert refused.succeeded(NOW + IN_FLIGHT - 0.5) is refused

    @pytest.mark.parametrize("reason", [Reason.OPERATOR, Reason.BUDGET, Reason.PREDICTED])
    def test_it_does_not_disprove_what_we_say_ourselves(self, reason: Reason) -> None:
        standing = QuotaState().marked(reason, NOW + DAY, NOW)
        assert standing.succeeded(NOW + HOUR) is standing

    @pytest.mark.parametrize("reason", Reason)
    def test_it_ends_a_pending_recovery(self, reason: Reason) -> None:
        standing = QuotaState().marked(reason, NOW + HOUR, NOW)
        assert standing.pending_since(NOW + DAY) == NOW + HOUR
        assert standing.succeeded(NOW + DAY).pending_since(NOW + DAY) is None

    @given(states(), moments)
    def test_seeing_it_twice_is_seeing_it_once(self, standing: QuotaState, at: float) -> None:
        once = standing.succeeded(at)
        assert once.succeeded(at) is once


class TestOperator:
    def test_available_drops_every_cause(self) -> None:
        standing = standing_of([(reason, NOW + DAY) for reason in Reason]).available(NOW + 1)
        assert standing.state(NOW + 1) == View(State.AVAILABLE)
        assert standing.pending_since(NOW + 2 * DAY) is None

    def test_available_is_not_undone_by_the_next_event(self) -> None:
        standing = QuotaState().with_budget(NOW + DAY, NOW).available(NOW + 1)
        assert standing.with_budget(NOW + DAY, NOW + 2) is standing
        assert standing.with_prediction(NOW + DAY, NOW + 2) is standing

    def test_available_mutes_only_until_the_cause_would_have_ended(self) -> None:
        standing = QuotaState().with_budget(NOW + DAY, NOW).available(NOW + 1)
        spent_again = standing.with_budget(NOW + 2 * DAY, NOW + DAY)
        assert spent_again.state(NOW + DAY).reason is Reason.BUDGET

    def test_a_muted_prediction_does_not_mute_a_spent_budget(self) -> None:
        standing = QuotaState().with_prediction(NOW + DAY, NOW).available(NOW + 1)
        assert standing.with_budget(NOW + DAY, NOW + 2).state(NOW + 2).reason is Reason.BUDGET

    def test_the_provider_may_contradict(self) -> None:
        standing = QuotaState().marked(Reason.PROVIDER, NOW + DAY, NOW).available(NOW + 1)
        refused = standing.marked(Reason.PROVIDER, NOW + HOUR, NOW + 2)
        assert refused.state(NOW + 2) == View(State.QUOTA_EXHAUSTED, Reason.PROVIDER, NOW + HOUR)

    def test_available_changes_nothing_where_nothing_was_wrong(self) -> None:
        standing = QuotaState()
        assert standing.available(NOW) is standing

    @given(states(), moments)
    def test_saying_available_twice_is_saying_it_once(
        self, standing: QuotaState, at: float
    ) -> None:
        once = standing.available(at)
        assert once.available(at) is once


class TestBudget:
    def test_raising_it_frees_the_provider_and_leaves_nothing_pending(self) -> None:
        standing = QuotaState().with_budget(NOW + DAY, NOW).with_budget(None, NOW + 1)
        assert standing.state(NOW + 1) == View(State.AVAILABLE)
        assert standing.pending_since(NOW + 2 * DAY) is None

    def test_its_end_leaves_recovery_pending_though_it_is_no_longer_exceeded(self) -> None:
        standing = QuotaState().with_budget(NOW + DAY, NOW).with_budget(None, NOW + DAY)
        assert standing.pending_since(NOW + DAY) == NOW + DAY

    def test_the_same_answer_again_changes_nothing(self) -> None:
        standing = QuotaState().with_budget(NOW + DAY, NOW)
        assert standing.with_budget(NOW + DAY, NOW + 1) is standing

    def test_a_later_end_is_taken_over(self) -> None:
        standing = QuotaState().with_budget(NOW + HOUR, NOW).with_budget(NOW + DAY, NOW + 1)
        assert standing.state(NOW + 2).retry_at == NOW + DAY


class TestPrediction:
    def test_it_lasts_until_the_time_that_was_announced(self) -> None:
        standing = QuotaState().with_prediction(NOW + DAY, NOW)
        assert standing.state(NOW).reason is Reason.PREDICTED
        assert standing.is_predicted(NOW + DAY - 1)
        assert not standing.is_predicted(NOW + DAY)
        assert standing.with_prediction(NOW + DAY, NOW + 1) is standing

    def test_without_one_the_cause_vanishes(self) -> None:
        standing = QuotaState().with_prediction(NOW + DAY, NOW).without_prediction(NOW + 1)
        assert standing.state(NOW + 1) == View(State.AVAILABLE)
        assert standing.pending_since(NOW + 2 * DAY) is None


class TestThrottle:
    def test_it_does_not_exhaust_the_provider(self) -> None:
        standing = QuotaState().throttled(NOW + 30, NOW)
        assert standing.state(NOW) == View(State.AVAILABLE)
        assert standing.throttled_until(NOW) == NOW + 30
        assert standing.throttled_until(NOW + 30) is None

    def test_the_longest_wait_counts(self) -> None:
        standing = QuotaState().throttled(NOW + 30, NOW)
        assert standing.throttled(NOW + 10, NOW + 1) is standing


class TestReplicas:
    @given(states(), states(), states())
    def test_merging_needs_no_order(self, a: QuotaState, b: QuotaState, c: QuotaState) -> None:
        assert a.merged(b) == b.merged(a)
        assert a.merged(b).merged(c) == a.merged(b.merged(c))
        assert a.merged(a) == a

    @given(states(), moments)
    def test_a_later_word_wins_over_the_stored_one(self, stored: QuotaState, at: float) -> None:
        for changed in (stored.available(at), stored.succeeded(at), stored.with_budget(None, at)):
            assert stored.merged(changed) == changed

    @given(states(), states())
    def test_what_is_forgotten_stays_so_whoever_remembers_it(
        self, one: QuotaState, other: QuotaState
    ) -> None:
        forgotten = one.forgetting(max(one.said_at, other.said_at))
        assert not forgotten.known
        assert not forgotten.merged(one).merged(other).known

    @given(states(), moments, st.floats(-600, 600))
    def test_what_is_said_after_forgetting_counts_whatever_the_clock(
        self, one: QuotaState, at: float, ahead: float
    ) -> None:
        forgotten = one.forgetting(max(one.said_at, at + ahead))
        for said in (
            forgotten.marked(Reason.PROVIDER, at + HOUR, at),
            forgotten.throttled(at + HOUR, at),
        ):
            assert said.known
            assert said.merged(one) == one.merged(said) == said

    @given(states())
    def test_storing_and_reading_back_loses_nothing(self, standing: QuotaState) -> None:
        for codec in (msgspec.json, msgspec.msgpack):
            assert codec.decode(codec.encode(standing), type=QuotaState) == standing


class TestTransition:
    exhausted = View(State.QUOTA_EXHAUSTED, Reason.PREDICTED, NOW + DAY)

    def test_a_later_end_of_the_same_cause_is_none(self) -> None:
        assert transition(self.exhausted, self.exhausted._replace(retry_at=NOW + HOUR)) is None
        assert transition(View(State.AVAILABLE), View(State.AVAILABLE)) is None

    def test_it_names_the_new_state_and_the_reason(self) -> None:
        became = transition(View(State.AVAILABLE), self.exhausted)
        assert became == (State.QUOTA_EXHAUSTED, Reason.PREDICTED)

    def test_becoming_available_names_what_held_the_provider_back(self) -> None:
        became = transition(self.exhausted, View(State.AVAILABLE))
        assert became == (State.AVAILABLE, Reason.PREDICTED)

    def test_stronger_evidence_for_the_same_state_is_one_too(self) -> None:
        became = transition(self.exhausted, self.exhausted._replace(reason=Reason.BUDGET))
        assert became == (State.QUOTA_EXHAUSTED, Reason.BUDGET)
