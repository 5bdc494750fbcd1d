"""When each scope was out, so that its demand can be learnt from the rest of the time.

Forecasts look at five minutes at a time: outages that are nearer to each other than that are one,
and an announced end is kept no more exactly, or much would be stored for nothing.
"""

from collections.abc import Iterable, Mapping
from math import inf

from exporter.core.clock import stamped_ahead
from exporter.core.scope import Scope
from exporter.core.slots import COARSE_SECONDS

MAX_SPANS = 1000
"""Kept of one scope: more than one an hour over five weeks."""

Span = tuple[float, float]
"""Unix seconds from which and until which a scope was out; the last end may be still to come."""


def revised(ours: Iterable[Span], theirs: Iterable[Span]) -> tuple[Span, ...]:
    """Two accounts of when a scope was out: theirs where ours says nothing of that time. An end may
    have moved either way since; ours is the later word. An empty one of ours is that all is
    forgotten."""
    said = list(ours)
    if not said:
        return ()
    beside = [
        (begin, end)
        for begin, end in theirs
        if not any(begin <= other_end and other <= end for other, other_end in said)
    ]
    return tuple(sorted((*said, *beside))[-MAX_SPANS:])


class Outages:
    """The times in which scopes were out, whatever the reason. Not for concurrent use."""

    def __init__(self, kept_seconds: float = 35 * 86_400.0) -> None:
        self._kept = kept_seconds
        self._spans: dict[Scope, tuple[Span, ...]] = {}

    def note(self, scope: Scope, retry_at: float | None, now: float) -> bool:
        """Note that a scope is out until `retry_at`, or is not; True when that was news.

        An outage that nobody sees ending ends when it was announced to.
        """
        spans = self._spans.get(scope, ())
        if spans and stamped_ahead(spans[-1][0], now):
            spans = tuple(span for span in spans if not stamped_ahead(span[0], now))
            self._spans[scope] = spans
        begin, end = spans[-1] if spans else (-inf, -inf)
        if retry_at is None:
            if end <= now:
                return False
            self._spans[scope] = (*spans[:-1], (begin, max(begin, now)))
        elif end <= now - COARSE_SECONDS:
            kept = tuple(span for span in spans if span[1] > now - self._kept)
            self._spans[scope] = (*kept, (now, retry_at))[-MAX_SPANS:]
        elif end <= now or abs(end - retry_at) >= COARSE_SECONDS:
            self._spans[scope] = (*spans[:-1], (begin, max(begin, retry_at)))
        else:
            return False
        return True

    def copy(self) -> "Outages":
        """Return another that knows the same."""
        copy = Outages(self._kept)
        copy._spans = self._spans.copy()
        return copy

    def of(self, scope: Scope) -> tuple[Span, ...]:
        """Return one scope's, in the order of time."""
        return self._spans.get(scope, ())

    def all(self) -> Mapping[Scope, tuple[Span, ...]]:
        """Return a copy of everybody's."""
        return self._spans.copy()

    def put(self, scope: Scope, spans: tuple[Span, ...]) -> None:
        """Take up what was stored."""
        self._spans[scope] = spans

    def forget(self, provider: str, until: float = inf) -> None:
        """Know of no outage of a provider any more that began by `until` (Unix seconds)."""
        for scope in [scope for scope in self._spans if scope.provider == provider]:
            later = tuple(span for span in self._spans.pop(scope) if span[0] > until)
            if later:
                self._spans[scope] = later
