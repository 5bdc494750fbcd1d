"""How much may still be used before a quota is spent, and how much was used since it was measured.

Measuring costs a forecast; this is a few additions. Between two measurements use only grows, and
what a window frees only adds room: so a quota cannot be spent before its headroom is used up, and
whoever finds it used up has to look.
"""

from collections.abc import Iterable, Mapping
from math import inf

from exporter.core.budget import Quota
from exporter.core.ledger import Ledger
from exporter.core.measurement import Measurement
from exporter.core.quota_index import amount_of
from exporter.core.slots import FINE_SECONDS, Cell, Counts
from exporter.core.windows import Window


class Headroom:
    """The headroom of the rows of a ledger. Not for concurrent use."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left: dict[int, float] = {}
        # Row -> slot -> what was used since it was measured, and since the last `begin`.
        self._added: dict[int, dict[int, float]] = {}
        self._during: dict[int, dict[int, float]] = {}

    def begin(self) -> None:
        """A measurement begins, of all that was used so far."""
        self._during = {}

    def measured(self, found: Iterable[Measurement]) -> None:
        """Take over what was measured since `begin`: of a row, all of its quotas."""
        rows: dict[int, float] = {}
        for one in found:
            if not one.quota.reported:
                row = self._ledger.index.row(one.quota)
                rows[row] = min(_left(one.quota, one.used), rows.get(row, inf))
        for row, left in rows.items():
            slots = self._during.get(row)
            if slots:
                self._added[row] = slots.copy()
            else:
                self._added.pop(row, None)
            self._left[row] = left - sum(slots.values()) if slots else left

    def _add(self, row: int, slot: int, amount: float) -> None:
        for added in (self._added, self._during):
            slots = added.setdefault(row, {})
            slots[slot] = slots.get(slot, 0.0) + amount

    def used_since(self, quota: Quota, window: Window) -> float:
        """What was used of a quota in a window since it was measured."""
        if not self._added or not self._ledger.index.knows(quota):
            return 0.0
        slots = self._added.get(self._ledger.index.row(quota), {})
        return sum(amount for slot, amount in slots.items() if slot * FINE_SECONDS >= window.start)

    def remeasured(self, row: int, used: Iterable[tuple[Quota, float]]) -> None:
        """Take over what is used in the quotas on a row."""
        self._left[row] = min((_left(quota, amount) for quota, amount in used), default=inf)

    def use(self, added: Mapping[Cell, Counts]) -> set[int]:
        """Take what was used from the headroom; the rows of which none is left.

        Of a series that was never met nothing is known: its rows count as used up.
        """
        gone: set[int] = set()
        met = self._ledger.index.members
        together: dict[tuple[int, int], float] = {}  # many series add to one row
        for (series, slot), counts in added.items():
            rows = met.get(series)
            if rows is None:
                rows = self._ledger.members(series)
                gone.update(row for row, _ in rows)
            for row, terms in rows:
                key = (row, slot)
                together[key] = together.get(key, 0.0) + amount_of(counts, terms)
        for (row, slot), amount in together.items():
            self._add(row, slot, amount)
            left = self._left[row] = self._left.get(row, 0.0) - amount
            if left <= 0:
                gone.add(row)
        return gone


def _left(quota: Quota, used: float) -> float:
    """What is left of a quota; of one that is spent there is nothing to find out."""
    left = quota.budget.spent_at - used
    return left if left > 0 else inf
