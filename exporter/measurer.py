"""Measuring what is counted, in a thread beside the event loop, and settling states by it."""

import asyncio
import time
from collections.abc import Collection

from exporter.availability import Availability
from exporter.core.budget import Quota
from exporter.core.forecast import Explanation
from exporter.core.measurement import Measurement
from exporter.core.scope import Scope
from exporter.core.scorer import ForecastScorer
from exporter.core.views import Explained, ProviderView
from exporter.counted_usage import CountedUsage
from exporter.provider_views import ProviderViews
from exporter.quota_states import QuotaStates
from exporter.workers import Kind, Workers

TURN_SECONDS = 0.0005  # of work on many providers, after which pushes have their turn


class Measurer:
    """Measures providers.

    Attributes:
        lock: to be held from before what was counted is brought up to date until `measure` is over.
        forecasts: how right the forecasts were.
    """

    def __init__(
        self,
        usage: CountedUsage,
        states: QuotaStates,
        availability: Availability,
        views: ProviderViews,
        workers: Workers,
    ) -> None:
        self.lock = asyncio.Lock()
        self.forecasts = ForecastScorer()
        self._usage = usage
        self._states = states
        self._availability = availability
        self._views = views
        self._workers = workers

    async def measure(
        self, names: Collection[str], now: float, *, everybody: bool
    ) -> dict[str, ProviderView]:
        """Measure providers, settle their states, and show them.

        Args:
            everybody: `names` are all there are; then forecasts are scored, too.
        """
        usage = self._usage
        usage.begin_measuring(now)
        meter = usage.meter  # a reload may replace it
        if everybody:
            self._views.keep(names)
        measured: dict[str, list[Measurement]] = {name: [] for name in sorted(names)}
        # A pool that is no longer configured is nobody's name: but something was said of it.
        known = {*names, *self._states.foreseen()} if everybody else names
        by_scope = self._states.quotas_of(known, ())
        meter.was_out(self._states.outages.all())
        meter.reported(self._states.reported.reports)
        wanted = None if everybody else names
        found = await self._workers.run(Kind.MEASURE, meter.measure, now, wanted)
        turn = _Turn()
        for one in found:
            measured[one.scope.provider].append(one)
            for scope in one.quota.scopes:
                by_scope.setdefault(scope, []).append(one)
            if turn.over:
                await turn.next()
        for name, quotas in measured.items():
            usage.measured(meter, quotas)
            self._views.measured(name, quotas, meter.history_days(name, now))
            if turn.over:
                await turn.next()
        for scope, quotas in by_scope.items():
            self._states.settle(scope, quotas, meter.freed_at, now)
            if turn.over:
                await turn.next()
        views = {}
        for name, quotas in measured.items():
            # A model that was never seen before may be what is left of a provider.
            self._availability.update(Scope(name), now)
            views[name] = self._views.of(name, now)
            if everybody:
                self.forecasts.observe(quotas, now, meter.used_in)
            if turn.over:
                await turn.next()
        return views

    async def explain(self, provider: str, now: float) -> list[Explained]:
        """What the forecasts of a provider's quotas rest on."""
        async with self.lock:
            meter = self._usage.meter
            found = await self._workers.run(Kind.MEASURE, meter.explain, provider, now)
        return [Explained(one, why, self.forecasts.record(one.quota)) for one, why in found]

    async def explain_quotas(
        self, quotas: Collection[Quota], now: float
    ) -> dict[Quota, Explanation]:
        """What the forecasts of some quotas, of any providers, rest on; of those that are known."""
        async with self.lock:
            self._usage.flush(now)
            meter = self._usage.meter
            return await self._workers.run(Kind.MEASURE, meter.explain_quotas, quotas, now)


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
