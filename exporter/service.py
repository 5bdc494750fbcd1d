"""The one owner of state: what was used, who is exhausted and why, and what providers said.

Everything here runs on the event loop's thread, except measuring, which runs beside it.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import BinaryIO

import msgspec

from exporter.availability import Availability
from exporter.config import Config
from exporter.core.provider_count import DayCount, ProviderCounts
from exporter.core.scope import OTHER, Scope
from exporter.core.scorer import ForecastScorer
from exporter.core.series import Series
from exporter.core.signal import Signal
from exporter.core.slots import FINE_SECONDS, REQUESTS, Increments
from exporter.core.usage import Tokens
from exporter.core.views import Explained, ProviderView
from exporter.counted_usage import CountedUsage
from exporter.documents import Documents
from exporter.housekeeping import Housekeeping
from exporter.measurer import Measurer
from exporter.names import Names
from exporter.overrides import Document, Overrides
from exporter.provider_views import ProviderViews
from exporter.quota_states import QuotaStates
from exporter.reconciler import Reconciler
from exporter.recorder import Recorder
from exporter.snapshot import Snapshot
from exporter.storage.group_commit import GroupCommit
from exporter.system_clock import SystemClock
from exporter.workers import Kind, Workers

EVERYBODY_SECONDS = 10.0  # how often also those are looked at who used nothing
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
        measurer: measures what was counted, and says what its forecasts rest on.
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
        self.provider_counts = ProviderCounts()
        self._touched: set[str] = set()
        self.recorder = Recorder(commits, self.states, self._touched.add)
        self._commits = commits
        self._shared = shared
        self._committed = asyncio.Event()  # by somebody, perhaps another replica
        self._everybody_at = 0.0
        self.measurer = Measurer(
            self.usage, self.states, self.availability, self.provider_views, self.workers
        )
        self._housekeeping = Housekeeping(self.usage, self.states, self.names, commits, self._clock)
        self._reconciler = Reconciler(
            config,
            self.usage,
            self.states,
            self.overrides,
            self.documents,
            self.names,
            self.provider_views,
            commits,
            self._clock,
            self._touched,
            shared=shared,
        )
        self._reconciler.adopt = self._adopt

    async def start(self, now: float) -> None:
        """Take up the stored state.

        Raises:
            StorageError: it cannot be read.
        """
        await self._reconciler.rebuild(now)
        self.states.remember(now)
        # Only now: what is stored is older than what a running process knows.
        if body := self.documents.notes.get(_FORECASTS):
            try:
                self.measurer.forecasts = ForecastScorer.load(body)
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
        await self._reconciler.reload(config, now, adopted)

    def _adopt(self, config: Config) -> None:
        self.config = config
        self.names.configure(config.limits, config.providers)
        self.states.reported.configure(config.prediction)
        self.provider_counts.keep(config.accounts)

    async def override(self, document: Document) -> None:
        """Make durable what was just set in `overrides`; it holds from the next refresh on.

        Raises:
            StorageError: it could not be stored, and will be tried again.
        """
        name, body = document
        self.states.changed[name] = body
        await self.recorder.save()

    def _read_state(self, name: str, body: bytes) -> bool:
        return self.states.load(name, body, self._clock.now())

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
        return self._commits.health.up

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
        self.provider_counts.record(
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
        self.states.changed[_FORECASTS] = self.measurer.forecasts.dump(now)
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
        await self._housekeeping.check()
        self._touched.update(self.provider_views.ended(now))
        everybody = now - self._everybody_at >= EVERYBODY_SECONDS or now < self._everybody_at
        # Of those touched also whoever is while it catches up.
        await self.refresh(now, None if everybody else self._touched)
        if not self.storage_up:
            # Nobody pushes to an exporter that is not ready: find out by writing something.
            self.states.changed[_LAST_PUSH] = msgspec.json.encode(self.last_push)
        await self.recorder.save()
        if self._housekeeping.prune_due:
            self.states.changed[_FORECASTS] = self.measurer.forecasts.dump(now)
            await self._housekeeping.prune(self.config, now)

    async def refresh(
        self, now: float, providers: Iterable[str] | None = None
    ) -> dict[str, ProviderView]:
        """Measure `providers` (or everybody), settle their states, and show them.

        Raises:
            StorageError: what was counted under a wrong clock cannot be read anew.
        """
        async with self.measurer.lock:
            now = await self._catch_up(now)
            if providers is None:
                names = self.providers()
                self._everybody_at = now
            else:
                names = self.usage.ledger.index.pooled(set(providers))
            self._touched -= names
            return await self.measurer.measure(names, now, everybody=providers is None)

    async def _catch_up(self, now: float) -> float:
        # Whether the clock was wrong before or is wrong now, nobody knows: nothing is dropped
        # because of it, and what is held in memory is made anew from all that is stored.
        if self._clock.was_set():
            self._housekeeping.clock_was_set()
            self._everybody_at = 0.0
            self._reconciler.outdated = True
        return await self._reconciler.catch_up(now)

    async def explain(self, provider: str, now: float) -> list[Explained]:
        """What the forecasts of a provider's quotas rest on."""
        await self.refresh(now, [provider])
        return await self.measurer.explain(provider, now)

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
            scores=self.measurer.forecasts.scores(),
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

    async def backup(self) -> BinaryIO:
        """A copy of what is stored, as of one moment, in a file that is gone once it is closed.

        One at a time: the second waits for the first.

        Raises:
            StorageError: the store is copied by other means, or cannot be.
        """

        def copied() -> BinaryIO:
            # In the thread, so that it is done though nobody may wait for it any more.
            path = self._commits.backup()
            try:
                return path.open("rb")
            finally:
                path.unlink()  # what is open stays until it is closed

        return await self.workers.run(Kind.BACKUP, copied)

    async def forget(self, provider: str) -> None:
        """Forget a provider's state and what it reported, here and on every other replica.

        Raises:
            StorageError: that could not be stored, and will be tried again.
        """
        if self._shared:
            # What they have just said goes, too.
            await self._reconciler.follow_others(self._clock.now())
        self.states.forget(provider, self._clock.now())
        self.names.forget(provider)
        self.provider_views.forget(provider)
        await self.recorder.save()

    def providers(self) -> set[str]:
        """Everybody known: with a budget, with usage, or with a state."""
        return {*self.config.budgets, *self.names.providers(), *self.states.providers()}
