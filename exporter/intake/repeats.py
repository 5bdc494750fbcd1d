"""One call reported by a tool and by the gateway that it goes through, or by any two reporters.

Both name something of the call: the id of the response or of the request, or the session together
with what was used. Whoever reported it first counts. Where they name nothing in common, calls of
the same model within moments that used exactly as much of every kind are only suspected; where they
name nothing at all, totals that rise alike are.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from exporter.core.usage import Usage
from exporter.intake.alike_totals import AlikeTotals
from exporter.intake.naming import undated

MAX_CALLS = 50_000
"""Remembered: some minutes of a busy gateway, which sends its batches every few seconds."""

ALIKE_SECONDS = 60.0
"""Between the times that two reporters give one call, at most."""

ALIKE_TOKENS = 100
"""Calls with less are alike too often."""

REPEATED = "repeated_by_another_reporter"
"""Why a call is not counted that somebody else reported."""


class _ReportedCall(msgspec.Struct, eq=False):
    """Attributes:
    reporter: who reported a call.
    names: what it named of it.
    repeats: whether somebody else had reported it before.
    matched: whether somebody else reported it, before or after.
    at: Unix seconds; 0 when unknown.
    """

    reporter: str
    names: tuple[str, ...]
    repeats: bool = False
    matched: bool = False
    at: float = 0.0


class Counted(NamedTuple):
    """Attributes:
    usages: those that count.
    suspected: how many of them look like one of another reporter.
    """

    usages: list[Usage]
    suspected: int


class Repeats:
    """The calls of the last minutes, by what their reporters named of them.

    Not for use by several threads at once.
    """

    def __init__(self) -> None:
        self._reported: dict[tuple[str, str, str], _ReportedCall] = {}
        # Name -> reporter -> calls that nobody else reported yet, in order.
        self._waiting: dict[str, dict[str, deque[_ReportedCall]]] = {}
        self._totals = AlikeTotals()

    def counted(self, usages: Iterable[Usage]) -> Counted:
        """Those that nobody else has reported; asking again about one gives the same answer."""
        suspected = 0
        counted = []
        for usage in usages:
            call = usage.call
            if call is None or not call.names or not usage.id:
                counted.append(usage)
                continue
            key = (call.reporter, usage.provider, usage.id)
            reported = self._reported.get(key)
            if reported is None:
                alike = _alike(usage)
                reported = _ReportedCall(
                    call.reporter, (*call.names, *alike), at=usage.timestamp or 0.0
                )
                twin = self._twin(reported, call.names)
                if twin is not None:
                    twin.matched = reported.matched = reported.repeats = True
                elif self._suspect(reported, alike):
                    suspected += 1
                self._remember(key, reported)
            if not reported.repeats:
                counted.append(usage)
        return Counted(counted, suspected + self._totals.suspected(counted))

    def _twin(self, reported: _ReportedCall, names: Iterable[str]) -> _ReportedCall | None:
        """What another reporter reported, and nobody else, under one of these names."""
        for name in names:
            for reporter, waiting in self._waiting.get(name, {}).items():
                while waiting and waiting[0].matched:
                    waiting.popleft()
                if waiting and reporter != reported.reporter:
                    return waiting[0]
        return None

    def _suspect(self, reported: _ReportedCall, alike: Iterable[str]) -> bool:
        """Whether another reporter reported a call like this one; each is suspected once."""
        for name in alike:
            for reporter, waiting in self._waiting.get(name, {}).items():
                earliest = reported.at - ALIKE_SECONDS
                while waiting and (waiting[0].matched or waiting[0].at < earliest):
                    waiting.popleft()
                others = waiting and reporter != reported.reporter
                if others and waiting[0].at <= reported.at + ALIKE_SECONDS:
                    waiting.popleft()
                    return True
        return False

    def _remember(self, key: tuple[str, str, str], reported: _ReportedCall) -> None:
        self._reported[key] = reported
        if not reported.matched:
            for name in reported.names:
                reporters = self._waiting.setdefault(name, {})
                reporters.setdefault(reported.reporter, deque()).append(reported)
        if len(self._reported) > MAX_CALLS:
            self._forget(self._reported.pop(next(iter(self._reported))))

    def _forget(self, reported: _ReportedCall) -> None:
        for name in reported.names:
            reporters = self._waiting.get(name, {})
            waiting = reporters.get(reported.reporter)
            if waiting and waiting[0] is reported:
                waiting.popleft()
            if waiting is not None and not waiting:
                del reporters[reported.reporter]
                if not reporters:
                    del self._waiting[name]


def _alike(usage: Usage) -> tuple[str, ...]:
    """What calls have in common that may be one."""
    if sum(usage.tokens) < ALIKE_TOKENS or not usage.timestamp:
        return ()
    return (f"{undated(usage.model)} {'/'.join(map(str, usage.tokens))}",)
