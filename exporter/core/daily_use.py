"""What every provider was used for on each UTC day of late: to hold a provider's own count to."""

from math import inf

from exporter.core.slots import COARSE, FINE_SECONDS, WIDTH, Block, Counts, Increments, add

DAY_SECONDS = 86_400
KEPT_DAYS = 10
"""UTC days that are kept, the running one included."""

_SLOTS = DAY_SECONDS // FINE_SECONDS


class DailyUse:
    """Counts by provider and UTC day (Unix seconds // 86,400). Not thread-safe."""

    def __init__(self) -> None:
        self._days: dict[int, dict[str, Counts]] = {}
        self._first: dict[str, int] = {}

    def add(self, increments: Increments, now: float) -> None:
        """Count usage; days that are too old at `now` (Unix seconds) are dropped."""
        first = _first(now)
        for (series, slot), counts in increments.items():
            self._count(series.provider, slot // _SLOTS, counts, first)
        for day in [day for day in self._days if day < first]:
            del self._days[day]

    def load(self, block: Block, now: float) -> None:
        """Take up stored history, each block once."""
        if block.tier is not COARSE:
            return
        provider, first = block.series.provider, _first(now)
        day = block.number  # of the tier whose blocks are UTC days
        if self._first.get(provider, inf) <= day < first:  # most of a long history
            return
        counts = [0] * WIDTH
        for column, values in block.counts.items():
            counts[column] = int(values.sum())
        if any(counts):
            self._count(provider, day, counts, first)

    def _count(self, provider: str, day: int, counts: Counts, first: int) -> None:
        self._first[provider] = min(day, self._first.get(provider, day))
        if day >= first:
            add(self._days.setdefault(day, {}), provider, counts)

    def first_day(self, provider: str) -> int | None:
        """The first day that is remembered of a provider; None when it was never used."""
        return self._first.get(provider)

    def counted(self, provider: str, day: int) -> Counts:
        """What was counted on a day that is kept; a copy."""
        return list(self._days.get(day, {}).get(provider, [0] * WIDTH))


def _first(now: float) -> int:
    return int(now // DAY_SECONDS) - KEPT_DAYS + 1
