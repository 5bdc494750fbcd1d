"""A provider's own count of a UTC day beside ours: lost pushes, and others who use the account.

Providers report late, so a finished day is compared only `DELAY` after its end. A count that a
provider keeps of the running day (OpenRouter's) is compared as it was when it was read.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from exporter.core.budget import NANO
from exporter.core.daily_use import DAY_SECONDS
from exporter.core.slots import COST, REQUESTS, Counts

DELAY = 3 * 3600.0
"""Seconds after the end of a day from which on its count is taken for complete. Anthropic says that
usage appears within five minutes
(https://platform.claude.com/docs/en/manage-claude/usage-cost-api); OpenAI promises nothing."""

COMPARED_DAYS = 8
"""Days that are looked back at, to say since when the counts differ."""

UNITS = ("tokens", "requests", "usd")


class DayCount(NamedTuple):
    """What a provider counted on one UTC day; None where it does not say.

    Attributes:
        day: Unix seconds // 86,400.
        running: it is the day's count up to the moment of the reading.
    """

    day: int
    tokens: float | None = None
    requests: float | None = None
    usd: float | None = None
    running: bool = False

    def plus(self, other: "DayCount") -> "DayCount":
        """Both together, of the same day."""
        return DayCount(
            self.day,
            _sum(self.tokens, other.tokens),
            _sum(self.requests, other.requests),
            _sum(self.usd, other.usd),
            self.running or other.running,
        )


class CountDrift(NamedTuple):
    """How far the two counts of the last compared day are from each other.

    Attributes:
        unit: one of `UNITS`.
        day: Unix seconds // 86,400 of that day.
        theirs, ours: what was counted on it.
        ratio: (theirs - ours) / the larger of both, -1 to 1; 0 when both are 0.
        since: Unix seconds at which the first day began, of those up to the last in a row on which
            the counts differed the same way and at least half as much; None when they agree.
    """

    unit: str
    day: int
    theirs: float
    ours: float
    ratio: float
    since: float | None


class ProviderCounts:
    """What providers counted, beside what we had counted when they said so.

    Attributes:
        read_at: provider -> Unix seconds of the last reading that succeeded.
    """

    def __init__(self) -> None:
        self.read_at: dict[str, float] = {}
        self._days: dict[str, dict[int, tuple[DayCount, DayCount]]] = {}

    def record(
        self,
        provider: str,
        counts: Iterable[DayCount],
        counted: Callable[[int], Counts],
        first_day: int | None,
        now: float,
    ) -> None:
        """Take in what a provider counted, as read at `now` (Unix seconds).

        Args:
            counted: what we counted on a day.
            first_day: on which we first counted anything; only later days are whole.
        """
        days = self._days.setdefault(provider, {})
        for theirs in counts:
            if first_day is None or theirs.day <= first_day:
                continue
            if theirs.running or now >= (theirs.day + 1) * DAY_SECONDS + DELAY:
                days[theirs.day] = theirs, _ours(theirs.day, counted(theirs.day))
        oldest = int(now // DAY_SECONDS) - COMPARED_DAYS
        for day in [day for day in days if day < oldest]:
            del days[day]
        self.read_at[provider] = now

    def keep(self, providers: Iterable[str]) -> None:
        """Forget all providers but these."""
        kept = set(providers)
        for provider in self.read_at.keys() - kept:
            del self.read_at[provider]
            del self._days[provider]

    def drifts(self) -> dict[str, tuple[CountDrift, ...]]:
        """By provider, the drift in every unit that it counts in."""
        return {provider: tuple(_drifts(days)) for provider, days in self._days.items()}


def _drifts(days: dict[int, tuple[DayCount, DayCount]]) -> Iterator[CountDrift]:
    for unit in UNITS:
        said = {
            day: (theirs_said, getattr(ours, unit) or 0.0)
            for day, (theirs, ours) in days.items()
            if (theirs_said := getattr(theirs, unit)) is not None
        }
        if not said:
            continue
        last = max(said)
        theirs, ours = said[last]
        ratio = _ratio(theirs, ours)
        first = last
        # What is less than half as much, or the other way round, is another matter.
        while first - 1 in said and 2 * _ratio(*said[first - 1]) * ratio >= ratio * ratio > 0:
            first -= 1
        since = float(first * DAY_SECONDS) if ratio else None
        yield CountDrift(unit, last, theirs, ours, ratio, since)


def _ratio(theirs: float, ours: float) -> float:
    most = max(theirs, ours)
    return (theirs - ours) / most if most else 0.0


def _ours(day: int, counts: Counts) -> DayCount:
    tokens, requests, cost = sum(counts[:REQUESTS]), counts[REQUESTS], counts[COST]
    return DayCount(day, float(tokens), float(requests), cost / NANO)


def _sum(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else one + other
