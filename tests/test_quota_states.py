"""Quota states of several replicas, which know of each other by stored documents."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.quota_state import AVAILABLE, QuotaState, Reason, State
from exporter.core.reports import Report, first_report
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.signal import Limit, Signal, Verdict
from exporter.core.windows import DAY
from exporter.quota_states import QuotaStates, merge
from exporter.quota_states.documents import state_document
from tests.core.test_quota_state import states as any_state

NOW = 1_800_000_000.0
OPENAI = Scope("openai")
GPT = Scope("openai", "gpt")
GPT_SERIES = Series("openai", "gpt")
IN_USE = Limit("requests", 100.0, 90.0)


class Replicas:
    """Replicas that share documents, which each of them takes up and stores when told to."""

    def __init__(self, number: int) -> None:
        self.stored: dict[str, bytes] = {}
        self.states = [QuotaStates() for _ in range(number)]

    def store(self, states: QuotaStates) -> None:
        for name, body in states.changed.items():
            held = self.stored.get(name)
            self.stored[name] = body if held is None else merge(name, body, held)
        states.changed = {}

    def exchange(self) -> None:
        """Everybody stores what is new, then reads all there is."""
        for one in self.states:
            self.store(one)
        for one in self.states:
            for name, body in self.stored.items():
                one.load(name, body, NOW)


def refused(model: str = "", at: float = NOW) -> Signal:
    return Signal("openai", at, Verdict.EXHAUSTED, NOW + 3600, (IN_USE,), model=model)


def test_words_of_two_operators_at_the_same_moment_are_understood_alike_by_all() -> None:
    replicas = Replicas(3)
    one, other, third = replicas.states
    one.overrule(OPENAI, State.QUOTA_EXHAUSTED, NOW + 3600, NOW)
    other.overrule(OPENAI, State.QUOTA_EXHAUSTED, NOW + 60, NOW)
    third.signal(refused(), NOW)
    replicas.exchange()
    (view,) = {states.scope(OPENAI, NOW) for states in replicas.states}
    assert view.view.reason is Reason.OPERATOR
    again = QuotaStates()
    for name, body in replicas.stored.items():
        again.load(name, body, NOW)
    assert again.scope(OPENAI, NOW) == view


@pytest.mark.parametrize("ahead", [0.0, 600.0])
def test_what_one_replica_forgot_no_other_brings_back(ahead: float) -> None:
    replicas = Replicas(2)
    one, other = replicas.states
    heard: list[str] = []
    other.forgot = lambda provider, until: heard.append(provider)
    other.signal(refused("gpt", NOW + ahead), NOW + ahead)
    other.signal(refused("", NOW + ahead), NOW + ahead)
    replicas.exchange()
    assert one.knows("openai")
    one.forget("openai", NOW + 1)
    replicas.exchange()
    other.succeeded(GPT_SERIES, NOW + 2, NOW + 2)
    replicas.exchange()
    for states in (*replicas.states, *restarted(replicas)):
        assert not states.knows("openai")
        assert states.scope(GPT, NOW).view == AVAILABLE
        assert states.limits("openai") == {}
        assert list(states.providers()) == states.parts("openai", NOW) == []
    assert heard == ["openai"]


def restarted(replicas: Replicas) -> list[QuotaStates]:
    """Replicas that read everything, in either order."""
    found = []
    for documents in (replicas.stored.items(), reversed(replicas.stored.items())):
        states = QuotaStates()
        for name, body in documents:
            states.load(name, body, NOW)
        found.append(states)
    return found


@pytest.mark.parametrize("behind", [0.0, 600.0])
def test_what_is_said_after_it_was_forgotten_counts_on_every_replica(behind: float) -> None:
    replicas = Replicas(2)
    one, other = replicas.states
    one.signal(refused(), NOW)
    one.forget("openai", NOW)
    replicas.exchange()
    other.signal(refused(at=NOW - behind), NOW - behind)
    replicas.exchange()
    for states in (*replicas.states, *restarted(replicas)):
        assert states.scope(OPENAI, NOW).view.retry_at == NOW + 3600
        assert states.limits("openai")["requests"].limit == IN_USE


def test_what_another_replica_did_not_store_yet_is_forgotten_too() -> None:
    replicas = Replicas(2)
    one, other = replicas.states
    other.signal(refused("gpt"), NOW)
    one.forget("openai", NOW + 1)
    replicas.store(one)
    replicas.exchange()
    assert [states.scope(GPT, NOW).view for states in replicas.states] == [AVAILABLE] * 2


@given(any_state(), any_state(), any_state())
def test_documents_of_states_merge_as_the_states_do(
    a: QuotaState, b: QuotaState, c: QuotaState
) -> None:
    name, one = state_document(OPENAI, a)
    (_, other), (_, third) = state_document(OPENAI, b), state_document(OPENAI, c)
    both = merge(name, one, other)
    assert msgspec.json.decode(both, type=QuotaState) == a.merged(b)
    assert both == merge(name, other, one) == merge(name, both, one)
    assert merge(name, both, third) == merge(name, one, merge(name, other, third))


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Report]:
    """What one replica heard of shares and of other limits."""
    names = st.sampled_from(["requests", "tokens"])
    heard: dict[str, Report] = {}
    moments = draw(st.lists(st.floats(0, 30 * DAY), max_size=20))
    for at in sorted(moments):
        ends = (at // (7 * DAY) + 1) * 7 * DAY
        shared = st.builds(Limit, st.just("7d"), utilization=st.floats(0, 1.1))
        share = msgspec.structs.replace(draw(shared), reset_at=ends, unit="share", window=7 * DAY)
        for limit in (share, draw(st.builds(Limit, names, st.floats(0, 9) | st.none()))):
            held = heard.get(limit.key)
            heard[limit.key] = held.followed_by(limit, at) if held else first_report(limit, at)
    return heard


@given(reports(), reports())
def test_limits_merge_key_by_key_in_any_order(
    one: dict[str, Report], other: dict[str, Report]
) -> None:
    ours, theirs = map(msgspec.json.encode, (one, other))
    both = merge("limits/openai", ours, theirs)
    assert both == merge("limits/openai", theirs, ours) == merge("limits/openai", both, ours)
    found = msgspec.json.decode(both, type=dict[str, Report])
    assert found.keys() == one.keys() | other.keys()
    for key, report in found.items():
        known = [some[key] for some in (one, other) if key in some]
        assert report.at == max(each.at for each in known)
        assert report.limit in [each.limit for each in known]
        assert len(report.windows) >= max(
            len(each.windows) for each in known if each.at == report.at
        )


def test_limits_of_an_earlier_version_are_understood() -> None:
    stored = b'{"7d":[{"name":"7d","utilization":0.5},5.0],"x":[{"name":"x","model":"m"},6.0]}'
    states = QuotaStates()
    assert states.load("limits/openai", stored, NOW)
    assert states.limits("openai") == {
        "7d": Report(Limit("7d", utilization=0.5), 5.0),
        "x/m": Report(Limit("x", model="m"), 6.0),
    }


def test_a_reason_of_a_later_version_survives_a_merge() -> None:
    newer = b'{"marks":{"weather":{"at":5.0,"retry_at":7.0}}}'
    name, ours = state_document(OPENAI, QuotaState().marked(Reason.PROVIDER, NOW + 60, NOW))
    assert b'"weather"' in merge(name, ours, newer)
    assert b'"provider"' in merge(name, ours, newer)


def test_what_cannot_be_read_or_merged_is_replaced() -> None:
    name, ours = state_document(OPENAI, QuotaState())
    assert merge(name, ours, b"[") == ours
    assert merge("limits/openai", b"{}", b"7") == b"{}"
    assert merge("last_push", b"7.0", b"8.0") == b"7.0"


def test_an_outage_that_ended_early_is_stored_so_and_forgotten_with_its_provider() -> None:
    replicas = Replicas(2)
    one, other = replicas.states
    one.overrule(OPENAI, State.QUOTA_EXHAUSTED, NOW + 3600, NOW)
    replicas.exchange()
    one.overrule(OPENAI, State.AVAILABLE, NOW, NOW + 60)
    replicas.exchange()
    for states in (*replicas.states, *restarted(replicas)):
        assert states.outages.of(OPENAI) == ((NOW, NOW + 60),)
    one.forget("openai", NOW + 70)
    replicas.exchange()
    other.overrule(OPENAI, State.QUOTA_EXHAUSTED, NOW + 5000, NOW + 4000)
    replicas.exchange()
    for states in (*replicas.states, *restarted(replicas)):
        assert states.outages.of(OPENAI) == ((NOW + 4000, NOW + 5000),)


def test_an_outage_that_one_replica_forgot_no_other_brings_back() -> None:
    replicas = Replicas(2)
    one, other = replicas.states
    one.overrule(OPENAI, State.QUOTA_EXHAUSTED, NOW + 3600, NOW)
    replicas.exchange()
    one.forget("openai", NOW + 70)
    other.overrule(OPENAI, State.AVAILABLE, NOW, NOW + 60)  # before it hears of that
    replicas.exchange()
    for states in (*replicas.states, *restarted(replicas)):
        assert states.outages.of(OPENAI) == ()


AHEAD = NOW + DAY
"""What a clock says that is set ahead, and corrected afterwards."""


def test_reports_count_again_at_once_when_a_clock_that_was_ahead_is_corrected() -> None:
    replicas = Replicas(2)
    one, other = replicas.states
    one.signal(refused(at=AHEAD), AHEAD)
    replicas.exchange()
    now = NOW + 10
    late = Limit("requests", 100.0, 40.0)
    for states in (one, other):
        states.signal(Signal("openai", now, Verdict.UNKNOWN, limits=(late,)), now)
        assert states.limits("openai")["requests"].limit == late
        states.changed = {
            name: merge(name, body, replicas.stored.get(name, body), now)
            for name, body in states.changed.items()
        }
        again = QuotaStates()
        for name, body in states.changed.items():
            again.load(name, body, now)
        assert again.limits("openai")["requests"].limit == late


def test_a_success_answers_a_refusal_that_a_clock_ahead_stamped() -> None:
    states = QuotaStates()
    states.signal(Signal("openai", AHEAD, Verdict.EXHAUSTED, AHEAD + 3600), AHEAD)
    states.succeeded(Series("openai"), NOW, NOW)
    assert states.scope(OPENAI, NOW).view == AVAILABLE


def test_a_success_that_a_clock_ahead_stamped_answers_no_later_refusal() -> None:
    states = QuotaStates()
    states.succeeded(Series("openai"), AHEAD, AHEAD)
    states.signal(Signal("openai", NOW, Verdict.EXHAUSTED, NOW + 3600), NOW)
    assert states.scope(OPENAI, NOW).view.retry_at == NOW + 3600
    states.succeeded(Series("openai"), NOW + 10, NOW + 10)
    assert states.scope(OPENAI, NOW).view == AVAILABLE


def test_an_outage_that_a_clock_ahead_stamped_hides_no_other() -> None:
    states = QuotaStates()
    states.overrule(OPENAI, State.QUOTA_EXHAUSTED, AHEAD + 3600, AHEAD)
    states.overrule(OPENAI, State.QUOTA_EXHAUSTED, NOW + 3600, NOW)
    assert states.outages.of(OPENAI) == ((NOW, NOW + 3600),)
