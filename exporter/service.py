"""The one owner of state: what was used, who is exhausted and why, and what providers said.

Everything here runs on the event loop's thread, except measuring, which runs beside it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from exporter.config import Config
from exporter.core.drift import drift
from exporter.core.ledger import Ledger
from exporter.core.measure import Gauge, Measurement
from exporter.core.signal import Limit, Signal, Verdict
from exporter.core.slots import FINE_SECONDS, Counts, Increments
from exporter.core.standing import Reason, Standing, State, View, transition
from exporter.storage.contract import Batch, Changes, Committed, StorageError, Store
from exporter.storage.group_commit import GroupCommit

SOURCES = ("usage", "litellm", "otlp_metrics", "otlp_traces", "signals")
OUTCOMES = ("accepted", "duplicate", "rejected", "uncharged")

OTHER = "other"
"""The provider, or model, that everything beyond a cap is folded into."""

EVERYBODY_SECONDS = 10.0  # how often also those are looked at who used nothing
PRUNE_SECONDS = 3600.0

LAST_PUSH_SECONDS = 10.0  # how exactly the time of the last push survives a restart

_LAST_PUSH = "last_push"
_STANDING = "standing/"
_LIMITS = "limits/"

Done = Callable[[Committed | StorageError], None]
Reported = tuple[Limit, float]
"""A limit as the provider reported it, and when (Unix seconds)."""

_standing_decoder = msgspec.json.Decoder(Standing)
_limits_decoder = msgspec.json.Decoder(dict[str, Reported])
_encode = msgspec.json.encode

log = logging.getLogger("exporter")


@dataclass(frozen=True, slots=True)
class ProviderView:
    """One provider at one moment.

    Attributes:
        name: canonical provider name.
        view: its state, why, and until when.
        pending: the time to retry has come, and no success was seen since.
        throttled_until: Unix seconds at which a short rate limit ends, if one is on.
        measurements: its budgets, measured.
        limits: what the provider reports of its own limits, by name.
        drift: what the provider counted beyond our own count, as a share of the limit, by name.
    """

    name: str
    view: View
    pending: bool
    throttled_until: float | None
    measurements: tuple[Measurement, ...]
    limits: Mapping[str, Reported]
    drift: Mapping[str, float]


class Service:
    """Counts usage durably and knows every provider's standing.

    Attributes:
        config: the configuration in force.
        totals: (provider, model) -> counts since the store began.
        events: (source, outcome) -> items, since the start of the process.
        transitions: (provider, state, reason) -> times, since the start of the process.
        uncharged: (source, reason) -> items rightly not counted, since the start of the process.
        notes: small values that others keep here, by name; to change one, put it into a batch.
        folded: `provider` or `model` -> usages folded into `other` by a cap.
        last_push: Unix seconds of the last usage that was stored, 0 when none was.
        storage_up: the store did what it was last asked.
    """

    def __init__(
        self, config: Config, commits: GroupCommit, shared: bool, clock: Callable[[], float]
    ) -> None:
        self.config = config
        self._clock = clock
        commits.counted = self._count
        self.totals: dict[tuple[str, str], Counts] = {}
        self.events: Counter[tuple[str, str]] = Counter()
        # Known from the start, or Prometheus misses the first increase of each.
        for source in SOURCES:
            self.events.update(dict.fromkeys(((source, outcome) for outcome in OUTCOMES), 0))
        self.transitions: Counter[tuple[str, State, Reason]] = Counter()
        self.uncharged: Counter[tuple[str, str]] = Counter()
        self.notes: dict[str, bytes] = {}
        self.folded: Counter[str] = Counter()
        self.last_push = 0.0
        self.storage_up = True
        self._commits = commits
        self._shared = shared
        self._standings: dict[str, Standing] = {}
        self._seen: dict[str, View] = {}
        self._limits: dict[str, dict[str, Reported]] = {}
        self._documents: dict[str, bytes] = {}
        self._models: dict[str, set[str]] = {}
        self._ledger = _ledger(config, 0.0)
        self._gauge = Gauge(config.budgets, self._ledger, config.prediction.method)
        self._measuring = asyncio.Lock()
        self._touched: set[str] = set()
        self._everybody_at = 0.0
        self._pruned_at = 0.0

    async def start(self, now: float) -> None:
        """Take up the stored state.

        Raises:
            StorageError: it cannot be read.
        """
        await self._rebuild(self.config, now)
        for name, standing in self._standings.items():
            self._seen[name] = standing.state(now)

    async def reload(self, config: Config, now: float) -> None:
        """Put a new configuration in force, keeping all that was counted.

        Raises:
            StorageError: the history cannot be read; the old configuration stays.
        """
        await self._rebuild(config, now)
        self._touched.update(config.budgets)

    async def _rebuild(self, config: Config, now: float) -> None:
        def build(store: Store) -> tuple[Ledger, Changes]:
            ledger = _ledger(config, now)
            changes = store.load(now)
            for block in changes.blocks:
                ledger.put(block)
            return ledger, changes

        def swap(built: tuple[Ledger, Changes]) -> None:
            # Before any later commit is counted: see GroupCommit.call.
            ledger, changes = built
            self.config = config
            self._ledger = ledger
            self._gauge = Gauge(config.budgets, ledger, config.prediction.method)
            self._take(changes)

        await self._commits.call(build, then=swap)

    def _take(self, changes: Changes) -> None:
        self.totals.update(changes.totals)
        for provider, model in changes.totals:
            self._models.setdefault(provider, set()).add(model)
        for name, body in changes.documents.items():
            if name.startswith(_STANDING):
                provider = name.removeprefix(_STANDING)
                standing = _standing_decoder.decode(body)
                held = self._standings.get(provider)
                self._standings[provider] = held.merged(standing) if held else standing
            elif name.startswith(_LIMITS):
                self._limits[name.removeprefix(_LIMITS)] = _limits_decoder.decode(body)
            elif name == _LAST_PUSH:
                self.last_push = max(self.last_push, msgspec.json.decode(body, type=float))
            else:
                self.notes[name] = body

    # -- what comes in --

    def place(self, provider: str, model: str) -> tuple[str, str]:
        """Where usage of `model` at `provider` is counted: there, or in `other` beyond a cap."""
        models = self._models.get(provider)
        if models is None:
            known = provider in self.config.budgets
            if not known and len(self._models) >= self.config.limits.providers:
                self._fold("provider", provider)
                provider = OTHER
                models = self._models.setdefault(provider, set())
            else:
                models = self._models[provider] = set()
        if model not in models:
            if len(models) >= self.config.limits.models_per_provider:
                self._fold("model", model)
                return provider, OTHER
            models.add(model)
        return provider, model

    def _fold(self, what: str, name: str) -> None:
        if not self.folded[what]:
            log.warning(
                "too many names, folding new ones into 'other'",
                extra={"fields": {"what": what, "first": name}},
            )
        self.folded[what] += 1

    @property
    def overloaded(self) -> bool:
        """More requests wait for the disk than the limits allow."""
        return self._commits.outstanding >= self.config.limits.outstanding_requests

    def record(self, batch: Batch, done: Done) -> None:
        """Store a batch; `done` gets the outcome once it is durable and counted."""
        if self._documents:
            self._submit_documents(lambda outcome: None)
        self._commits.submit(batch, done)

    def _submit_documents(self, told: Done) -> None:
        documents, self._documents = self._documents, {}

        def done(outcome: Committed | StorageError) -> None:
            if isinstance(outcome, StorageError):
                self._documents = {**documents, **self._documents}
            told(outcome)

        self._commits.submit(Batch(documents=documents), done)

    def _count(self, added: Increments) -> None:
        """Take in what a group of batches added."""
        now = self._clock()
        if now - self.last_push >= LAST_PUSH_SECONDS:
            self._documents[_LAST_PUSH] = _encode(now)
        self.last_push = now
        if not self._shared:
            self._ledger.advance(now)
            self._ledger.add(added)
            for (provider, model, _), counts in added.items():
                total = self.totals.setdefault((provider, model), [0] * len(counts))
                for index, count in enumerate(counts):
                    total[index] += count
        for provider, _, slot in added:
            self._touched.add(provider)
            standing = self._standings.get(provider)
            if standing is not None:
                moment = slot * FINE_SECONDS
                recent = now - moment < FINE_SECONDS
                self._change(provider, standing.succeeded(now if recent else moment), now)

    def signal(self, signal: Signal, now: float) -> None:
        """Take in what a provider said of its quota."""
        standing = self._standings.get(signal.provider, Standing())
        at = min(signal.at, now)
        if signal.verdict is Verdict.SUCCESS:
            standing = standing.succeeded(at)
        elif signal.retry_at is not None and signal.verdict is Verdict.THROTTLED:
            standing = standing.throttled(signal.retry_at, at, signal.detail)
        elif signal.retry_at is not None and signal.verdict is Verdict.EXHAUSTED:
            standing = standing.marked(Reason.PROVIDER, signal.retry_at, at, signal.detail)
        if signal.limits:
            reported = self._limits.setdefault(signal.provider, {})
            for limit in signal.limits:
                if limit.name not in reported or reported[limit.name][1] <= at:
                    reported[limit.name] = (limit, at)
            self._documents[_LIMITS + signal.provider] = _encode(reported)
        self._touched.add(signal.provider)
        self._change(signal.provider, standing, now)

    def overrule(self, provider: str, retry_at: float | None, now: float) -> None:
        """An operator says that `provider` is exhausted until `retry_at`, or available."""
        standing = self._standings.get(provider, Standing())
        if retry_at is None:
            standing = standing.available(now)
        else:
            standing = standing.marked(Reason.OPERATOR, retry_at, now, "set by an operator")
        self._change(provider, standing, now)

    def _change(self, provider: str, standing: Standing, now: float) -> None:
        if standing is not self._standings.get(provider):
            self._standings[provider] = standing
            self._documents[_STANDING + provider] = _encode(standing)
        self._notice(provider, now)

    def _notice(self, provider: str, now: float) -> None:
        """Count and log a transition, if `provider` is seen in another state than before."""
        before = self._seen.get(provider, View(State.AVAILABLE))
        after = self._standings.get(provider, Standing()).state(now)
        self._seen[provider] = after
        changed = transition(before, after)
        if changed is None:
            return
        state, reason = changed
        self.transitions[provider, state, reason] += 1
        log.info(
            "state changed",
            extra={
                "fields": {
                    "provider": provider,
                    "state": state.value,
                    "reason": reason.value,
                    "retry_after": after.retry_at,
                    "because": after.detail,
                }
            },
        )

    # -- what time and others change --

    async def save(self, now: float) -> None:
        """Make changed documents durable.

        Raises:
            StorageError: they could not be stored, and will be tried again.
        """
        if not self._documents:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(outcome: Committed | StorageError) -> None:
            if isinstance(outcome, StorageError):
                future.set_exception(outcome)
            else:
                future.set_result(None)

        self._submit_documents(done)
        await future

    async def tick(self, now: float) -> None:
        """Bring up to date whoever was touched; everybody now and then; prune now and then.

        Raises:
            StorageError: something could not be stored or read; the next tick tries again.
        """
        if now - self._everybody_at >= EVERYBODY_SECONDS or now < self._everybody_at:
            self._everybody_at = now
            await self.look(now)
        else:
            await self.look(now, frozenset(self._touched))
        await self.save(now)
        if now - self._pruned_at >= PRUNE_SECONDS:
            self._pruned_at = now
            await self._commits.call(lambda store: store.prune(now))

    async def look(
        self, now: float, providers: Iterable[str] | None = None
    ) -> dict[str, ProviderView]:
        """Measure `providers` (or everybody), settle their states, and show them."""
        async with self._measuring:
            if self._shared:
                await self._follow_others(now)
            self._ledger.advance(now)
            names = set(self.providers() if providers is None else providers)
            self._touched -= names
            measured: dict[str, list[Measurement]] = {name: [] for name in names}
            wanted = None if providers is None else names
            for one in await asyncio.to_thread(self._gauge.measure, now, wanted):
                measured[one.provider].append(one)
            views = {}
            for name in sorted(names):
                self._settle(name, measured[name], now)
                views[name] = self._view(name, measured[name], now)
            return views

    def providers(self) -> set[str]:
        """Everybody known: with a budget, with usage, or with a state."""
        return {*self.config.budgets, *self._models, *self._standings, *self._limits}

    async def _follow_others(self, now: float) -> None:
        try:
            await self._commits.call(lambda store: store.changes(now), then=self._follow)
        except StorageError:
            self.storage_up = False  # what is known stays worth showing
        else:
            self.storage_up = True

    def _follow(self, changes: Changes | None) -> None:
        """Take over what other replicas did."""
        if changes is not None:
            for block in changes.blocks:
                self._ledger.put(block)
                self._touched.add(block.provider)
            self._take(changes)

    def _settle(self, provider: str, measured: list[Measurement], now: float) -> None:
        """Hold the standing against the measurements."""
        standing = self._standings.get(provider)
        spent = [one for one in measured if one.exceeded]
        if standing is None and not measured:
            return
        standing = standing or Standing()
        until = max((self._freed_at(one, now) for one in spent), default=None)
        detail = ", ".join(
            f"{one.used:.0f} of {one.budget.tokens} per {one.budget.period.name}" for one in spent
        )
        standing = standing.with_budget(until, now, detail)
        standing = self._predicted(standing, measured, now)
        if standing != Standing() or provider in self._standings:
            self._change(provider, standing, now)

    def _predicted(self, standing: Standing, measured: list[Measurement], now: float) -> Standing:
        wish = self.config.prediction
        ahead = [one for one in measured if not one.exceeded]
        if wish.exhausted_at is None or not ahead:
            return standing.with_prediction(None, None, now)
        worst = max(ahead, key=lambda one: one.probability)
        mark = standing.marks.get(Reason.PREDICTED)
        if not worst.budget.period.rolling:
            until = worst.window.end
        elif mark is not None and mark.live(now):
            until = mark.retry_at  # a rolling window has no end of its own: keep to the first
        else:
            until = now + (worst.window.end - worst.window.start)
        return standing.with_prediction(
            worst.probability,
            until,
            now,
            enter=wish.exhausted_at,
            leave=wish.release_below,
            detail=(
                f"probability {worst.probability:.3f}, projected {worst.median:.0f} of "
                f"{worst.budget.tokens} per {worst.budget.period.name}"
            ),
        )

    def _freed_at(self, one: Measurement, now: float) -> float:
        period = one.budget.period
        if not period.rolling:
            return one.window.end
        row = self._ledger.row(one.provider, one.budget.weights)
        return self._ledger.freed_at(row, one.window.end - one.window.start, one.budget.tokens, now)

    def _view(self, provider: str, measured: list[Measurement], now: float) -> ProviderView:
        standing = self._standings.get(provider, Standing())
        limits = dict(self._limits.get(provider, {}))
        return ProviderView(
            provider,
            standing.state(now),
            standing.pending_since(now) is not None,
            standing.throttled_until(now),
            tuple(measured),
            limits,
            drift(limits, measured, now),
        )

    def pending(self, now: float) -> dict[str, float]:
        """Providers that wait for a success, and since when (Unix seconds)."""
        times = {name: one.pending_since(now) for name, one in self._standings.items()}
        return {name: since for name, since in times.items() if since is not None}

    def exhausted(self, now: float, include_elapsed: bool) -> dict[str, float]:
        """Provider -> Unix seconds to retry at; also those whose time has come, on request."""
        result = {}
        for provider, standing in self._standings.items():
            view = standing.state(now)
            if view.retry_at is not None:
                result[provider] = view.retry_at
            elif include_elapsed and (since := standing.pending_since(now)) is not None:
                result[provider] = since
        return result


def _ledger(config: Config, now: float) -> Ledger:
    series = ((name, one.weights) for name, those in config.budgets.items() for one in those)
    return Ledger(series, config.retention, now)
