"""What is counted, in memory: the totals of every series, and the amounts of budgets."""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from exporter.config import Config
from exporter.core.budget import Budget, Quota
from exporter.core.headroom import Headroom
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter, Measurement
from exporter.core.series import Series
from exporter.core.slots import MAX_SUM, WIDTH, Block, Counts, Increments, merge
from exporter.storage.contract import Loaded, Store

_NO_COUNTS = [0] * WIDTH

BudgetsWith = Callable[[Mapping[str, bytes]], Mapping[str, Sequence[Budget]]]
"""From stored documents to the budgets of every provider."""


class Spent(NamedTuple):
    """A quota that was found spent.

    Attributes:
        quota: which.
        used: in the unit of its budget.
        until: Unix seconds at which something is available again.
    """

    quota: Quota
    used: float
    until: float


class Stored(NamedTuple):
    """What was read from a store.

    Attributes:
        ledger: the amounts, for the budgets of a configuration.
        loaded: the rest, its blocks consumed.
        last_used: series -> Unix seconds by which it was last used.
        oldest: Unix seconds from which on there is usage, None when there is none.
    """

    ledger: Ledger
    loaded: Loaded
    last_used: Mapping[Series, float]
    oldest: float | None


def read(store: Store, retention: float, before: float, budgets: BudgetsWith, now: float) -> Stored:
    """Read all that is stored, of as long as `retention`.

    Args:
        before: the retention in force, which stays when this fails.
        budgets: gives what is to be counted, from the documents that are stored.

    Raises:
        StorageError: it cannot be read.
    """
    used: dict[Series, float] = {}
    oldest = math.inf

    def noted(blocks: Iterable[Block]) -> Iterator[Block]:
        nonlocal oldest
        for block in blocks:
            start = block.number * block.tier.block_seconds
            if start < oldest:
                oldest = min(oldest, start + _first_used(block))
            end = start + block.tier.block_seconds
            used[block.series] = max(min(end, now), used.get(block.series, 0.0))
            yield block

    store.set_retention(retention)
    try:
        loaded = store.load(now)
        ledger = Ledger(budgets(loaded.documents), retention, now)
        ledger.load(noted(loaded.blocks))
    except Exception:
        store.set_retention(before)
        raise
    return Stored(ledger, loaded, used, oldest if math.isfinite(oldest) else None)


def _first_used(block: Block) -> float:
    """Seconds from the start of a block to its first bin with usage; infinite without."""
    firsts = [int(column.nonzero()[0][0]) for column in block.counts.values() if column.any()]
    return min(firsts, default=math.inf) * block.tier.block_seconds / block.tier.bins


class CountedUsage:
    """What is counted, for the budgets of a configuration. Not for concurrent use, except that
    `meter` may measure in another thread.

    Attributes:
        oldest: Unix seconds from which on there was usage when the store was last read, None when
            there was none.
        totals: what every series counted since the store began, without what is pending.
        ledger: the amounts over time.
        meter: measures budgets by the ledger.
    """

    def __init__(self, config: Config) -> None:
        self.totals: dict[Series, Counts] = {}
        self.oldest: float | None = None
        self._pending: Increments = {}
        self._use(Ledger(config.budgets, config.retention, 0.0))

    def _use(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.meter = BudgetMeter(ledger)
        self._headroom = Headroom(ledger)

    def replace(self, stored: Stored) -> None:
        """Forget all that was counted for what was read from the store, which has it all."""
        self._pending = {}
        self.totals = dict(stored.loaded.totals)
        self.oldest = stored.oldest
        self._use(stored.ledger)

    def set_budgets(self, budgets: Mapping[str, Sequence[Budget]]) -> None:
        """Measure other budgets, which the ledger can serve."""
        self._use(self.ledger.with_budgets(budgets))

    def add(self, added: Increments) -> None:
        """Count, at the next flush: by then the cells of many batches are few."""
        merge(self._pending, added)

    def flush(self, now: float) -> None:
        """Bring ledger and totals up to date."""
        self.ledger.advance(now)
        self.ledger.add(self._pending)
        for (series, _), counts in self._pending.items():
            held = self.totals.get(series, _NO_COUNTS)
            # A new list: those of before may be in a snapshot.
            sums = map(operator.add, held, counts)
            self.totals[series] = [min(count, MAX_SUM) for count in sums]
        self._pending = {}

    def newly_spent(self, added: Increments, now: float) -> Iterator[Spent]:
        """The quotas that are spent by what was just added."""
        rows = self._headroom.use(added)
        if not rows:
            return
        self.flush(now)
        for row in rows:
            amounts = []
            for quota in self.ledger.quotas_on(row):
                if quota.reported:
                    continue
                window, found = self.ledger.used(np.array([row]), quota.budget.period, now)
                used = float(found[0])
                amounts.append((quota, used))
                if used >= quota.budget.spent_at:
                    yield Spent(quota, used, self.ledger.available_at(quota, window, now))
            self._headroom.looked(row, amounts)

    def measured(self, meter: BudgetMeter, found: Iterable[Measurement]) -> None:
        """Know the headroom of what `meter` measured since the last flush."""
        if meter is self.meter:  # or it belongs to budgets that are no longer in force
            self._headroom.measured(found, self._pending)
