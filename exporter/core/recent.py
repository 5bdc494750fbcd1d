"""Who used how much within the last hour: to see at a glance who spends a budget right now."""

from collections.abc import Mapping

from exporter.core.series import Series
from exporter.core.slots import (
    COARSE_SECONDS,
    FINE,
    FINE_PER_COARSE,
    WIDTH,
    Block,
    Counts,
    Increments,
    add,
)

RECENT_SECONDS = 3600
"""How far back it looks."""

_BINS = RECENT_SECONDS // COARSE_SECONDS


class RecentUse:
    """Counts by series in bins of five minutes, for an hour.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._bins: dict[int, dict[Series, Counts]] = {}

    def add(self, increments: Increments, now: float) -> None:
        """Count usage; what is older than an hour at `now` (Unix seconds) is dropped."""
        first = _first(now)
        for (series, slot), counts in increments.items():
            number = slot // FINE_PER_COARSE
            if number >= first:
                add(self._bins.setdefault(number, {}), series, counts)
        for number in [number for number in self._bins if number < first]:
            del self._bins[number]

    def load(self, block: Block, now: float) -> None:
        """Take up stored history, each block once."""
        if block.tier is not FINE:
            return
        begin = block.number * FINE.bins // FINE_PER_COARSE
        for number in range(max(begin, _first(now)), begin + FINE.bins // FINE_PER_COARSE):
            at = (number - begin) * FINE_PER_COARSE
            counts = [0] * WIDTH
            for column, values in block.counts.items():
                counts[column] = int(values[at : at + FINE_PER_COARSE].sum())
            if any(counts):
                add(self._bins.setdefault(number, {}), block.series, counts)

    def totals(self, now: float) -> Mapping[Series, Counts]:
        """What every series used within the hour before `now`, to five minutes."""
        found: dict[Series, Counts] = {}
        first = _first(now)
        for number, used in self._bins.items():
            if number >= first:
                for series, counts in used.items():
                    add(found, series, counts)
        return found


def _first(now: float) -> int:
    return int(now // COARSE_SECONDS) - _BINS + 1
