"""Answers for routers, kept until something changes."""

import json

from exporter.availability import Availability
from exporter.core.quota_state import State
from exporter.core.scope import Scope
from exporter.quota_states import QuotaStates

NOON = 1_736_164_800.0
HOUR = 3600.0


def known() -> tuple[QuotaStates, Availability]:
    states = QuotaStates()
    return states, Availability(states, lambda provider: ())


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
    assert answers.of(Scope("openai", "gpt-5"), NOON + 1) is kept
    assert answers.all(NOON + 1) is answers.all(NOON)
    out(states, Scope("anthropic"))
    assert answers.of(Scope("openai", "gpt-5"), NOON + 1) is kept
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
        states.take(name, body, NOON)
    assert state(answers, "openai") == state(answers, "gemini", "pro") == "quota_exhausted"
    assert len(scopes(answers)) == 2


def test_a_provider_that_is_forgotten_is_out_no_more() -> None:
    states, answers = known()
    out(states, Scope("openai"), Scope("openai", "gpt-5"))
    assert state(answers, "openai", "gpt-5") == "quota_exhausted"
    states.forget("openai", NOON)
    assert state(answers, "openai", "gpt-5") == state(answers, "openai") == "available"
    assert scopes(answers) == []
