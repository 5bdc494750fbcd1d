"""Answers for routers, kept until something changes."""

import json
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from exporter.availability import Availability
from exporter.core.budget import Budget, Quota
from exporter.core.measurement import Measurement
from exporter.core.moment import rfc3339
from exporter.core.quota_state import State
from exporter.core.scope import Scope
from exporter.core.signal import Signal, Verdict
from exporter.core.windows import Window, parse_period
from exporter.quota_states import QuotaStates

NOON = 1_736_164_800.0
HOUR = 3600.0


def known() -> tuple[QuotaStates, Availability]:
    states = QuotaStates()
    answers = Availability(states, lambda provider: ())
    states.noticed = answers.update
    return states, answers


def out(states: QuotaStates, *scopes: Scope) -> None:
    for scope in scopes:
        states.overrule(scope, State.QUOTA_EXHAUSTED, NOON + HOUR, NOON)


def scopes(answers: Availability, now: float = NOON) -> list[tuple[str, ...]]:
    found = json.loads(answers.all(now).body)["scopes"]
    return [tuple(one.get(key, "") for key in ("provider", "model", "state")) for one in found]


def state(answers: Availability, *asked: str, now: float = NOON) -> str:
    answer: str = json.loads(answers.of(Scope(*asked), now).body)["state"]
    return answer


def test_a_model_that_is_out_takes_out_itself_alone() -> None:
    states, answers = known()
    out(states, Scope("gemini", "gemini-3-pro*"))
    assert state(answers, "gemini", "gemini-3-pro-preview") == "quota_exhausted"
    assert state(answers, "gemini", "gemini-3-flash") == "available"
    assert state(answers, "gemini") == "available"
    assert scopes(answers) == [("gemini", "gemini-3-pro*", "quota_exhausted")]


def test_an_answer_stays_the_same_until_something_changes() -> None:
    states, answers = known()
    out(states, Scope("openai"))
    kept = answers.of(Scope("openai", "gpt-5"), NOON)
    assert answers.of(Scope("openai", "gpt-5"), NOON + 1) == kept
    assert answers.all(NOON + 1) is answers.all(NOON)
    out(states, Scope("anthropic"))
    assert answers.of(Scope("openai", "gpt-5"), NOON + 1) == kept
    assert len(scopes(answers)) == 2
    states.overrule(Scope("openai"), None, 0.0, NOON + 2)
    assert state(answers, "openai", "gpt-5", now=NOON + 2) == "available"


def test_what_ends_by_itself_is_available_at_that_instant() -> None:
    states, answers = known()
    out(states, Scope("openai"))
    assert state(answers, "openai", now=NOON + HOUR - 0.001) == "quota_exhausted"
    assert state(answers, "openai", now=NOON + HOUR) == "available"
    assert scopes(answers, NOON + HOUR) == []


def test_what_is_taken_up_from_the_store_is_answered_at_once() -> None:
    before, _ = known()
    out(before, Scope("openai"), Scope("gemini", "pro"))
    states, answers = known()
    assert scopes(answers) == []
    for name, body in before.changed.items():
        states.load(name, body, NOON)
    assert state(answers, "openai") == state(answers, "gemini", "pro") == "quota_exhausted"
    assert len(scopes(answers)) == 2


def test_a_provider_that_is_forgotten_is_out_no_more() -> None:
    states, answers = known()
    out(states, Scope("openai"), Scope("openai", "gpt-5"))
    assert state(answers, "openai", "gpt-5") == "quota_exhausted"
    states.forget("openai", NOON)
    assert state(answers, "openai", "gpt-5") == state(answers, "openai") == "available"
    assert scopes(answers) == []


def test_a_provider_that_is_forgotten_is_no_longer_likely_to_be_out() -> None:
    states, answers = known()
    budget = Budget(1000, parse_period("day", ZoneInfo("UTC")), model="gpt-5")
    quota = Quota(Scope("openai", "gpt-5"), budget)
    likely = Measurement(quota, Window(NOON, NOON + HOUR), 500, 900, 1000, 1100, 0.7, None, {})
    states.settle(quota.scope, [likely], lambda one, share, now: NOON + HOUR, NOON)
    assert scopes(answers) == [("openai", "gpt-5", "available")]
    states.forget("openai", NOON)
    assert scopes(answers) == []


def test_a_cause_that_ends_before_the_others_is_no_longer_the_reason() -> None:
    states, answers = known()
    states.overrule(Scope("openai"), State.QUOTA_EXHAUSTED, NOON + HOUR, NOON)
    states.signal(refusal("openai", NOON + 2 * HOUR), NOON)
    assert reason(answers, NOON) == "operator"
    assert reason(answers, NOON + HOUR) == "provider"
    assert scopes(answers, NOON + 2 * HOUR) == []


def refusal(provider: str, retry_at: float, model: str = "") -> Signal:
    return Signal(provider, NOON, verdict=Verdict.EXHAUSTED, retry_at=retry_at, model=model)


def reason(answers: Availability, now: float) -> str:
    (entry,) = json.loads(answers.all(now).body)["scopes"]
    one = json.loads(answers.of(Scope("openai"), now).body)
    assert entry == one
    found: str = one["reason"]
    return found


MOMENTS = st.integers(0, 10).map(lambda minutes: 60.0 * minutes)
SCOPES = st.sampled_from(
    [Scope("a"), Scope("a", "m1"), Scope("a", "m2|m3*"), Scope("b"), Scope("b", "", "team")]
)


@given(
    st.lists(
        st.tuples(SCOPES, st.sampled_from(["out", "available", "auto", "refused"]), MOMENTS),
        max_size=20,
    ),
    st.lists(MOMENTS, min_size=20, max_size=20),
)
def test_changes_lead_from_one_whole_state_to_the_next(
    said: list[tuple[Scope, str, float]], steps: list[float]
) -> None:
    states, answers = known()
    now, seen = NOON, by_scope(json.loads(answers.all(NOON).body)["scopes"])
    position = answers.feed.position
    for (scope, what, after), step in zip(said, steps, strict=False):
        if what == "out":
            states.overrule(scope, State.QUOTA_EXHAUSTED, now + after, now)
        elif what == "refused":
            states.signal(refusal(scope.provider, now + after, scope.model), now)
        else:
            states.overrule(scope, State.AVAILABLE if what == "available" else None, 0.0, now)
        now += step
        whole = by_scope(json.loads(answers.all(now).body)["scopes"])
        for number, change in answers.feed.since(position) or []:
            assert number == position + 1
            position = number
            entry = json.loads(change)
            seen |= by_scope([entry])
            if entry["state"] == "available" and entry["throttled_until"] is None:
                del seen[key(entry)]
        assert seen == whole
        for entry in whole.values():  # and what is said of all is what is said of each
            assert entry["retry_after"] > rfc3339(now)


def by_scope(entries: list[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, Any]]:
    return {key(entry): entry for entry in entries}


def key(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(entry.get(name, "") for name in ("provider", "model", "consumer"))
