"""Two reporters of the same calls, at least one of which names none: counters, spans without ids.

Nothing of theirs can be told apart, so nothing is left out. But their totals rise by the same: when
both have reported all calls, at a pause, the difference of the totals is what it was before. The
difference of others comes back to exactly the same number by chance alone, and so hardly ever.
Reporters without pauses between their calls are not recognised.
"""

from collections.abc import Iterable
from math import gcd

import msgspec

from exporter.core.usage import Usage
from exporter.intake.naming import undated

RETURNS = 3
"""How often a difference has to come back until two reporters are taken for alike."""

MAX_DIFFERENCES = 32
"""Remembered of two reporters: those that were not seen again for longest are forgotten."""

MIN_RISE = 100
"""Tokens that both totals rise by until the difference comes back, in units of what all of their
rises are multiples of: calls that always use the same come to the same difference by chance."""

MAX_MODELS = 1000
MAX_REPORTERS = 8
"""Compared at once, of one model; more are not."""

MAX_STREAMS = 20_000


class _Total(msgspec.Struct, eq=False):
    """Attributes:
    tokens: that were reported.
    nameless: whether it reported some without naming their call.
    """

    tokens: int = 0
    nameless: bool = False


class _Seen(msgspec.Struct, eq=False):
    """A difference of two totals.

    Attributes:
        total: what the first of them was when it was last seen.
        returns: how often it came back.
    """

    total: int
    returns: int = 0


class _Pair(msgspec.Struct, eq=False):
    """Attributes:
    unit: tokens that all rises are multiples of.
    seen: difference -> when it was seen, the latest last.
    last: whose total rose last, and the totals then.
    """

    unit: int = 0
    seen: dict[int, _Seen] = msgspec.field(default_factory=dict)
    last: tuple[str, int, int] | None = None

    def note(self, reporter: str, rise: int, first: int, second: int) -> None:
        """The totals are these after the one of a reporter rose."""
        self.unit = gcd(self.unit, rise)
        # While one of them reports call after call, the other has not reported these yet.
        if self.last is not None and self.last[0] != reporter:
            self._remember(*self.last[1:])
        self.last = reporter, first, second

    def _remember(self, first: int, second: int) -> None:
        seen = self.seen.pop(first - second, None) or _Seen(first)
        if first - seen.total >= MIN_RISE * self.unit:
            seen.total = first
            seen.returns += 1
        self.seen[first - second] = seen
        if len(self.seen) > MAX_DIFFERENCES:
            del self.seen[next(iter(self.seen))]

    @property
    def alike(self) -> bool:
        """Whether a difference came back often enough."""
        return any(seen.returns >= RETURNS for seen in self.seen.values())


class _Model(msgspec.Struct, eq=False):
    """Attributes:
    totals: reporter -> its total, in the order in which they were first heard.
    pairs: (reporter, one heard later) -> their differences.
    """

    totals: dict[str, _Total] = msgspec.field(default_factory=dict)
    pairs: dict[tuple[str, str], _Pair] = msgspec.field(default_factory=dict)


class AlikeTotals:
    """What was reported of each model, since the start of the process.

    Not for use by several threads at once.
    """

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._streams: dict[str, tuple[float, int]] = {}

    def suspected(self, usages: Iterable[Usage]) -> int:
        """How many of these, which count, another reporter seems to have reported too."""
        by_reporter: dict[tuple[str, str], list[Usage]] = {}
        for usage in usages:
            if usage.call is not None and usage.model and any(usage.tokens):
                by_reporter.setdefault((undated(usage.model), usage.call.reporter), []).append(
                    usage
                )
        suspected = 0
        for (name, reporter), some in by_reporter.items():
            rise = sum(map(self._rise, some))
            nameless = any(usage.call is not None and not usage.call.names for usage in some)
            if rise and self._alike(self._model(name), reporter, rise, nameless):
                suspected += len(some)
        return suspected

    def _alike(self, model: _Model, reporter: str, rise: int, nameless: bool) -> bool:
        """Whether somebody who was heard of earlier tells of what this reporter does."""
        if reporter not in model.totals and len(model.totals) >= MAX_REPORTERS:
            return False
        own = model.totals.setdefault(reporter, _Total())
        own.tokens += rise
        own.nameless |= nameless
        alike, earlier = False, True
        for other, total in model.totals.items():
            if other == reporter:
                earlier = False
            elif own.nameless or total.nameless:  # others are told apart by what they name
                key = (other, reporter) if earlier else (reporter, other)
                pair = model.pairs.setdefault(key, _Pair())
                first, second = (model.totals[one].tokens for one in key)
                pair.note(reporter, rise, first, second)
                alike |= earlier and pair.alike
        return alike

    def _rise(self, usage: Usage) -> int:
        tokens = sum(usage.tokens)
        if not usage.stream:
            return tokens
        at = usage.timestamp or 0.0
        before, level = self._streams.pop(usage.stream, (0.0, 0))
        if before and at <= before:  # a retry, or the other sender of a pair
            self._streams[usage.stream] = before, level
            return 0
        self._streams[usage.stream] = at, tokens
        if len(self._streams) > MAX_STREAMS:
            del self._streams[next(iter(self._streams))]
        return tokens - level if tokens >= level else tokens

    def _model(self, name: str) -> _Model:
        model = self._models.pop(name, None) or _Model()
        self._models[name] = model  # the longest silent stand first
        if len(self._models) > MAX_MODELS:
            del self._models[next(iter(self._models))]
        return model
