"""Spans of one call within each other: an SDK's, a framework's around it, a gateway's in between.

Whoever instruments twice reports every call twice, and a trace that goes on through a gateway has
the call of the application around the gateway's. Of spans of calls within each other the first
that is seen counts, within a request the innermost: it knows most of the call.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

MAX_SPANS = 200_000
"""Remembered: some minutes of a busy service. Parents end within moments of their children."""


class SpanId(NamedTuple):
    """A span, and the one that it is in."""

    trace: str
    span: str
    parent: str


class Nesting:
    """Which spans are within or around the span of a call that was seen.

    Not for use by several threads at once.
    """

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], None] = {}
        self._around: dict[tuple[str, str], None] = {}

    def pass_through(self, ids: SpanId) -> None:
        """A span that is no call: what is in it is in what it is in."""
        self._inherit(ids)

    def repeats(self, ids: SpanId) -> bool:
        """Whether the span of a call is around or within another; from then on it is known.

        Asking again about the same span gives the same answer.
        """
        own, parent = (ids.trace, ids.span), (ids.trace, ids.parent)
        if own in self._around or (ids.parent and parent in self._calls and own not in self._calls):
            self._inherit(ids)
            return True
        _remember(self._calls, own)
        if ids.parent:
            _remember(self._around, parent)
        return False

    def _inherit(self, ids: SpanId) -> None:
        own, parent = (ids.trace, ids.span), (ids.trace, ids.parent)
        if ids.parent and own in self._around:
            _remember(self._around, parent)


def inside_out(spans: Sequence[SpanId]) -> Iterable[int]:
    """Positions of spans, every one after those that are within it."""
    depths: dict[tuple[str, str], int] = {}
    parents = {(one.trace, one.span): (one.trace, one.parent) for one in spans}
    for key in parents:
        path = []
        at: tuple[str, str] = key
        while at in parents and at not in depths:
            depths[at] = 0  # until it is known; a span within itself ends here, too
            path.append(at)
            at = parents[at]
        depth = depths.get(at, 0)
        for one in reversed(path):
            depth += 1
            depths[one] = depth
    return sorted(range(len(spans)), key=lambda at: -depths[spans[at].trace, spans[at].span])


def _remember(among: dict[tuple[str, str], None], key: tuple[str, str]) -> None:
    among.pop(key, None)
    among[key] = None
    if len(among) > MAX_SPANS:
        del among[next(iter(among))]
