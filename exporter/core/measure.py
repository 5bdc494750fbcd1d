"""Every budget at one moment: used, projected, and how likely it runs out."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporter.core.budget import Budget
from exporter.core.forecast import (
    Cases,
    Forecast,
    Outage,
    Profile,
    TurnedAway,
    linear,
    predict,
)
from exporter.core.ledger import Ledger
from exporter.core.slots import COARSE_SECONDS
from exporter.core.windows import Calendar, Period, Window, utc_offset

BURN_WINDOWS = {"10m": 600, "1h": 3600, "6h": 21600}
"""Look-back windows of the burn rate in seconds."""

FORECAST_AGE = 30.0
"""Seconds after which a forecast is made anew although nothing was used."""

_AT_ONCE = 500  # forecasts: more take no less time each, but memory, and the interpreter's lock


class Method(StrEnum):
    """How use is projected."""

    FORECAST = "forecast"  # learned from the provider's own history
    LINEAR = "linear"  # straight on from the window's start


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """One budget of one provider at one moment; tokens are weighted.

    Attributes:
        provider: whose budget it is.
        budget: the budget.
        window: the running window, Unix seconds.
        used: tokens used in it.
        lower, median, upper: quantiles (10, 50, 90 %) of the use at the window's end; of a
            rolling window one length from now.
        probability: that the window ends at or over budget; of a rolling window that it is
            reached within one length from now.
        exhaustion_at: Unix seconds of the expected moment, None unless more likely than not.
        burn: burn rate by look-back window; 1 spends exactly the budget over the period.
    """

    provider: str
    budget: Budget
    window: Window
    used: float
    lower: float
    median: float
    upper: float
    probability: float
    exhaustion_at: float | None
    burn: Mapping[str, float]

    @property
    def exceeded(self) -> bool:
        """The budget is spent."""
        return self.used >= self.budget.tokens


class BudgetMeter:
    """Measures the budgets of a ledger, making anew only the forecasts that changed.

    Not thread-safe; it may run beside the ledger's writer.
    """

    def __init__(
        self, budgets: Mapping[str, Sequence[Budget]], ledger: Ledger, method: Method
    ) -> None:
        self._ledger = ledger
        self._method = method
        self._owned = [(name, budget) for name, those in budgets.items() for budget in those]
        self._rows = np.array(
            [ledger.row(name, budget.weights) for name, budget in self._owned], np.intp
        )
        self._tokens = np.array([float(budget.tokens) for _, budget in self._owned])
        self._rolling = np.array([budget.period.rolling for _, budget in self._owned], bool)
        self._cases: dict[str, list[int]] = {}
        self._periods: dict[Period, list[int]] = {}
        for index, (name, budget) in enumerate(self._owned):
            self._cases.setdefault(name, []).append(index)
            self._periods.setdefault(budget.period, []).append(index)
        count = len(self._owned)
        self._forecast = Forecast(*(np.full(count, np.nan) for _ in range(5)))
        self._made_at = np.full(count, -np.inf)
        self._made_for = np.full((count, 2), np.nan)  # used, and end of the window
        self._turned_away = TurnedAway()
        self._outages: dict[int, Sequence[Outage]] = {}

    def was_out(self, outages: Mapping[str, Sequence[Outage]]) -> None:
        """Say when each provider was out, in the order of time, so that its demand is learnt."""
        self._outages = {
            row: outages[name]
            for (name, _), row in zip(self._owned, self._rows.tolist(), strict=True)
            if name in outages
        }

    def measure(self, now: float, providers: Iterable[str] | None = None) -> list[Measurement]:
        """Measure the budgets of `providers`, or of all of them."""
        ledger = self._ledger
        if providers is None:
            chosen = np.arange(len(self._owned))
        else:
            chosen = np.array([i for name in providers for i in self._cases.get(name, ())], np.intp)
        if not len(chosen):
            return []
        with ledger.fine.lock, ledger.coarse.lock:
            start, end, used = self._windows(chosen, now)
            length = end - start
            burn = {
                name: ledger.rate(self._rows[chosen], seconds, now) * length / self._tokens[chosen]
                for name, seconds in BURN_WINDOWS.items()
            }
            self._renew(chosen, start, end, used, now)
        columns = [column[chosen].tolist() for column in _columns(self._forecast)]
        rows = zip(
            chosen.tolist(), start.tolist(), end.tolist(), _whole(used), *columns, strict=True
        )
        rates = zip(*(rate.tolist() for rate in burn.values()), strict=True)
        return [
            Measurement(
                self._owned[index][0],
                self._owned[index][1],
                Window(begin, finish),
                tokens,
                lower,
                median,
                upper,
                probability,
                moment if moment == moment else None,
                dict(zip(BURN_WINDOWS, rate, strict=True)),
            )
            for (
                (index, begin, finish, tokens, lower, median, upper, probability, moment),
                rate,
            ) in zip(rows, rates, strict=True)
        ]

    def freed_at(self, one: Measurement, now: float) -> float:
        """When a spent budget is no longer spent, in Unix seconds, if nothing more is used."""
        period = one.budget.period
        if isinstance(period, Calendar):
            return one.window.end
        row = self._ledger.row(one.provider, one.budget.weights)
        return self._ledger.freed_at(row, period.seconds, one.budget.tokens, now)

    def _windows(
        self, chosen: NDArray[np.intp], now: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        start, end, used = (np.zeros(len(self._owned)) for _ in range(3))
        wanted = np.zeros(len(self._owned), bool)
        wanted[chosen] = True
        for period, indices in self._periods.items():
            some = np.array(indices)[wanted[indices]]
            if len(some):
                window, totals = self._ledger.used(self._rows[some], period, now)
                start[some], end[some], used[some] = *window, totals
        return start[chosen], end[chosen], used[chosen]

    def _renew(
        self,
        chosen: NDArray[np.intp],
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        used: NDArray[np.float64],
        now: float,
    ) -> None:
        made_for = np.stack([used, np.where(self._rolling[chosen], 0.0, end)], axis=1)
        fresh = (made_for == self._made_for[chosen]).all(axis=1)
        fresh &= np.abs(now - self._made_at[chosen]) < FORECAST_AGE
        stale = np.flatnonzero(~fresh)
        offset = np.zeros(len(self._owned))
        for period, indices in self._periods.items():
            offset[indices] = _offset(period, now)
        for first in range(0, len(stale), _AT_ONCE):
            some = stale[first : first + _AT_ONCE]
            which = chosen[some]
            rolling = self._rolling[which]
            cases = Cases(
                series=self._rows[which],
                start=start[some],
                end=np.where(rolling, now + (end - start)[some], end[some]),
                used=used[some],
                budget=self._tokens[which],
                rolling=rolling,
                utc_offset=offset[which],
            )
            held = self._forecast
            unused = (made_for[some] == self._made_for[which]).all(axis=1) & ~rolling
            unused &= now >= self._made_at[which]
            made = self._predict(cases, now).held_down(held.take(which), unused)
            held.lower[which] = _whole(made.lower)
            held.median[which] = _whole(made.median)
            held.upper[which] = _whole(made.upper)
            held.probability[which] = made.probability
            held.exhaustion_at[which] = made.exhaustion_at
            self._made_at[which] = now
            self._made_for[which] = made_for[some]

    def _predict(self, cases: Cases, now: float) -> Forecast:
        if self._method is Method.LINEAR:
            return linear(now, cases)
        edges, origin, since = self._ledger.history()
        settled = int((now - origin) // COARSE_SECONDS)
        profile = Profile(origin, edges[:, : settled + 1], since)
        profile = self._turned_away.put_into(profile, self._outages)
        recent = edges[:, settled + 1 : settled + 2] - edges[:, settled : settled + 1]
        return predict(profile, recent, now, cases)


def _columns(forecast: Forecast) -> tuple[NDArray[np.float64], ...]:
    return (
        forecast.lower,
        forecast.median,
        forecast.upper,
        forecast.probability,
        forecast.exhaustion_at,
    )


def _offset(period: Period, now: float) -> float:
    return utc_offset(period.zone, now) if isinstance(period, Calendar) else 0.0


def _whole(tokens: NDArray[np.float64]) -> list[float]:
    """Without the dust of binary fractions that weights leave behind."""
    # numpy's own rounding multiplies and divides, which changes large numbers.
    return [round(each, 6) for each in tokens.tolist()]
