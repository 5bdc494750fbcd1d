"""The one owner of state: what was used, who is exhausted and why, and what providers said.

Everything here runs on the event loop's thread, except measuring, which runs beside it.
"""

import asyncio
import logging
import operator
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import msgspec
import numpy as np

from exporter.availability import Availability
from exporter.config import Config
from exporter.core.clock import ClockWatch
from exporter.core.drift import drift
from exporter.core.headroom import Headroom
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter, Measurement
from exporter.core.moment import rfc3339
from exporter.core.scope import OTHER
from exporter.core.scorer import ForecastScorer
from exporter.core.series import Series
from exporter.core.signal import Signal
from exporter.core.slots import FINE_SECONDS, REQUESTS, WIDTH, Block, Counts, Increments, merge
from exporter.core.usage import Tokens
from exporter.core.views import ProviderView
from exporter.names import Names
from exporter.quota_states import QuotaStates
from exporter.snapshot import Snapshot
from exporter.storage.contract import (
    Answer,
    Batch,
    Changes,
    Committed,
    Loaded,
    StorageError,
    Store,
)
from exporter.storage.group_commit import GroupCommit
from exporter.workers import Kind, Workers

OUTCOMES = ("accepted", "duplicate", "rejected", "uncharged")

EVERYBODY_SECONDS = 10.0  # how often also those are looked at who used nothing
PRUNE_SECONDS = 3600.0
PRUNE_AFTER_JUMP = 86400.0  # seconds for a person, or NTP, to set right a clock that was set wrong
MAX_WAITED = 60.0  # seconds that a refresh may have waited for its turn
SETTLED_AT_ONCE = 100  # providers, in about half a millisecond
SIGNALS_AT_ONCE = 200  # in about a millisecond

LAST_PUSH_SECONDS = 10.0  # how exactly the time of the last push survives a restart

_NO_COUNTS = [0] * WIDTH

_LAST_PUSH = "last_push"
_FORECASTS = "forecasts"

Done = Callable[[Committed | StorageError], None]

Cost = Callable[[str, str, Tokens, int], int | None]
"""From provider, model, tokens and those of its cache writes that are kept for an hour to whole
nano-US-dollars; None where there is no price."""


class Beside(NamedTuple):
    """What is counted beside a batch, once it is durable.

    Attributes:
        uncharged: reason -> items that are rightly not counted.
        unpriced: (provider, model) -> requests whose cost is not known.
    """

    uncharged: Mapping[str, int] = MappingProxyType({})
    unpriced: Mapping[tuple[str, str], int] = MappingProxyType({})


_NOTHING = Beside()

log = logging.getLogger("exporter")


class Service:
    """Counts usage durably and knows every provider's quota state.

    Attributes:
        config: the configuration in force.
        totals: what every series counted since the store began.
        events: (source, outcome) -> items, since the start of the process.
        states: every provider's quota state.
        availability: what routers are told.
        forecasts: how right the forecasts were.
        uncharged: (source, reason) -> items rightly not counted, since the start of the process.
        unpriced: (provider, model) -> requests whose cost is not known, since the start of the
            process.
        notes: small values that others keep here, by name; to change one, put it into a batch.
        names: which providers, models and consumers are told apart.
        last_push: Unix seconds of the last usage that was stored, 0 when none was.
        workers: where slow work runs.
        clock_jumps: times that the clock was set, `ahead` or `back`.
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
        self._clock = clock
        self._steady = steady
        commits.counted = self._count
        self.totals: dict[Series, Counts] = {}
        self.events: Counter[tuple[str, str]] = Counter()
        self.uncharged: Counter[tuple[str, str]] = Counter()
        self.unpriced: Counter[tuple[str, str]] = Counter()
        self.notes: dict[str, bytes] = {}
        self.names = Names()
        self.names.configure(config.limits, config.providers)
        self.last_push = 0.0
        self.workers = Workers()
        self.states = QuotaStates()
        self.availability = Availability(self.states, self.models)
        self.forecasts = ForecastScorer()
        self._commits = commits
        self._shared = shared
        self._ledger = Ledger(config.budgets, config.retention, 0.0)
        self._meter = BudgetMeter(self._ledger)
        self._headroom = Headroom(self._ledger)
        self._measuring = asyncio.Lock()
        self._keyed = asyncio.Lock()
        self._pending: Increments = {}
        self._touched: set[str] = set()
        self._skipped: set[str] = set()  # documents that were logged
        self._everybody_at = 0.0
        # By the steady clock. Not at once: a machine may start with a wrong clock.
        self._prune_from = steady() + PRUNE_SECONDS
        self._watch = ClockWatch(clock(), steady())
        self.clock_jumps: Counter[str] = Counter(ahead=0, back=0)
        self._last_jump = 0.0
        self._outdated = False  # the ledger was made under another clock

    async def start(self, now: float) -> None:
        """Take up the stored state.

        Raises:
            StorageError: it cannot be read.
        """
        await self._rebuild(self.config, now)
        self.states.remember(now)
        # Only now: what is stored is older than what a running process knows.
        if _FORECASTS in self.notes:
            try:
                self.forecasts = ForecastScorer.load(self.notes[_FORECASTS])
            except msgspec.MsgspecError as error:
                fields = {"name": _FORECASTS, "error": str(error)}
                log.error("stored document not understood, skipped", extra={"fields": fields})

    async def reload(
        self, config: Config, now: float, adopted: Callable[[], None] = lambda: None
    ) -> None:
        """Put a new configuration in force, keeping all that was counted.

        Only what changed is made anew. `adopted` is called in the very turn of the event loop in
        which the new configuration comes into force.

        Raises:
            StorageError: the history cannot be read; the old configuration stays.
        """
        before = self.config
        if config.retention != before.retention or not self._ledger.serves(config.budgets):
            await self._rebuild(config, now, adopted)
        else:
            if config.budgets != before.budgets:
                self._ledger = self._ledger.with_budgets(config.budgets)
                self._meter = BudgetMeter(self._ledger)
                self._headroom = Headroom(self._ledger)
            self.config = config
            self.names.configure(config.limits, config.providers)
            adopted()
        self._touched.update(config.budgets)

    async def _rebuild(
        self, config: Config, now: float, adopted: Callable[[], None] = lambda: None
    ) -> None:
        before = self.config.retention
        used: dict[Series, float] = {}

        def noted(blocks: Iterable[Block]) -> Iterable[Block]:
            for block in blocks:
                end = (block.number + 1) * block.tier.block_seconds
                used[block.series] = max(min(end, now), used.get(block.series, 0.0))
                yield block

        def build(store: Store) -> tuple[Ledger, Loaded]:
            ledger = Ledger(config.budgets, config.retention, now)
            store.set_retention(config.retention)
            try:
                loaded = store.load(now)
                ledger.load(noted(loaded.blocks))
            except Exception:
                store.set_retention(before)
                raise
            return ledger, loaded

        def swap(built: tuple[Ledger, Loaded]) -> None:
            # Before any later commit is counted: see GroupCommit.call.
            ledger, loaded = built
            self._pending = {}  # the store has it all
            self.config = config
            self._ledger = ledger
            self._meter = BudgetMeter(ledger)
            self._headroom = Headroom(ledger)
            self.totals = dict(loaded.totals)
            for series, at in used.items():
                self.names.use(series, at)
            self.names.configure(config.limits, config.providers)
            self._apply_documents(loaded.documents)
            adopted()

        await self._commits.call(build, then=swap)

    def _apply_documents(self, documents: Mapping[str, bytes]) -> None:
        for name, body in documents.items():
            try:
                self._apply_document(name, body)
            except (msgspec.MsgspecError, ValueError) as error:
                # Another version may have written it: what else is stored counts all the same.
                if name not in self._skipped:
                    self._skipped.add(name)
                    fields = {"name": name, "error": str(error)}
                    log.error("stored document not understood, skipped", extra={"fields": fields})

    def _apply_document(self, name: str, body: bytes) -> None:
        if self.states.take(name, body, self._clock()):
            return
        if name == _LAST_PUSH:
            self.last_push = max(self.last_push, msgspec.json.decode(body, type=float))
        else:
            self.notes[name] = body

    # -- what comes in --

    def place(self, provider: str, model: str = "", consumer: str = "") -> Series:
        """Where usage is counted: under these names, or in `other` beyond a cap.

        May be called in any thread.
        """
        return self.names.place(provider, model, consumer, self._clock())

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

    def expect(self, sources: Iterable[str]) -> None:
        """Count items of these sources from now on: Prometheus misses the first increase of a
        counter that was not there before it."""
        for source in sources:
            for outcome in OUTCOMES:
                self.events.setdefault((source, outcome), 0)

    def record(self, source: str, batch: Batch, done: Done, beside: Beside = _NOTHING) -> None:
        """Store a batch of `source`; `done` gets the outcome once it is durable and counted."""

        def count(outcome: Committed | StorageError) -> None:
            if not isinstance(outcome, StorageError):
                self._count_items(source, batch, outcome.answer, beside)
            done(outcome)

        if self.states.changed:
            self._submit_documents(lambda outcome: None)
        self._commits.submit(batch, count)

    async def record_signals(
        self,
        source: str,
        batch: Batch,
        signals: Sequence[Signal],
        now: float,
        beside: Beside = _NOTHING,
    ) -> Committed:
        """Store a batch together with what providers said, which takes effect unless the batch
        repeats an earlier one.

        Raises:
            StorageError: it could not be stored.
        """
        if not batch.key:
            await self._take_in(signals, self.states, now)
            documents, self.states.changed = self.states.changed, {}
            batch.documents = {**documents, **batch.documents}
            try:
                return await self._recorded(source, batch, beside)
            except StorageError:
                self.states.changed = {**documents, **self.states.changed}
                raise
        async with self._keyed:  # or a trial would not know what the one before it found
            trial = self.states.trial({signal.provider for signal in signals})
            await self._take_in(signals, trial, now)
            batch.documents = {**trial.changed, **batch.documents}
            committed = await self._recorded(source, batch, beside)
            if not committed.answer.repeated:
                await self._take_in(signals, self.states, now)
                changed = self.states.changed
                for name in [name for name in changed if changed[name] == trial.changed.get(name)]:
                    del changed[name]  # it has just been stored
            return committed

    async def _take_in(self, signals: Sequence[Signal], states: QuotaStates, now: float) -> None:
        """Take in what providers said, a few milliseconds' worth at a time."""
        for count, signal in enumerate(signals, 1):
            self._touched.add(signal.provider)
            states.signal(signal, now)
            if count % SIGNALS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _recorded(self, source: str, batch: Batch, beside: Beside) -> Committed:
        return await _outcome(lambda done: self.record(source, batch, done, beside))

    def _count_items(self, source: str, batch: Batch, answer: Answer, beside: Beside) -> None:
        """Count what became of the items of a batch."""
        events = self.events
        if answer.repeated:
            events[source, "duplicate"] += answer.accepted + answer.duplicates
            return
        events[source, "accepted"] += answer.accepted
        if answer.duplicates:
            events[source, "duplicate"] += answer.duplicates
        for key, requests in beside.unpriced.items():
            self.unpriced[key] += requests
        if beside.uncharged or answer.baselines:
            starts = ("before_first_start", answer.baselines)
            for reason, items in (*beside.uncharged.items(), starts):
                if items:
                    events[source, "uncharged"] += items
                    self.uncharged[source, reason] += items
        if batch.rejected_count:
            self.reject(source, batch.rejected_count)

    def reject(self, source: str, items: int) -> None:
        """Count items that could not be used."""
        self.events[source, "rejected"] += items

    def _submit_documents(self, told: Done) -> None:
        documents = self.states.changed.copy()
        self.states.changed.clear()

        def done(outcome: Committed | StorageError) -> None:
            if isinstance(outcome, StorageError):
                for name, body in documents.items():
                    self.states.changed.setdefault(name, body)
            told(outcome)

        self._commits.submit(Batch(documents=documents), done)

    def _count(self, added: Increments) -> None:
        """Take in what a group of batches added."""
        now = self._clock()
        if now - self.last_push >= LAST_PUSH_SECONDS:
            self.states.changed[_LAST_PUSH] = msgspec.json.encode(now)
        self.last_push = now
        if not self._shared:
            merge(self._pending, added)
        for (series, slot), counts in added.items():
            moment = slot * FINE_SECONDS
            self._touched.add(series.provider)
            self.names.use(series, moment)
            if any(counts[:REQUESTS]):  # tokens were processed: that is evidence of a success
                recent = now - moment < FINE_SECONDS
                self.states.succeeded(series, now if recent else moment, now)
        # Where others count too, all of it is counted at the next refresh.
        if not self._shared and (spent := self._headroom.use(added)):
            self._flush_pending(now)
            for row in spent:
                self._find_spent(row, now)

    def _find_spent(self, row: int, now: float) -> None:
        """Let the next answer say of the quotas on a row that they are spent, if they are."""
        ledger, amounts = self._ledger, []
        for quota in ledger.quotas_on(row):
            window, found = ledger.used(np.array([row]), quota.budget.period, now)
            used = float(found[0])
            amounts.append((quota, used))
            if used >= quota.budget.spent_at:
                self.states.spend(quota, used, ledger.available_at(quota, window, now), now)
        self._headroom.looked(row, amounts)

    def _flush_pending(self, now: float) -> None:
        """Count what was added since somebody last looked: by then the cells of many are few."""
        self._ledger.advance(now)
        self._ledger.add(self._pending)
        for (series, _), counts in self._pending.items():
            held = self.totals.get(series, _NO_COUNTS)
            # A new list: those of before may be in a snapshot.
            self.totals[series] = list(map(operator.add, held, counts))
        self._pending = {}

    def signal(self, signal: Signal, now: float) -> None:
        """Take in what a provider said of its quota."""
        self._touched.add(signal.provider)
        self.states.signal(signal, now)

    # -- what time and others change --

    async def stop(self, now: float) -> None:
        """Store what is only stored now and then.

        Raises:
            StorageError: it could not be stored.
        """
        self.workers.close()
        self.states.changed[_FORECASTS] = self.forecasts.dump(now)
        await self.save()

    async def save(self) -> None:
        """Make changed documents durable.

        Raises:
            StorageError: they could not be stored, and will be tried again.
        """
        if self.states.changed:
            await _outcome(self._submit_documents)

    async def tick(self, now: float) -> None:
        """Bring up to date whoever was touched; everybody now and then; prune now and then.

        Raises:
            StorageError: something could not be stored or read; the next tick tries again.
        """
        await self._check()
        if now - self._everybody_at >= EVERYBODY_SECONDS or now < self._everybody_at:
            await self.refresh(now)
        else:
            await self.refresh(now, frozenset(self._touched))
        if not self.storage_up:
            # Nobody pushes to an exporter that is not ready: find out by writing something.
            self.states.changed[_LAST_PUSH] = msgspec.json.encode(self.last_push)
        await self.save()
        if self._steady() >= self._prune_from:
            self.states.changed[_FORECASTS] = self.forecasts.dump(now)
            await self._prune(now)

    async def _check(self) -> None:
        try:
            await self._commits.call(lambda store: store.check())
        except StorageError as error:
            self._commits.note("keep", error)
            raise
        self._commits.note("keep", None)

    async def _prune(self, now: float) -> None:
        try:
            await self._commits.call(lambda store: store.prune(now))
        except StorageError as error:
            self._commits.note("prune", error)
            raise
        self._commits.note("prune", None)
        self.names.forget_unused(now - self.config.retention)
        self._prune_from = self._steady() + PRUNE_SECONDS

    async def _check_clock(self, now: float) -> float:
        """Notice when the clock was set, and go on counting; the moment to go on with.

        Whether it was wrong before or is wrong now, nobody knows: nothing is dropped because of
        it, and what is held in memory is made anew from all that is stored.

        Raises:
            StorageError: it cannot be read.
        """
        present = self._clock()
        if jump := self._watch.observe(present, self._steady()):
            direction = "ahead" if jump > 0 else "back"
            self.clock_jumps[direction] += 1
            self._last_jump = jump
            self._prune_from = self._steady() + PRUNE_AFTER_JUMP
            fields = {"seconds": round(jump, 1), "direction": direction, "now": rfc3339(present)}
            log.warning("the system's clock was set", extra={"fields": fields})
            self._everybody_at = 0.0
            self._outdated = True
        if self._outdated:
            await self._rebuild(self.config, present)
            self._outdated = False
        # Who waited meanwhile may have read the clock before it was set.
        return now if abs(now - present) <= MAX_WAITED else present

    async def refresh(
        self, now: float, providers: Iterable[str] | None = None
    ) -> dict[str, ProviderView]:
        """Measure `providers` (or everybody), settle their states, and show them."""
        async with self._measuring:
            now = await self._check_clock(now)
            if self._shared:
                await self._follow_others(now)
            self._flush_pending(now)
            # A reload may replace them meanwhile.
            ledger, meter, headroom = self._ledger, self._meter, self._headroom
            names = self.providers() if providers is None else ledger.pooled(set(providers))
            self._touched -= names
            if providers is None:
                self._everybody_at = now
            measured: dict[str, list[Measurement]] = {name: [] for name in sorted(names)}
            wanted = None if providers is None else names
            found = await self.workers.run(Kind.MEASURE, meter.measure, now, wanted)
            headroom.measured(found, self._pending)
            for one in found:
                measured[one.scope.provider].append(one)
            by_scope = self.states.quotas_of(names, found)
            for count, (scope, quotas) in enumerate(by_scope.items(), 1):
                if count % SETTLED_AT_ONCE == 0:
                    await asyncio.sleep(0)  # pushes must not wait for all of them
                self.states.settle(scope, quotas, meter.freed_at, now)
            views = {}
            for count, (name, quotas) in enumerate(measured.items(), 1):
                if count % SETTLED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                views[name] = self._view(name, quotas, meter, now)
                if providers is None:
                    self.forecasts.observe(quotas, now, ledger.used_in)
            return views

    def _view(
        self, name: str, measured: Sequence[Measurement], meter: BudgetMeter, now: float
    ) -> ProviderView:
        limits = self.states.limits(name)
        return ProviderView(
            whole=self.states.whole(name, self.models(name), now),
            parts=tuple(self.states.parts(name, now)),
            measurements=tuple(measured),
            known=name in self.config.budgets or self.names.knows(name) or self.states.knows(name),
            history_days=meter.history_days(name, now),
            limits=limits,
            drift=drift(limits, measured, now),
        )

    def models(self, provider: str) -> Collection[str]:
        """The models, by name, that `provider` is known to be used for."""
        return self.names.models(provider) - {OTHER}

    def exhausted(self, now: float, *, include_elapsed: bool) -> dict[str, float]:
        """Provider of which nothing can be had -> Unix seconds to retry at; also those whose time
        has come without a success since, on request."""
        found = {
            name: view.retry_at
            for name in self.states.providers()
            if (view := self.states.whole(name, self.models(name), now).view).retry_at is not None
        }
        return {**self.states.pending(now), **found} if include_elapsed else found

    async def snapshot(self, now: float) -> Snapshot:
        """Everything that is shown, as it is at `now`."""
        views = await self.refresh(now)
        return Snapshot(
            at=now,
            views=views,
            totals=self.totals.copy(),
            transitions=self.states.transitions.copy(),
            refusals=self.states.refusals.copy(),
            events=self.events.copy(),
            uncharged=self.uncharged.copy(),
            unpriced=self.unpriced.copy(),
            folded={what: self.names.folded[what] for what in ("provider", "model", "consumer")},
            scores=self.forecasts.scores(),
            last_push=self.last_push,
            storage_up=self.storage_up,
            commits=self._commits.stats(),
            queues={"commit": self._commits.outstanding}
            | {kind.value: count for kind, count in self.workers.outstanding.items()},
            clock_jumps=self.clock_jumps.copy(),
            clock_last_jump=self._last_jump,
        )

    async def forget(self, provider: str) -> None:
        """Forget a provider's state and what it reported.

        Raises:
            StorageError: that could not be stored, and will be tried again.
        """
        self.states.forget(provider, self._clock())
        self.names.forget(provider)
        await self.save()

    def providers(self) -> set[str]:
        """Everybody known: with a budget, with usage, or with a state."""
        return {*self.config.budgets, *self.names.providers(), *self.states.providers()}

    async def _follow_others(self, now: float) -> None:
        try:
            changes = await self._commits.call(lambda store: store.changes(now), then=self._follow)
            if changes is not None and not changes.complete:
                await self._rebuild(self.config, now)
        except StorageError as error:
            self._commits.note("read", error)  # what is known stays worth showing
        else:
            self._commits.note("read", None)

    def _follow(self, changes: Changes | None) -> None:
        """Take over what was committed by this replica and others."""
        if changes is not None:
            merge(self._pending, changes.increments)
            for series, slot in changes.increments:
                self.names.use(series, slot * FINE_SECONDS)
            self._touched.update(series.provider for series, _ in changes.increments)
            self._apply_documents(changes.documents)


async def _outcome(submit: Callable[[Done], None]) -> Committed:
    """What becomes of what is submitted.

    Raises:
        StorageError: it could not be stored.
    """
    future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()

    def done(outcome: Committed | StorageError) -> None:
        if future.done():  # who waited was cancelled
            return
        if isinstance(outcome, StorageError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    submit(done)
    return await future
