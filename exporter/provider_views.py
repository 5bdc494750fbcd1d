"""Every provider as it was last measured, with what was counted and said since.

Forecasts are made by whoever measures. What is used of a quota follows every push, and states are
those of the moment, so that nothing has to be measured because somebody asks.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

import msgspec

from exporter.availability import Models
from exporter.core.budget import Quota
from exporter.core.drift import drift, running_until
from exporter.core.measurement import Measurement
from exporter.core.views import ProviderView
from exporter.core.windows import Window
from exporter.quota_states import QuotaStates

GROWN = 0.01
"""Days by which a history has to grow to be another one."""

UsedSince = Callable[[Quota, Window], float]
"""What was used of a quota in a window since it was measured."""


class _Measured(NamedTuple):
    """What is known of a provider from its last measurement."""

    quotas: Sequence[Measurement] = ()
    history_days: float | None = None
    ends: float = inf  # of the window that ends first, but for rolling ones
    known: bool = False


_NOTHING = _Measured()


class ProviderViews:
    """Not for concurrent use.

    Attributes:
        used_since: what was used since the last measurement, of quotas that were measured.
        outdated: is called with a provider whose view may be another than it was, but for what
            time ends; with None when each may be.
    """

    def __init__(self, states: QuotaStates, models: Models, known: Callable[[str], bool]) -> None:
        """`known` tells whether a provider has a budget or was used."""
        self._states = states
        self._models = models
        self._known = known
        self.used_since: UsedSince = lambda quota, window: 0.0
        self.outdated: Callable[[str | None], None] = lambda provider: None
        self._measured: dict[str, _Measured] = {}

    def measured(
        self, name: str, quotas: Sequence[Measurement], history_days: float | None
    ) -> None:
        """Take over what was measured of a provider."""
        before = self._measured.get(name, _NOTHING)
        known = self._known(name)
        same = quotas == before.quotas and _silences(quotas) == _silences(before.quotas)
        if not same or _differs(history_days, before.history_days) or known != before.known:
            self._measured[name] = _Measured(quotas, history_days, _first_end(quotas), known)
            self.outdated(name)

    def restart(self) -> None:
        """Everything may be another than it was."""
        self.outdated(None)

    def keep(self, names: Collection[str]) -> None:
        """Forget what was measured of all others."""
        for name in [name for name in self._measured if name not in names]:
            self.forget(name)

    def forget(self, name: str) -> None:
        """Forget what was measured of a provider."""
        if self._measured.pop(name, None) is not None:
            self.outdated(name)

    def ended(self, now: float) -> Iterator[str]:
        """The providers of which a window has ended since it was measured."""
        return (name for name, found in self._measured.items() if found.ends <= now)

    @property
    def next_end(self) -> float:
        """Unix seconds at which the first window ends."""
        return min((found.ends for found in self._measured.values()), default=inf)

    def changed(self, names: Iterable[str]) -> None:
        """Something of these providers is another than it was."""
        for name in names:
            self.outdated(name)

    def of(self, name: str, now: float) -> ProviderView:
        """A provider at `now`."""
        found = self._measured.get(name, _NOTHING)
        quotas = tuple(map(self._followed, found.quotas))
        limits = self._states.limits(name)
        return ProviderView(
            whole=self._states.whole(name, self._models, now),
            parts=tuple(self._states.parts(name, now)),
            measurements=quotas,
            known=self._known(name) or self._states.knows(name),
            history_days=found.history_days,
            limits=limits,
            drift=drift(limits, quotas, now),
        )

    def _followed(self, one: Measurement) -> Measurement:
        """A measurement with what was used since."""
        # What a provider reports is as it reported it.
        more = 0.0 if one.quota.reported else self.used_since(one.quota, one.window)
        if not more:
            return one
        used = one.used + more
        return msgspec.structs.replace(
            one,
            used=used,
            lower=max(one.lower, used),
            median=max(one.median, used),
            upper=max(one.upper, used),
        )


def ends_at(view: ProviderView) -> float:
    """Unix seconds at which something in a view ends by itself."""
    states = min(one.until for one in (view.whole, *view.parts))
    drifts = min((running_until(view.limits[key]) for key in view.drift), default=inf)
    return min(states, drifts, _first_end(view.measurements))


def _silences(quotas: Iterable[Measurement]) -> list[float | None]:
    """Of each quota, until when its prediction is silenced, which makes it no other quota."""
    return [one.budget.silenced_until for one in quotas]


def _differs(days: float | None, before: float | None) -> bool:
    """Whether a history is of another length: it grows all the time, which is no news."""
    if days is None or before is None:
        return days is not before
    return not 0 <= days - before < GROWN


def _first_end(quotas: Iterable[Measurement]) -> float:
    ends = (one.window.end for one in quotas if not one.budget.period.rolling)
    return min(ends, default=inf)
