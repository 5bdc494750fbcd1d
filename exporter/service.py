"""The one owner of state: what was used, who is exhausted and why, and what providers said.

Everything here runs on the event loop's thread, except measuring, which runs beside it.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

import msgspec

from exporter.availability import Availability
from exporter.config import Config
from exporter.core.budget import Budget, Quota
from exporter.core.forecast import Explanation
from exporter.core.measurement import Measurement
from exporter.core.provider_count import DayCount, ProviderCounts
from exporter.core.scope import OTHER, Scope
from exporter.core.scorer import ForecastScorer
from exporter.core.series import Series
from exporter.core.signal import Signal
from exporter.core.slots import FINE_SECONDS, REQUESTS, Increments
from exporter.core.usage import Tokens
from exporter.core.views import Explained, ProviderView
from exporter.counted_usage import CountedUsage, Stored, fold
from exporter.documents import Documents
from exporter.names import Names
from exporter.overrides import Document, Overrides
from exporter.provider_views import ProviderViews
from exporter.quota_states import QuotaStates, budgets_in
from exporter.recorder import Recorder
from exporter.snapshot import Snapshot
from exporter.storage.contract import Changes, StorageError
from exporter.storage.group_commit import GroupCommit
from exporter.system_clock import SystemClock
from exporter.unmatched import UnmatchedBudgets
from exporter.workers import Kind, Workers

EVERYBODY_SECONDS = 10.0  # how often also those are looked at who used nothing
PRUNE_SECONDS = 3600.0
PRUNE_AFTER_JUMP = 86400.0  # seconds for a person, or NTP, to set right a clock that was set wrong
MAX_WAITED = 60.0  # seconds that a refresh may have waited for its turn
TURN_SECONDS = 0.0005  # of work on many providers, after which pushes have their turn
REPORTED_SECONDS = 60.0  # between two readings of the store for windows that are reported anew
LAST_PUSH_SECONDS = 10.0  # how exactly the time of the last push survives a restart

_LAST_PUSH = "last_push"
_FORECASTS = "forecasts"

Cost = Callable[[str, str, Tokens, int], int | None]
"""From provider, model, tokens and those of its cache writes that are kept for an hour to whole
nano-US-dollars; None where there is no price."""


class Service:
    """Counts usage durably and knows every provider's quota state.

    Attributes:
        config: the configuration in force.
        usage: what was counted.
        recorder: makes durable what comes in.
        states: every provider's quota state.
        availability: what routers are told.
        provider_views: what is shown of every provider.
        forecasts: how right the forecasts were.
        provider_counts: what providers counted themselves.
        documents: what is stored by name; to change one, put it into a batch.
        overrides: what operators set for a while.
        names: which providers, models and consumers are told apart.
        last_push: Unix seconds of the last usage that was stored, 0 when none was.
        workers: where slow work runs.
    """

    def __init__(
        self,
        config: Config,
        commits: GroupCommit,
        shared: bool,
        clock: Callable[[], float],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over `commits`.

        Args:
            shared: others write to the same store.
            clock: Unix seconds.
            steady: seconds of a clock that is never set.
        """
        self.config = config
        self._clock = SystemClock(clock, steady)
        commits.counted = self._count
        self.usage = CountedUsage(config)
        self.names = Names()
        self.names.configure(config.limits, config.providers)
        self.last_push = 0.0
        self.workers = Workers()
        self.states = QuotaStates()
        self.states.forgot = self.names.forget
        self.overrides = Overrides()
        self.documents = Documents(self._read_state, self._read_last_push, self.overrides.read)
        self.states.reported.configure(config.prediction)
        self.availability = Availability(self.states, self.models)
        self.provider_views = ProviderViews(self.states, self.models, self._knows)
        self.provider_views.used_since = self.usage.used_since
        self.states.noticed = self._notice
        self.forecasts = ForecastScorer()
        self.provider_counts = ProviderCounts()
        self._touched: set[str] = set()
        self.recorder = Recorder(commits, self.states, self._touched.add)
        self._commits = commits
        self._shared = shared
        self._measuring = asyncio.Lock()
        self._rebuilding = asyncio.Lock()
        self._committed = asyncio.Event()  # by somebody, perhaps another replica
        self._everybody_at = 0.0
        # By the steady clock. Not at once: a machine may start with a wrong clock.
        self._prune_from = steady() + PRUNE_SECONDS
        self._outdated = False  # what is counted was made under another clock
        self._reported_changes = 0  # up to which reported windows are measured
        self._read_reported_from = -inf
        self._unmatched = UnmatchedBudgets()

    async def start(self, now: float) -> None:
        """Take up the stored state.

        Raises:
            StorageError: it cannot be read.
        """
        await self._rebuild(now)
        self.states.remember(now)
        # Only now: what is stored is older than what a running process knows.
        if body := self.documents.notes.get(_FORECASTS):
            try:
                self.forecasts = ForecastScorer.load(body)
            except msgspec.MsgspecError as error:
                self.documents.skip(_FORECASTS, error)

        if self._shared:
            self._commits.on_commit(self._committed.set)
        await self.refresh(now)

    def _notice(self, scope: Scope, now: float) -> None:
        """Something of a scope may have changed."""
        self.availability.update(scope, now)
        self.provider_views.changed((scope.provider,))

    def _knows(self, provider: str) -> bool:
        return provider in self.config.budgets or self.names.knows(provider)

    async def reload(
        self, config: Config, now: float, adopted: Callable[[], None] = lambda: None
    ) -> None:
        """Put a new configuration in force, keeping all that was counted.

        Only what changed is made anew. `adopted` is called in the very turn of the event loop in
        which the new configuration comes into force.

        Raises:
            StorageError: the history cannot be read; the old configuration stays.
        """
        # A rebuild that is under way would put the configuration back that it began with.
        async with self._rebuilding:
            retention = self.config.retention
            if config.retention != retention or not self.usage.ledger.index.serves(config.budgets):
                await self._replace(config, now, adopted)
            else:
                self._adopt(config)
                self._use_budgets(now)
                adopted()
        self._touched.update(config.budgets)

    def _adopt(self, config: Config) -> None:
        self.config = config
        self.names.configure(config.limits, config.providers)
        self.states.reported.configure(config.prediction)
        self.provider_counts.keep(config.accounts)

    async def _rebuild(self, now: float) -> None:
        """Make what is counted anew from all that is stored, under the configuration in force."""
        async with self._rebuilding:
            await self._replace(self.config, now)

    async def _replace(
        self, config: Config, now: float, adopted: Callable[[], None] = lambda: None
    ) -> None:
        before = self.config.retention
        known = self.states.reported.budgets(config.budgets)

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
            self.usage.replace(stored)
            for series, at in stored.last_used.items():
                self.names.use(series, at)
            self.documents.apply(stored.documents)
            self._use_budgets(now, anew=self.overrides.hold(now))
            self.provider_views.restart()
            adopted()

        await self._commits.call_in_steps(lambda store: fold(store, now))
        try:
            await self._commits.call_in_steps(
                lambda store: stored.read(store, before), swap, self.usage.expect_replacement
            )
        except BaseException:
            self.usage.keep()
            raise

    async def _follow_reported(self, now: float) -> None:
        """Measure also windows that a provider has begun to report, from all that is stored."""
        changes = self.states.reported.changes
        if changes == self._reported_changes:
            return
        if not self._use_budgets(now):
            # Models are seen one after the other, and this reads all there is.
            if self._clock.steady() < self._read_reported_from:
                return
            self._read_reported_from = self._clock.steady() + REPORTED_SECONDS
            try:
                await self._rebuild(now)
            except StorageError as error:
                self._commits.note("read", error)
                return
        self._reported_changes = changes

    def _use_budgets(self, now: float, *, anew: bool = False) -> bool:
        """Measure the budgets of the configuration, as operators want them now, and the windows
        that providers report; whether all of them are counted."""
        # A silence alone makes no other budget.
        changed = anew or self.overrides.outdated(now)
        wanted = self.overrides.applied(self.states.reported.budgets(self.config.budgets), now)
        counted = self.usage.ledger.index.served(wanted)
        if changed or counted != self.usage.ledger.index.budgets:
            self.usage.set_budgets(counted)
            self._touched.update(counted)
        return counted == wanted

    async def override(self, document: Document) -> None:
        """Make durable what was just set in `overrides`; it holds from the next refresh on.

        Raises:
            StorageError: it could not be stored, and will be tried again.
        """
        name, body = document
        self.states.changed[name] = body
        await self.recorder.save()

    def _read_state(self, name: str, body: bytes) -> bool:
        return self.states.take(name, body, self._clock.now())

    def _read_last_push(self, name: str, body: bytes) -> bool:
        if name != _LAST_PUSH:
            return False
        self.last_push = max(self.last_push, msgspec.json.decode(body, type=float))
        return True

    # -- what comes in --

    def place(self, provider: str, model: str = "", consumer: str = "") -> Series:
        """Where usage is counted: under these names, or in `other` beyond a cap.

        May be called in any thread.
        """
        return self.names.place(provider, model, consumer, self._clock.now())

    @property
    def cost(self) -> Cost | None:
        """What usage costs that does not say; None where nothing has a price."""
        prices = self.config.prices
        return prices.cost if prices.configured or prices.listed else None

    @property
    def storage_up(self) -> bool:
        """The store did what it was last asked."""
        return self._commits.up

    @property
    def overloaded(self) -> bool:
        """More requests wait for the disk than the limits allow."""
        return self._commits.outstanding >= self.config.limits.outstanding_requests

    def _count(self, added: Increments) -> None:
        """Take in what a group of batches added."""
        now = self._clock.now()
        if now - self.last_push >= LAST_PUSH_SECONDS:
            self.states.changed[_LAST_PUSH] = msgspec.json.encode(now)
        self.last_push = now
        if not self._shared:  # where others count too, all is counted at the next refresh
            self.usage.add(added)
        providers = {series.provider for series, _ in added}
        self._touched |= providers
        for (series, slot), counts in added.items():
            moment = slot * FINE_SECONDS
            self.names.use(series, moment)
            if any(counts[:REQUESTS]):  # tokens were processed: that is evidence of a success
                recent = now - moment < FINE_SECONDS
                self.states.succeeded(series, now if recent else moment, now)
        if not self._shared:
            for quota, used, until in self.usage.newly_spent(added, now):
                self.states.spend(quota, used, until, now)
            self.provider_views.changed(self.usage.ledger.index.pooled(providers))

    def signal(self, signal: Signal, now: float) -> None:
        """Take in what a provider said of its quota."""
        self._touched.add(signal.provider)
        self.states.signal(signal, now)

    def compare(self, provider: str, counts: Iterable[DayCount], now: float) -> None:
        """Hold what a provider counted to what was counted here."""
        self.usage.flush(now)
        daily = self.usage.daily
        self.provider_counts.take(
            provider,
            counts,
            lambda day: daily.counted(provider, day),
            daily.first_day(provider),
            now,
        )

    # -- what time and others change --

    async def stop(self, now: float) -> None:
        """Store what is only stored now and then.

        Raises:
            StorageError: it could not be stored.
        """
        self.workers.close()
        self.states.changed[_FORECASTS] = self.forecasts.dump(now)
        await self.recorder.save()

    async def due(self, longest: float) -> None:
        """Wait until others may have committed something, or a window ends; for `longest` seconds
        at most."""
        end = self.provider_views.next_end - self._clock.now()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(longest, end))):
                await self._committed.wait()

    async def tick(self, now: float) -> None:
        """Bring up to date whoever was touched; everybody now and then; prune now and then.

        Raises:
            StorageError: something could not be stored or read; the next tick tries again.
        """
        self._committed.clear()
        await self._check()
        self._touched.update(self.provider_views.ended(now))
        if now - self._everybody_at >= EVERYBODY_SECONDS or now < self._everybody_at:
            await self.refresh(now)
        else:
            async with self._measuring:
                now = await self._catch_up(now)
                await self._measure(now, frozenset(self._touched))
        if not self.storage_up:
            # Nobody pushes to an exporter that is not ready: find out by writing something.
            self.states.changed[_LAST_PUSH] = msgspec.json.encode(self.last_push)
        await self.recorder.save()
        if self._clock.steady() >= self._prune_from:
            self.states.changed[_FORECASTS] = self.forecasts.dump(now)
            await self._prune(now)

    async def _check(self) -> None:
        try:
            ahead = await self._commits.call(lambda store: store.check(self._clock.now()))
        except StorageError as error:
            self._commits.note("keep", error)
            raise
        self._commits.note("keep", None)
        self._clock.compare(ahead)

    async def _prune(self, now: float) -> None:
        try:
            await self._commits.call(lambda store: store.prune(now))
        except StorageError as error:
            self._commits.note("prune", error)
            raise
        self._commits.note("prune", None)
        self.names.forget_unused(now - self.config.retention)
        self.states.reported.forget_old(now)
        # Of whoever has been used for less than a day, a day's names are not known yet.
        history = {name: self.usage.meter.history_days(name, now) for name in self.config.budgets}
        known = {
            name: those for name, those in self.config.budgets.items() if (history[name] or 0) >= 1
        }
        self._unmatched.check(known, self.names.used_since, now)
        self._prune_from = self._clock.steady() + PRUNE_SECONDS

    async def _check_clock(self, now: float) -> float:
        """Notice when the clock was set, and go on counting; the moment to go on with.

        Whether it was wrong before or is wrong now, nobody knows: nothing is dropped because of
        it, and what is held in memory is made anew from all that is stored.

        Raises:
            StorageError: it cannot be read.
        """
        if self._clock.was_set():
            self._prune_from = self._clock.steady() + PRUNE_AFTER_JUMP
            self._everybody_at = 0.0
            self._outdated = True
        present = self._clock.now()
        if self._outdated:
            await self._rebuild(present)
            self._outdated = False
        # Who waited meanwhile may have read the clock before it was set.
        return now if abs(now - present) <= MAX_WAITED else present

    async def refresh(
        self, now: float, providers: Iterable[str] | None = None
    ) -> dict[str, ProviderView]:
        """Measure `providers` (or everybody), settle their states, and show them."""
        async with self._measuring:
            now = await self._catch_up(now)
            return await self._measure(now, providers)

    async def _catch_up(self, now: float) -> float:
        """Know all that was counted, here and elsewhere; the moment to go on with."""
        now = await self._check_clock(now)
        if self._shared:
            await self._follow_others(now)
        if self.overrides.outdated(now):
            self._use_budgets(now)
        await self._follow_reported(now)
        return now

    async def _measure(
        self, now: float, providers: Iterable[str] | None
    ) -> dict[str, ProviderView]:
        self.usage.begin_measuring(now)
        ledger, meter = self.usage.ledger, self.usage.meter  # a reload may replace them
        names = self.providers() if providers is None else ledger.index.pooled(set(providers))
        self._touched -= names
        if providers is None:
            self._everybody_at = now
            self.provider_views.keep(names)
        measured: dict[str, list[Measurement]] = {name: [] for name in sorted(names)}
        # A pool that is no longer configured is nobody's name: but something was said of it.
        known = {*names, *self.states.foreseen()} if providers is None else names
        by_scope = self.states.quotas_of(known, ())
        wanted = None if providers is None else names
        meter.was_out(self.states.outages.all())
        meter.reported(self.states.reported.reports)
        found = await self.workers.run(Kind.MEASURE, meter.measure, now, wanted)
        turn = _Turn()
        for one in found:
            measured[one.scope.provider].append(one)
            for scope in one.quota.scopes:
                by_scope.setdefault(scope, []).append(one)
            if turn.over:
                await turn.next()
        for name, quotas in measured.items():
            self.usage.measured(meter, quotas)
            self.provider_views.measured(name, quotas, meter.history_days(name, now))
            if turn.over:
                await turn.next()
        for scope, quotas in by_scope.items():
            self.states.settle(scope, quotas, meter.freed_at, now)
            if turn.over:
                await turn.next()
        views = {}
        for name, quotas in measured.items():
            # A model that was never seen before may be what is left of a provider.
            self.availability.update(Scope(name), now)
            views[name] = self.provider_views.of(name, now)
            if providers is None:
                self.forecasts.observe(quotas, now, meter.used_in)
            if turn.over:
                await turn.next()
        return views

    async def explain(self, provider: str, now: float) -> list[Explained]:
        """What the forecasts of a provider's quotas rest on."""
        await self.refresh(now, [provider])
        async with self._measuring:
            meter = self.usage.meter
            found = await self.workers.run(Kind.MEASURE, meter.explain, provider, now)
        return [Explained(one, why, self.forecasts.record(one.quota)) for one, why in found]

    async def explain_quotas(
        self, quotas: Collection[Quota], now: float
    ) -> dict[Quota, Explanation]:
        """What the forecasts of some quotas, of any providers, rest on; of those that are known."""
        async with self._measuring:
            self.usage.flush(now)
            meter = self.usage.meter
            return await self.workers.run(Kind.MEASURE, meter.explain_quotas, quotas, now)

    def models(self, provider: str) -> Collection[str]:
        """The models, by name, that `provider` is known to be used for."""
        return self.names.models(provider) - {OTHER}

    async def snapshot(self, now: float) -> Snapshot:
        """Everything that is shown, as it is at `now`."""
        views = await self.refresh(now)
        return Snapshot(
            at=now,
            views=views,
            totals=self.usage.totals.copy(),
            transitions=self.states.transitions.copy(),
            refusals=self.states.refusals.copy(),
            events=self.recorder.events.copy(),
            uncharged=self.recorder.uncharged.copy(),
            unpriced=self.recorder.unpriced.copy(),
            suspected=self.recorder.suspected.copy(),
            folded={what: self.names.folded[what] for what in ("provider", "model", "consumer")},
            scores=self.forecasts.scores(),
            count_drifts=self.provider_counts.drifts(),
            accounts_read=self.provider_counts.read_at.copy(),
            last_push=self.last_push,
            storage_up=self.storage_up,
            commits=self._commits.stats(),
            queues={"commit": self._commits.outstanding}
            | {kind.value: count for kind, count in self.workers.outstanding.items()},
            clock_jumps=self._clock.jumps.copy(),
            clock_last_jump=self._clock.last_jump,
            clock_ahead=self._clock.ahead,
        )

    async def backup(self) -> Path:
        """A copy of what is stored, as of one moment, in a file that the caller is to remove.

        One at a time: the second waits for the first.

        Raises:
            StorageError: the store is copied by other means, or cannot be.
        """
        return await self.workers.run(Kind.BACKUP, self._commits.backup)

    async def forget(self, provider: str) -> None:
        """Forget a provider's state and what it reported, here and on every other replica.

        Raises:
            StorageError: that could not be stored, and will be tried again.
        """
        if self._shared:
            await self._follow_others(self._clock.now())  # what they have just said goes, too
        self.states.forget(provider, self._clock.now())
        self.names.forget(provider)
        await self.recorder.save()

    def providers(self) -> set[str]:
        """Everybody known: with a budget, with usage, or with a state."""
        return {*self.config.budgets, *self.names.providers(), *self.states.providers()}

    async def _follow_others(self, now: float) -> None:
        try:
            changes = await self._commits.call(lambda store: store.changes(now), then=self._follow)
            if changes is not None and not changes.complete:
                await self._rebuild(now)
        except StorageError as error:
            self._commits.note("read", error)  # what is known stays worth showing
        else:
            self._commits.note("read", None)

    def _follow(self, changes: Changes | None) -> None:
        """Take over what was committed by this replica and others."""
        if changes is not None:
            self.usage.add(changes.increments)
            for series, slot in changes.increments:
                self.names.use(series, slot * FINE_SECONDS)
            self._touched.update(series.provider for series, _ in changes.increments)
            self.documents.apply(changes.documents)
            if changes.documents:
                self.provider_views.restart()


class _Turn:
    """The time for which work may keep everybody else waiting."""

    def __init__(self) -> None:
        self._ends = time.perf_counter() + TURN_SECONDS

    @property
    def over(self) -> bool:
        return time.perf_counter() >= self._ends

    async def next(self) -> None:
        """Let the others have their turns first."""
        await asyncio.sleep(0)
        self._ends = time.perf_counter() + TURN_SECONDS
