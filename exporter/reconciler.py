"""Keeping what is counted in memory the same as what is stored, and as it is wanted.

What is wanted changes by reloads, by operators for a while, and by windows that providers begin to
report; what is stored changes by other replicas. Where what is counted so far does not do, it is
made anew from all that is stored.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from math import inf

from exporter.config import Config
from exporter.core.budget import Budget
from exporter.core.slots import FINE_SECONDS
from exporter.counted_usage import CountedUsage, Stored, fold
from exporter.documents import Documents
from exporter.names import Names
from exporter.overrides import Overrides
from exporter.provider_views import ProviderViews
from exporter.quota_states import QuotaStates, budgets_in
from exporter.storage.contract import Changes, StorageError
from exporter.storage.group_commit import GroupCommit
from exporter.system_clock import SystemClock

MAX_WAITED = 60.0  # seconds that a refresh may have waited for its turn
REPORTED_SECONDS = 60.0  # between two readings of the store for windows that are reported anew


class Reconciler:
    """Brings what is counted in line. Runs on the event loop's thread.

    Attributes:
        config: the configuration in force.
        outdated: what is counted was made under another clock.
        adopt: gets a configuration that comes into force, before anything is counted by it.
    """

    def __init__(
        self,
        config: Config,
        usage: CountedUsage,
        states: QuotaStates,
        overrides: Overrides,
        documents: Documents,
        names: Names,
        views: ProviderViews,
        commits: GroupCommit,
        clock: SystemClock,
        touched: set[str],
        *,
        shared: bool,
    ) -> None:
        """`touched` gets the providers of which something changed."""
        self.config = config
        self.outdated = False
        self.adopt: Callable[[Config], None] = lambda config: None
        self._usage = usage
        self._states = states
        self._overrides = overrides
        self._documents = documents
        self._names = names
        self._views = views
        self._commits = commits
        self._clock = clock
        self._touched = touched
        self._shared = shared
        self._rebuilding = asyncio.Lock()
        self._reported_changes = 0  # up to which reported windows are measured
        self._read_reported_from = -inf

    async def reload(
        self, config: Config, now: float, adopted: Callable[[], None] = lambda: None
    ) -> None:
        """Put a new configuration in force: see `Service.reload`."""
        # A rebuild that is under way would put the configuration back that it began with.
        async with self._rebuilding:
            retention = self.config.retention
            if config.retention != retention or not self._usage.ledger.index.serves(config.budgets):
                await self._replace(config, now, adopted)
            else:
                self._adopt(config)
                self._use_budgets(now)
                adopted()
        self._touched.update(config.budgets)

    def _adopt(self, config: Config) -> None:
        self.config = config
        self.adopt(config)

    async def rebuild(self, now: float) -> None:
        """Make what is counted anew from all that is stored, under the configuration in force.

        Raises:
            StorageError: it cannot be read.
        """
        async with self._rebuilding:
            await self._replace(self.config, now)

    async def _replace(
        self, config: Config, now: float, adopted: Callable[[], None] = lambda: None
    ) -> None:
        before = self.config.retention
        known = self._states.reported.budgets(config.budgets)

        def budgets(documents: Mapping[str, bytes]) -> Mapping[str, Sequence[Budget]]:
            stored = budgets_in(documents, config.budgets, config.prediction)
            return {
                name: tuple(dict.fromkeys((*known.get(name, ()), *stored.get(name, ()))))
                for name in (*known, *stored)
            }

        stored = Stored(config.retention, budgets, now)

        def swap() -> None:
            # Before any later commit is counted: see GroupCommit.call_in_steps.
            self._adopt(config)
            self._usage.replace(stored)
            for series, at in stored.last_used.items():
                self._names.use(series, at)
            self._documents.apply(stored.documents)
            self._use_budgets(now, anew=self._overrides.hold(now))
            self._views.restart()
            adopted()

        await self._commits.call_in_steps(lambda store: fold(store, now))
        try:
            await self._commits.call_in_steps(
                lambda store: stored.read(store, before), swap, self._usage.expect_replacement
            )
        except BaseException:
            self._usage.keep()
            raise

    async def catch_up(self, now: float) -> float:
        """Know all that was counted, here and elsewhere; the moment to go on with.

        Raises:
            StorageError: what is outdated cannot be read anew.
        """
        present = self._clock.now()
        if self.outdated:
            await self.rebuild(present)
            self.outdated = False
        if abs(now - present) > MAX_WAITED:  # who waited may have read the clock before it was set
            now = present
        if self._shared:
            await self.follow_others(now)
        if self._overrides.outdated(now):
            self._use_budgets(now)
        await self._follow_reported(now)
        return now

    async def _follow_reported(self, now: float) -> None:
        """Measure also windows that a provider has begun to report, from all that is stored."""
        changes = self._states.reported.changes
        if changes == self._reported_changes:
            return
        if not self._use_budgets(now):
            # Models are seen one after the other, and this reads all there is.
            if self._clock.steady() < self._read_reported_from:
                return
            self._read_reported_from = self._clock.steady() + REPORTED_SECONDS
            try:
                await self.rebuild(now)
            except StorageError as error:
                self._commits.health.note("read", error)
                return
        self._reported_changes = changes

    def _use_budgets(self, now: float, *, anew: bool = False) -> bool:
        """Measure the budgets of the configuration, as operators want them now, and the windows
        that providers report; whether all of them are counted."""
        index = self._usage.ledger.index
        # A silence alone makes no other budget.
        changed = anew or self._overrides.outdated(now)
        reported = self._states.reported.budgets(self.config.budgets)
        wanted = self._overrides.applied(reported, now)
        counted = index.served(wanted)
        if changed or counted != index.budgets:
            self._usage.set_budgets(counted)
            self._touched.update(counted)
        return counted == wanted

    async def follow_others(self, now: float) -> None:
        """Know what other replicas committed; where that cannot be read, it is logged."""
        commits = self._commits
        try:
            changes = await commits.call(lambda store: store.changes(now), then=self._follow)
            if changes is not None and not changes.complete:
                await self.rebuild(now)
        except StorageError as error:
            commits.health.note("read", error)  # what is known stays worth showing
        else:
            commits.health.note("read", None)

    def _follow(self, changes: Changes | None) -> None:
        """Take over what was committed by this replica and others."""
        if changes is not None:
            self._usage.add(changes.increments)
            for series, slot in changes.increments:
                self._names.use(series, slot * FINE_SECONDS)
            self._touched.update(series.provider for series, _ in changes.increments)
            self._documents.apply(changes.documents)
            if changes.documents:
                self._views.restart()
