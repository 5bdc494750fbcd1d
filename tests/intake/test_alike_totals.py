"""Totals that rise by the same are seen, whatever their timing; those of others are not."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.usage import ReportedCall, Tokens, Usage
from exporter.intake.alike_totals import MAX_MODELS, MAX_REPORTERS, AlikeTotals

MODEL = "claude-sonnet-4-5"
HOUR = 3600


class Call(NamedTuple):
    """When it ended, and its tokens."""

    at: float
    tokens: int


class Pushed(NamedTuple):
    """When something was pushed, and what."""

    at: float
    usage: Usage


def traffic(
    seed: int, a_minute: float = 0.5, tokens: Sequence[int] = range(500, 50_000)
) -> list[Call]:
    """Six hours of calls at random."""
    random, at, calls = Random(seed), 0.0, []
    while (at := at + random.expovariate(a_minute / 60)) < 6 * HOUR:
        calls.append(Call(at, random.choice(tokens)))
    return calls


def each(
    reporter: str, calls: Iterable[Call], *, late: float = 2.0, named: bool = True
) -> list[Pushed]:
    """Every call, a little later."""
    return [
        Pushed(
            call.at + late,
            Usage(
                "anthropic",
                Tokens(call.tokens),
                f"{MODEL}-20250929",
                f"{reporter}/{number}",
                call.at,
                call=ReportedCall(reporter, (f"{reporter} {number}",) if named else ()),
            ),
        )
        for number, call in enumerate(calls)
    ]


def counter(
    reporter: str, calls: Sequence[Call], *, phase: float, every: float = 60.0
) -> list[Pushed]:
    """A counter of all of them, told from time to time."""
    found = []
    for step in range(int(6 * HOUR / every) + 2):
        at = phase + step * every
        total = sum(call.tokens for call in calls if call.at <= at)
        call = ReportedCall(reporter, ())
        usage = Usage("aws.bedrock", Tokens(total), MODEL, timestamp=at, stream=reporter, call=call)
        found.append(Pushed(at, usage))
    return found


def suspected(*pushed: Iterable[Pushed]) -> int:
    totals = AlikeTotals()
    among = sorted((one for some in pushed for one in some), key=lambda one: one.at)
    return sum(totals.suspected([one.usage]) for one in among)


SEEDS = st.integers(0, 2**32)


@given(SEEDS, st.floats(0, 60), st.floats(0, 60))
def test_two_counters_of_the_same_calls_are_seen(seed: int, one: float, other: float) -> None:
    calls = traffic(seed)
    assert suspected(counter("tool", calls, phase=one), counter("gateway", calls, phase=other)) > 50


@given(SEEDS, st.floats(0, 60), st.booleans())
def test_a_counter_of_calls_that_somebody_else_names_is_seen(
    seed: int, phase: float, named: bool
) -> None:
    calls = traffic(seed, 2.0)
    tool, gateway = counter("tool", calls, phase=phase), each("gateway", calls, named=named)
    assert suspected(tool, gateway) > 50


@given(SEEDS)
def test_a_tool_among_others_behind_a_gateway_is_seen(seed: int) -> None:
    """The gateway has calls of its own, now and then."""
    own, others = traffic(seed), traffic(seed + 1, 0.05)
    gateway = sorted([*own, *others])
    assert suspected(counter("tool", own, phase=7), each("gateway", gateway)) > 10


@given(SEEDS, st.floats(0, 60), st.booleans())
def test_services_with_calls_of_their_own_are_not(seed: int, phase: float, counts: bool) -> None:
    ours, theirs = traffic(seed), traffic(seed + 1)
    others = counter("b", theirs, phase=phase) if counts else each("b", theirs, named=False)
    assert suspected(counter("a", ours, phase=0), others) == 0


@given(SEEDS, st.floats(0, 60))
def test_calls_that_always_use_the_same_are_not(seed: int, phase: float) -> None:
    ours, theirs = (traffic(seed + n, 0.5, [8192]) for n in range(2))
    assert suspected(counter("a", ours, phase=0), counter("b", theirs, phase=phase)) == 0


def test_those_who_name_their_calls_are_told_apart_by_these() -> None:
    calls = traffic(1)
    assert suspected(each("a", calls), each("b", calls, late=3.0)) == 0


def test_one_reporter_alone_is_not_alike_whatever_it_repeats() -> None:
    calls = traffic(1)
    assert suspected(counter("a", calls, phase=0), counter("a", calls, phase=0)) == 0


def test_the_other_sender_of_a_pair_adds_nothing() -> None:
    calls = traffic(1)
    tool, gateway = counter("tool", calls, phase=0), counter("gateway", calls, phase=30)
    pair = [Pushed(one.at + 0.5, one.usage) for one in gateway]
    assert suspected(tool, gateway, pair) == suspected(tool, gateway)


def test_a_counter_that_began_anew_goes_on() -> None:
    calls = traffic(1)
    half = len(calls) // 2
    begun, anew = (counter("tool", part, phase=0) for part in (calls[:half], calls[half:]))
    tool = [one if one.at < calls[half].at else two for one, two in zip(begun, anew, strict=True)]
    gateway = counter("gateway", calls, phase=30)
    assert suspected(tool, gateway) > 0.5 * suspected(counter("tool", calls, phase=0), gateway)


@pytest.mark.parametrize("what", ["model", "reporter"])
def test_its_memory_is_bounded(what: str) -> None:
    totals = AlikeTotals()
    for number in range(2 * MAX_MODELS):
        model, reporter = (MODEL, f"r{number}") if what == "reporter" else (f"m{number}", "r")
        usage = Usage("a", Tokens(500), model, call=ReportedCall(reporter, ()))
        assert totals.suspected([usage]) == 0
    assert len(totals._models) <= MAX_MODELS
    assert all(len(model.totals) <= MAX_REPORTERS for model in totals._models.values())
