"""Answers lie ready until what they are about changes: never longer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.availability import STEP
from exporter.config import parse
from exporter.core.quota_state import State
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.signal import Limit, Signal, Verdict
from exporter.web import ready
from exporter.web.lookups import LookupHeaders, Lookups
from exporter.web.questions import Questions
from exporter.web.ready import ReadyAnswers
from exporter.web.request_metrics import RequestMetrics
from exporter.web.toolkit.auth import Authoriser
from exporter.web.toolkit.webconfig import WebConfig
from tests.web.test_routes import HOUR, House, house


class Answer(NamedTuple):
    body: bytes
    until: float = 100.0

    @property
    def size(self) -> int:
        return len(self.body)


def test_an_answer_lies_ready_until_its_time_comes() -> None:
    answers = ReadyAnswers[Answer]()
    answers.put("a?", "a", Answer(b"yes"))
    assert answers.get("a?", 99.9) == Answer(b"yes")
    assert answers.get("a?", 100.0) is None
    answers.put("a?", "a", Answer(b"no", 200.0))
    assert answers.get("a?", 100.0) == Answer(b"no", 200.0)


def test_an_answer_is_gone_when_what_it_is_about_has_changed() -> None:
    answers = ReadyAnswers[Answer]()
    for asked in ("a1", "a2", "b1"):
        answers.put(asked, asked[0], Answer(b"yes"))
    answers.outdate("a")
    assert [answers.get(asked, 0.0) for asked in ("a1", "a2")] == [None, None]
    assert answers.get("b1", 0.0) is not None
    answers.put("a1", "a", Answer(b"no"))
    assert answers.get("a1", 0.0) == Answer(b"no")
    answers.clear()
    assert answers.get("a1", 0.0) is answers.get("b1", 0.0) is None


def test_answers_are_bounded_by_their_number_and_their_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ready, "MAX_ANSWERS", 10)
    monkeypatch.setattr(ready, "MAX_BYTES", 100)
    answers = ReadyAnswers[Answer]()
    for number in range(1000):
        answers.put(number % 25, number % 5, Answer(b"x" * (number % 40)))
        assert answers.get(number % 25, 0.0) is not None
        found = [one for one in (answers.get(asked, 0.0) for asked in range(25)) if one]
        assert len(found) <= 10
        assert sum(one.size for one in found) <= 100
        if number % 7 == 0:
            answers.outdate(number % 3)


# -- what is answered --

CONFIG = """
budgets:
  a: [{tokens: 1000}, {tokens: 400, period: hour, per: model}]
  b: [{requests: 1000000, period: 5h}, {requests: 5, period: month, reserve: 20%}]
  c: {tokens: 1000, per: consumer}
"""
OTHER = CONFIG + "aliases: {d: a}\n"

TARGETS = [
    *(f"/v1/providers/{name}" for name in "abcde"),
    *(f"/v1/availability?provider={name}" for name in "abcde"),
    *(f"/v1/availability?provider={name}&model=m1" for name in "abcde"),
    "/v1/availability?provider=c&consumer=team",
    "/v1/availability",
    "/v1/exhausted",
    "/v1/exhausted?include_elapsed=true",
]
ASKED = [(name, model, "team") for name in "abcde" for model in ("", "m1")]

Step = Callable[[House], Awaitable[object]]


def said(scope: Scope, state: State | None, seconds: float) -> Step:
    async def overrule(one: House) -> None:
        now = one.clock()
        one.service.states.overrule(scope, state, now + seconds, now)

    return overrule


def refused(scope: Scope, seconds: float, verdict: Verdict) -> Step:
    async def signal(one: House) -> None:
        now = one.clock()
        one.service.signal(
            Signal(
                scope.provider,
                now,
                verdict=verdict,
                retry_at=now + seconds,
                model=scope.model,
                request_model=scope.model,
            ),
            now,
        )

    return signal


def reported(provider: str, utilization: float, seconds: float) -> Step:
    async def signal(one: House) -> None:
        now = one.clock()
        limit = Limit("tokens_day", utilization=utilization, reset_at=now + seconds)
        one.service.signal(Signal(provider, now, verdict=Verdict.UNKNOWN, limits=(limit,)), now)

    return signal


def used(provider: str, model: str, tokens: int) -> Step:
    event = {"provider": provider, "model": model, "consumer": "team", "tokens": tokens}
    return lambda one: one.push(event)


def waited(seconds: float) -> Step:
    async def wait(one: House) -> None:
        one.clock.now += seconds

    return wait


async def measured(one: House) -> None:
    await one.service.refresh(one.clock())


def heard(provider: str, model: str) -> Step:
    """Another replica has counted a model."""

    async def follow(one: House) -> None:
        one.service.names.use(Series(provider, model), one.clock())
        await measured(one)

    return follow


async def ticked(one: House) -> None:
    await one.service.tick(one.clock())


def forgotten(provider: str) -> Step:
    return lambda one: one.service.forget(provider)


SCOPES = st.builds(
    Scope,
    st.sampled_from("abcd"),
    st.sampled_from(["", "m1", "m1|m2*"]),
    st.sampled_from(["", "team"]),
)
SECONDS = st.sampled_from([0.0, 1.0, 600.0, HOUR, 5 * HOUR])
STEPS = st.one_of(
    st.builds(said, SCOPES, st.sampled_from([*State, None]), SECONDS),
    st.builds(refused, SCOPES, SECONDS, st.sampled_from([Verdict.EXHAUSTED, Verdict.THROTTLED])),
    st.builds(reported, st.sampled_from("ad"), st.sampled_from([0.1, 0.9]), SECONDS),
    st.builds(
        used, st.sampled_from("abcd"), st.sampled_from(["m1", "m2"]), st.sampled_from([1, 400])
    ),
    st.builds(waited, SECONDS),
    st.builds(forgotten, st.sampled_from("cd")),
    st.builds(heard, st.sampled_from("ad"), st.sampled_from(["m1", "m2", "m3"])),
    st.sampled_from([measured, ticked]),
)


def shown(answer: bytes | None) -> Any:
    """The head of an answer, but for what follows its body, and its body."""
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith((b"etag", b"content-len"))]
    return lines, json.loads(body) if body else None


def outlooks(value: Any) -> list[float]:
    """Take the probabilities out of what routers are told."""
    entries = value.get("scopes", [value])
    for one in entries:
        one.pop("exhaustion_at", None)
    return [one.pop("probability") for one in entries if "probability" in one]


def check(one: House) -> None:
    """What lies ready is what would be answered if nothing did."""
    site, now = one.site, one.clock()
    fresh = Lookups(Questions(one.service, site.ingest.naming), b"", RequestMetrics())
    for target in TARGETS:
        kept = site.lookup(b"GET", target.encode(), LookupHeaders())
        made = fresh.find(target.encode(), None, now)
        assert kept is not None
        assert made is not None
        found, expected = shown(kept.whole), shown(made.whole)
        if "providers" not in target:
            # A probability is news when it has changed by so much.
            pairs = zip(outlooks(found[1]), outlooks(expected[1]), strict=True)
            assert all(abs(mine - other) <= STEP + 0.001 for mine, other in pairs)
        assert found == expected, target
        known = site.lookup(b"GET", target.encode(), LookupHeaders(kept.reply.etag.encode()))
        assert known is not None
        assert known.whole.startswith(b"HTTP/1.1 304 ")
    for asked in ASKED:
        kept = site.lookup(b"POST", b"/v1/authorize/v1/chat", LookupHeaders(asked=asked))
        made = fresh.authorize(b"GET", b"/v1/authorize/x?denied=429", asked, now)
        assert kept is not None
        assert made is not None
        assert shown(kept.whole) == shown(made.whole), asked


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=12))
@example([refused(Scope("d", "m1"), HOUR, Verdict.EXHAUSTED), used("d", "m2", 1), measured])
@example([reported("a", 0.9, 600.0), used("a", "m1", 1), waited(600.0)])
@example([said(Scope("a"), State.QUOTA_EXHAUSTED, 1.0), waited(1.0)])
@example([refused(Scope("a"), 1.0, Verdict.EXHAUSTED), waited(1.0), used("a", "m1", 1)])
@example([used("b", "m1", 1), waited(5 * HOUR), measured])
@example(
    [
        *(heard("d", model) for model in ("m1", "m2")),
        *(refused(Scope("d", model), HOUR, Verdict.EXHAUSTED) for model in ("m1", "m2")),
        measured,
        heard("d", "m3"),
    ]
)
@example([said(Scope("a"), State.QUOTA_EXHAUSTED, 600.0), waited(1.0)])
@example([used("d", "m1", 1), measured, forgotten("d"), heard("d", "m1")])
def test_what_lies_ready_is_what_would_be_answered_anew(steps: list[Step]) -> None:
    async def story() -> None:
        async with house(CONFIG) as one:
            check(one)
            for step in steps:
                await step(one)
                check(one)

    asyncio.run(story())


def test_a_configuration_answers_anew_under_its_own_names_and_rights() -> None:
    async def story() -> None:
        async with house(CONFIG) as one:
            await said(Scope("a"), State.QUOTA_EXHAUSTED, HOUR)(one)
            target, asked = b"/v1/authorize", LookupHeaders(asked=("d", "", ""))
            before = one.site.lookup(b"GET", target, asked)
            assert before is not None
            assert b" 200 OK" in before.whole
            await one.service.reload(
                parse(OTHER, "quota.yml"),
                one.clock(),
                lambda: one.site.configure(WebConfig(), Authoriser()),
            )
            after = one.site.lookup(b"GET", target, asked)
            assert after is not None
            assert b" 429 " in after.whole

    asyncio.run(story())
