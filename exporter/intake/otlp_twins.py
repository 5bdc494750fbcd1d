"""One call reported by two libraries of a service that do not know of each other.

Where the span of the one is not within the other's (a stream that outlives the function that began
it), the calls are told apart by their times: two spans of different libraries, of as many tokens,
the time of one within that of the other, are of one call.
"""

from typing import NamedTuple

MAX_CALLS = 50_000
"""Remembered: some minutes of a busy service."""

SLACK = 0.005
"""Seconds that clocks read within one call may differ."""


class LibrarySpan(NamedTuple):
    """A call as a library reports it.

    Attributes:
        library: name of the instrumentation scope.
        identity: of the span.
        start, end: Unix seconds.
    """

    library: str
    identity: str
    start: float
    end: float


class Twins:
    """The calls of the last minutes, by who made them of whom with how many tokens.

    Not for use by several threads at once.
    """

    def __init__(self) -> None:
        self._calls: dict[str, tuple[str, str, int]] = {}
        self._alike: dict[tuple[str, str, int], list[LibrarySpan]] = {}
        self._twins: dict[str, str] = {}

    def repeats(self, service: str, provider: str, tokens: int, span: LibrarySpan) -> bool:
        """Whether another library has reported this call; from then on it is known.

        Asking again about the same span gives the same answer.
        """
        if span.identity in self._twins:
            return self._twins[span.identity] != ""
        if not tokens or not span.library or span.identity in self._calls:
            return False
        among = (service, provider, tokens)
        twin = next((one for one in self._alike.get(among, ()) if _same(one, span)), None)
        self._remember(among, span)
        if twin is None:
            return False
        self._twins[span.identity] = twin.identity
        self._twins[twin.identity] = ""  # that one counts, and has no other
        self._alike[among] = [one for one in self._alike[among] if one not in (span, twin)]
        return True

    def _remember(self, among: tuple[str, str, int], span: LibrarySpan) -> None:
        self._calls[span.identity] = among
        self._alike.setdefault(among, []).append(span)
        if len(self._calls) > MAX_CALLS:
            oldest = next(iter(self._calls))
            self._twins.pop(oldest, None)
            among = self._calls.pop(oldest)
            left = [one for one in self._alike.pop(among, ()) if one.identity != oldest]
            if left:
                self._alike[among] = left


def _same(one: LibrarySpan, other: LibrarySpan) -> bool:
    if one.library == other.library:
        return False
    starts, ends = one.start - other.start, one.end - other.end
    within = starts >= -SLACK and ends <= SLACK
    around = starts <= SLACK and ends >= -SLACK
    return within or around
