"""The forecasts of the quotas of a ledger, made anew only where something changed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast import (
    Cases,
    Explanation,
    Forecast,
    Outage,
    Profile,
    TurnedAway,
    allow_for_rest,
    explain,
    linear,
    predict,
)
from exporter.core.ledger import Ledger
from exporter.core.quota_columns import Floats, Ints, QuotaColumns
from exporter.core.reported_windows import profile_of
from exporter.core.slots import COARSE_SECONDS

FORECAST_AGE = 30.0
"""Seconds after which a forecast is made anew although nothing was used."""

_AT_ONCE = 500  # forecasts: more take no less time each, but memory, and the interpreter's lock


class QuotaForecasts:
    """A cache of forecasts. The ledger's locks are held by whoever calls.

    Attributes:
        outages: row of the ledger -> when its scope was out, so that its demand is learnt.
    """

    def __init__(self, ledger: Ledger, columns: QuotaColumns) -> None:
        self._ledger = ledger
        self._columns = columns
        self.outages: Mapping[int, Sequence[Outage]] = {}
        self._turned_away = TurnedAway()
        self._forecast = Forecast(*(np.zeros(0) for _ in range(5)))
        self._made_at = np.zeros(0)
        self._made_for = np.zeros((0, 2))  # used, and end of the window

    def extend(self) -> None:
        """Take in the quotas that came up in the columns since."""
        new = len(self._columns) - len(self._made_at)
        if not new:
            return
        nothing = np.full(new, np.nan)
        held = self._forecast.columns
        self._forecast = Forecast(*(np.append(column, nothing) for column in held))
        self._made_at = np.append(self._made_at, np.full(new, -np.inf))
        self._made_for = np.append(self._made_for, np.full((new, 2), np.nan), axis=0)

    def renewed(
        self, chosen: Ints, start: Floats, end: Floats, used: Floats, now: float
    ) -> Forecast:
        """The forecasts of `chosen`, for the windows that run from `start` to `end`."""
        columns = self._columns
        made_for = np.stack([used, np.where(columns.rolling[chosen], 0.0, end)], axis=1)
        fresh = (made_for == self._made_for[chosen]).all(axis=1)
        fresh &= np.abs(now - self._made_at[chosen]) < FORECAST_AGE
        stale = np.flatnonzero(~fresh)
        for first in range(0, len(stale), _AT_ONCE):
            some = stale[first : first + _AT_ONCE]
            which = chosen[some]
            cases = columns.cases(which, start[some], end[some], used[some], now)
            held = self._forecast
            unused = (made_for[some] == self._made_for[which]).all(axis=1)
            unused &= ~cases.rolling
            unused &= now >= self._made_at[which]
            made = self._predict(cases, which, now).over(columns.scale[which])
            made = made.held_down(held.take(which), unused)
            held.lower[which] = rounded(made.lower)
            held.median[which] = rounded(made.median)
            held.upper[which] = rounded(made.upper)
            held.probability[which] = made.probability
            held.exhaustion_at[which] = made.exhaustion_at
            self._made_at[which] = now
            self._made_for[which] = made_for[some]
        return self._forecast.take(chosen)

    def explain(self, cases: Cases, chosen: Ints, now: float) -> list[tuple[int, Explanation]]:
        """What the forecasts of `chosen` rest on, in units of what is counted; by index."""
        found: list[tuple[int, Explanation]] = []
        reported = self._columns.only_reported(chosen)
        if not reported.all():
            some = cases.take(~reported)
            why = explain(*self._history(some.series, now), now, some)
            found += zip(chosen[~reported].tolist(), why, strict=True)
        if reported.any():
            profile, some = self._reported_history(cases.take(reported), chosen[reported], now)
            why = explain(profile, _nothing_new(some), now, some)
            found += zip(chosen[reported].tolist(), why, strict=True)
        return found

    def _predict(self, cases: Cases, which: Ints, now: float) -> Forecast:
        reported = self._columns.only_reported(which)
        made = Forecast(*(np.zeros(len(which)) for _ in range(5)))
        for some, predicted in ((~reported, self._counted), (reported, self._reported)):
            if some.any():
                found = predicted(cases.take(some), which[some], now)
                for column, values in zip(made.columns, found.columns, strict=True):
                    column[some] = values
        return made

    def _counted(self, cases: Cases, which: Ints, now: float) -> Forecast:
        """By the use that is counted here."""
        straight = self._columns.linear[which]
        if straight.all():
            return linear(now, cases)
        made = self._with_rest(*self._history(cases.series, now), now, cases, which)
        if not straight.any():
            return made
        both = zip(linear(now, cases).columns, made.columns, strict=True)
        return Forecast(*(np.where(straight, one, other) for one, other in both))

    def _reported(self, cases: Cases, which: Ints, now: float) -> Forecast:
        """By the use that reports tell."""
        profile, cases = self._reported_history(cases, which, now)
        return self._with_rest(profile, _nothing_new(cases), now, cases, which)

    def _with_rest(
        self, profile: Profile, recent: Floats, now: float, cases: Cases, which: Ints
    ) -> Forecast:
        made = predict(profile, recent, now, cases)
        return allow_for_rest(made, profile, recent, now, cases, self._columns.personal[which])

    def _reported_history(self, cases: Cases, which: Ints, now: float) -> tuple[Profile, Cases]:
        """The use that the reports of some quotas tell, and the cases as rows of that."""
        profile = profile_of([self._columns.reports[index] for index in which.tolist()], now)
        return profile, replace(cases, series=np.arange(len(which)))

    def _history(self, rows: Ints, now: float) -> tuple[Profile, Floats]:
        """What is known of the past of `rows`, and the bin that is filling."""
        edges, origin, since = self._ledger.history()
        settled = int((now - origin) // COARSE_SECONDS)
        profile = Profile(origin, edges[:, : settled + 1], since)
        profile = self._turned_away.put_into(profile, self.outages, rows.tolist())
        return profile, edges[:, settled + 1 : settled + 2] - edges[:, settled : settled + 1]


def _nothing_new(cases: Cases) -> Floats:
    return np.zeros((len(cases.series), 1))


def rounded(amounts: NDArray[np.float64]) -> Floats:
    """Without the dust of binary fractions that weights leave behind."""
    # numpy's own rounding multiplies and divides, which changes large numbers.
    return np.array([round(each, 6) for each in amounts.tolist()])
