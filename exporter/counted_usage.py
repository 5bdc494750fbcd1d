"""What is counted, in memory: the totals of every series, and the amounts of budgets."""

import math
import operator
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from exporter.config import Config
from exporter.core.budget import Budget, Quota
from exporter.core.daily_use import DailyUse
from exporter.core.headroom import Headroom
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.measurement import Measurement
from exporter.core.recent import RecentUse
from exporter.core.series import Series
from exporter.core.slots import MAX_SUM, WIDTH, Block, Counts, Increments, merge
from exporter.core.windows import Window
from exporter.storage.contract import Store

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


class Stored:
    """What is read from a store, once `read` has come to its end.

    Attributes:
        ledger: the amounts.
        totals: what every series counted since the store began.
        documents: small values by name.
        last_used: series -> Unix seconds by which it was last used.
        recent: what was used within the last hour.
        daily: what was used on each of the last days.
    """

    ledger: Ledger
    totals: Mapping[Series, Counts]
    documents: Mapping[str, bytes]

    def __init__(self, retention: float, budgets: BudgetsWith, now: float) -> None:
        """Of as long as `retention`; `budgets` gives what is to be counted."""
        self.last_used: dict[Series, float] = {}
        self.recent = RecentUse()
        self.daily = DailyUse()
        self._oldest = math.inf
        self._retention = retention
        self._budgets = budgets
        self._now = now

    def read(self, store: Store, before: float) -> Generator[None, None, None]:
        """Read all that is stored when the first step is over.

        Args:
            before: the retention in force, which stays when this fails.

        Raises:
            StorageError: it cannot be read.
        """
        store.set_retention(self._retention)
        try:
            loaded = store.load(self._now)
            self.totals, self.documents = loaded.totals, loaded.documents
            self.ledger = Ledger(self._budgets(self.documents), self._retention, self._now)
            yield
            yield from self.ledger.load_in_steps(self._noted(loaded.blocks))
        except BaseException:  # also when it is closed before the end
            store.set_retention(before)
            raise

    def _noted(self, blocks: Iterable[Block]) -> Iterator[Block]:
        used = self.last_used
        for block in blocks:
            start = block.number * block.tier.block_seconds
            if start < self._oldest:
                self._oldest = min(self._oldest, start + _first_used(block))
            end = start + block.tier.block_seconds
            used[block.series] = max(min(end, self._now), used.get(block.series, 0.0))
            self.recent.load(block, self._now)
            self.daily.load(block, self._now)
            yield block

    @property
    def oldest(self) -> float | None:
        """Unix seconds from which on there is usage, None when there is none."""
        return self._oldest if math.isfinite(self._oldest) else None


def _first_used(block: Block) -> float:
    """Seconds from the start of a block to its first bin with usage; infinite without."""
    firsts = [int(column.nonzero()[0][0]) for column in block.counts.values() if column.any()]
    return min(firsts, default=math.inf) * block.tier.block_seconds / block.tier.bins


def fold(store: Store, now: float) -> Generator[None, None, None]:
    """Do what `Store.load` would have to."""
    while store.tidy(now, thoroughly=True):
        yield


class CountedUsage:
    """What is counted, for the budgets of a configuration. Not for concurrent use, except that
    `meter` may measure in another thread.

    Attributes:
        oldest: Unix seconds from which on there was usage when the store was last read, None when
            there was none.
        totals: what every series counted since the store began, without what is pending.
        ledger: the amounts over time.
        meter: measures budgets by the ledger.
        recent: who used how much within the last hour.
        daily: how much every provider was used on each of the last days.
    """

    def __init__(self, config: Config) -> None:
        self.totals: dict[Series, Counts] = {}
        self.recent = RecentUse()
        self.daily = DailyUse()
        self.oldest: float | None = None
        self._pending: Increments = {}
        self._since: Increments | None = None  # all that was added since a store is being read
        self._use(Ledger(config.budgets, config.retention, 0.0))

    def _use(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.meter = BudgetMeter(ledger)
        self._headroom = Headroom(ledger)

    def expect_replacement(self) -> None:
        """All that is counted so far is about to be read from the store."""
        self._since = {}

    def keep(self) -> None:
        """Nothing is going to be replaced."""
        self._since = None

    def replace(self, stored: Stored) -> None:
        """Put what was read in the place of all that was counted before, or was still pending."""
        self._pending, self._since = self._since or {}, None
        self.totals = dict(stored.totals)
        self.recent = stored.recent
        self.daily = stored.daily
        self.oldest = stored.oldest
        self._use(stored.ledger)

    def set_budgets(self, budgets: Mapping[str, Sequence[Budget]]) -> None:
        """Measure other budgets, which the ledger can serve."""
        self._use(self.ledger.with_budgets(budgets))

    def add(self, added: Increments) -> None:
        """Count, at the next flush: by then the cells of many batches are few."""
        merge(self._pending, added)
        if self._since is not None:
            merge(self._since, added)

    def flush(self, now: float) -> None:
        """Bring ledger and totals up to date."""
        self.ledger.advance(now)
        self.ledger.add(self._pending)
        self.recent.add(self._pending, now)
        self.daily.add(self._pending, now)
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
            for quota in self.ledger.index.quotas_on(row):
                if quota.reported:
                    continue
                window, found = self.ledger.used(np.array([row]), quota.budget.period, now)
                used = float(found[0])
                amounts.append((quota, used))
                if used >= quota.budget.spent_at:
                    yield Spent(quota, used, self.ledger.available_at(quota, window, now))
            self._headroom.remeasured(row, amounts)

    def used_since(self, quota: Quota, window: Window) -> float:
        """What was used of a quota in a window since it was measured."""
        return self._headroom.used_since(quota, window)

    def begin_measuring(self, now: float) -> None:
        """Bring the ledger up to date: `meter` is going to measure what was used so far."""
        self.flush(now)
        self._headroom.begin()

    def measured(self, meter: BudgetMeter, found: Iterable[Measurement]) -> None:
        """Know the headroom of what `meter` measured, all quotas of some providers."""
        if meter is self.meter:  # or it belongs to budgets that are no longer in force
            self._headroom.measured(found)
