"""How much may still be used before a quota is spent, known at once when something is used.

Measuring costs a forecast; this is a few additions. Between two measurements use only grows, and
what a window frees only adds room: so a quota cannot be spent before its headroom is used up, and
whoever finds it used up has to look.
"""

from collections.abc import Iterable, Mapping
from math import inf

from exporter.core.budget import Quota
from exporter.core.ledger import Ledger, amount_of
from exporter.core.measure import Measurement
from exporter.core.slots import Cell, Counts


class Headroom:
    """The headroom of the rows of a ledger. Not for concurrent use."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._left: dict[int, float] = {}

    def measured(self, found: Iterable[Measurement], added: Mapping[Cell, Counts]) -> None:
        """Take over what was measured; `added` was used since, and is not in it."""
        rows: dict[int, float] = {}
        for one in found:
            if one.quota.reported:
                continue
            row = self._ledger.row(one.quota)
            rows[row] = min(_left(one.quota, one.used), rows.get(row, inf))
        for (series, _), counts in added.items():
            for row, terms in self._ledger.known_members(series) or ():
                if row in rows:
                    rows[row] -= amount_of(counts, terms)
        self._left.update(rows)

    def looked(self, row: int, used: Iterable[tuple[Quota, float]]) -> None:
        """Take over what is used in the quotas on a row."""
        self._left[row] = min((_left(quota, amount) for quota, amount in used), default=inf)

    def use(self, added: Mapping[Cell, Counts]) -> set[int]:
        """Take what was used from the headroom; the rows of which none is left.

        Of a series that was never met nothing is known: its rows count as used up.
        """
        gone: set[int] = set()
        for (series, _), counts in added.items():
            rows = self._ledger.known_members(series)
            if rows is None:
                gone.update(row for row, _ in self._ledger.members(series))
                continue
            for row, terms in rows:
                left = self._left.get(row, 0.0) - amount_of(counts, terms)
                self._left[row] = left
                if left <= 0:
                    gone.add(row)
        return gone


def _left(quota: Quota, used: float) -> float:
    """What is left of a quota; of one that is spent there is nothing to find out."""
    left = quota.budget.spent_at - used
    return left if left > 0 else inf
