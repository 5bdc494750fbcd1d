"""Every budget at one moment: used, projected, and how likely it runs out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporter.core.budget import Budget, BudgetUnit, Method, Quota
from exporter.core.estimates import Estimates
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
from exporter.core.reported_windows import Estimate, told
from exporter.core.reports import Report
from exporter.core.scope import Scope
from exporter.core.slots import COARSE_SECONDS
from exporter.core.windows import DAY, Calendar, Period, Window, utc_offset

BURN_WINDOWS = {"10m": 600, "1h": 3600, "6h": 21600}
"""Look-back windows of the burn rate in seconds."""

FORECAST_AGE = 30.0
"""Seconds after which a forecast is made anew although nothing was used."""

MAX_EXPLAINED = 50
"""Quotas of one provider of which is said what their forecasts rest on: milliseconds each."""

_AT_ONCE = 500  # forecasts: more take no less time each, but memory, and the interpreter's lock


class Measurement(msgspec.Struct, frozen=True, gc=False):
    """One quota at one moment, in what its budget counts (tokens weighted, USD in nano-dollars).

    Attributes:
        quota: whose it is, and how much.
        window: the running window, Unix seconds.
        used: what is used in it.
        lower, median, upper: quantiles (10, 50, 90 %) of the use at the window's end; of a
            rolling window one length from now.
        probability: that the window ends with the budget spent; of a rolling window that it is
            spent within one length from now.
        exhaustion_at: Unix seconds of the expected moment, None unless more likely than not.
        burn: burn rate by look-back window; 1 spends exactly the budget over the period. None
            of a reported window of which nothing is learnt yet.
    """

    quota: Quota
    window: Window
    used: float
    lower: float
    median: float
    upper: float
    probability: float
    exhaustion_at: float | None
    burn: Mapping[str, float]

    @property
    def scope(self) -> Scope:
        """What is counted together."""
        return self.quota.scope

    @property
    def budget(self) -> Budget:
        """How much that may be."""
        return self.quota.budget

    @property
    def used_ratio(self) -> float:
        """Share of the budget that is used."""
        return self.used / self.budget.amount

    @property
    def exceeded(self) -> bool:
        """The budget is spent."""
        return self.used >= self.budget.spent_at


class BudgetMeter:
    """Measures the quotas of a ledger, making anew only the forecasts that changed.

    Not thread-safe; it may run beside the ledger's writer.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._quotas: list[Quota] = []
        self._index: dict[Quota, int] = {}
        self._rows = np.zeros(0, np.intp)
        self._amount, self._spent_at = np.zeros(0), np.zeros(0)
        # What is counted for one of what a quota counts: not 1 only for reported windows.
        self._scale = np.zeros(0)
        self._by_reports: dict[int, Report] = {}  # those whose use only the reports tell
        self._rolling = np.zeros(0, bool)
        self._linear = np.zeros(0, bool)
        self._reported = np.zeros(0, bool)
        self._personal = np.zeros(0, bool)  # shares: those of people's plans
        self._of_provider: dict[str, list[int]] = {}
        self._periods: dict[Period, list[int]] = {}
        self._forecast = Forecast(*(np.zeros(0) for _ in range(5)))
        self._made_at = np.zeros(0)
        self._made_for = np.zeros((0, 2))  # used, and end of the window
        self._turned_away = TurnedAway()
        self._outages: dict[int, Sequence[Outage]] = {}
        self._told: tuple[Mapping[Scope, Sequence[Outage]], int] = {}, 0
        self._estimates = Estimates(ledger)

    def reported(self, reports: Mapping[Quota, Report]) -> None:
        """Say what was last reported of the windows among the quotas."""
        # A copy: another may be forgotten while this measures in a thread of its own.
        self._estimates.reports = dict(reports)

    def was_out(self, outages: Mapping[Scope, Sequence[Outage]]) -> None:
        """Say when each scope was out, so that its demand is learnt.

        A part of a provider is out with the whole of it, too.
        """
        known = len(self._ledger.quotas)
        if (outages, known) == self._told:
            return
        self._told = outages, known
        self._outages = {}
        for quota, row in zip(self._ledger.quotas, self._ledger.rows, strict=False):
            own = () if quota.scope.whole else outages.get(quota.scope, ())
            spans = (*outages.get(Scope(quota.scope.provider), ()), *own)
            if spans:
                self._outages[row] = spans

    def _follow_ledger(self) -> None:
        """Take in the quotas that came up since."""
        known = len(self._quotas)
        new = self._ledger.quotas[known:]
        if not new:
            return
        self._quotas += new
        for index, quota in enumerate(new, known):
            self._index[quota] = index
            self._of_provider.setdefault(quota.scope.provider, []).append(index)
            self._periods.setdefault(quota.budget.period, []).append(index)
        budgets = [quota.budget for quota in new]
        nothing = np.full(len(new), np.nan)
        self._rows = np.array(self._ledger.rows[: len(self._quotas)], np.intp)
        self._amount = np.append(self._amount, [float(one.amount) for one in budgets])
        self._spent_at = np.append(self._spent_at, [one.spent_at for one in budgets])
        self._scale = np.append(self._scale, np.ones(len(new)))
        self._rolling = np.append(self._rolling, [one.period.rolling for one in budgets])
        self._reported = np.append(self._reported, [quota.reported for quota in new])
        self._personal = np.append(
            self._personal, [one.unit is BudgetUnit.SHARE for one in budgets]
        )
        self._linear = np.append(
            self._linear, [one.prediction.method is Method.LINEAR for one in budgets]
        )
        self._forecast = Forecast(
            *(np.append(column, nothing) for column in self._forecast.columns)
        )
        self._made_at = np.append(self._made_at, np.full(len(new), -np.inf))
        self._made_for = np.append(self._made_for, np.full((len(new), 2), np.nan), axis=0)

    def measure(self, now: float, providers: Iterable[str] | None = None) -> list[Measurement]:
        """Measure the quotas that stand at `providers`, or all of them."""
        self._follow_ledger()
        if providers is None:
            chosen = np.arange(len(self._quotas))
        else:
            chosen = np.array(
                [index for name in providers for index in self._of_provider.get(name, ())], np.intp
            )
        return self._measured(chosen, now) if len(chosen) else []

    def _measured(self, chosen: NDArray[np.intp], now: float) -> list[Measurement]:
        ledger = self._ledger
        with ledger.fine.lock, ledger.coarse.lock:
            chosen, estimates = self._estimated(chosen, now)
            start, end, used = self._windows(chosen, now, estimates)
            length = end - start
            burn = {
                name: ledger.rate(self._rows[chosen], seconds, now) * length / self._amount[chosen]
                for name, seconds in BURN_WINDOWS.items()
            }
            self._renew(chosen, start, end, used, now)
            columns = [column.tolist() for column in self._forecast.take(chosen).columns]
            used = _rounded(used / self._scale[chosen])
        rows = zip(
            chosen.tolist(), start.tolist(), end.tolist(), used.tolist(), *columns, strict=True
        )
        rates = zip(*(rate.tolist() for rate in burn.values()), strict=True)
        return [
            Measurement(
                self._quotas[index],
                Window(begin, finish),
                tokens,
                lower,
                median,
                upper,
                probability,
                moment if moment == moment else None,
                {} if index in self._by_reports else dict(zip(BURN_WINDOWS, rate, strict=True)),
            )
            for (
                (index, begin, finish, tokens, probability, lower, median, upper, moment),
                rate,
            ) in zip(rows, rates, strict=True)
        ]

    def history_days(self, provider: str, now: float) -> float | None:
        """Days since the first use that quotas of `provider` remember; None when there is none."""
        indices = self._of_provider.get(provider, ())
        first = self._ledger.first_use([self._ledger.rows[index] for index in indices])
        return None if first is None else max(0.0, now - first) / DAY

    def used_in(self, quota: Quota, begin: float) -> float | None:
        """What was used in the window of a quota that began then; None where it is unknown."""
        if quota.reported:
            return self._estimates.used_in(quota, begin)
        return self._ledger.used_in(quota, begin)

    def freed_at(self, one: Measurement, share: float, now: float) -> float:
        """When less than a share of what may be spent is used, in Unix seconds, if nothing more
        is used."""
        return self._ledger.available_at(one.quota, one.window, now, share)

    def explain(self, provider: str, now: float) -> list[tuple[Measurement, Explanation]]:
        """Measure the quotas that stand at `provider`, and say what their forecasts rest on; of
        very many only the likeliest to be spent."""
        self._follow_ledger()
        chosen = np.array(self._of_provider.get(provider, ()), np.intp)
        if not len(chosen):
            return []
        measured = self._measured(chosen, now)
        likeliest = sorted(measured, key=lambda one: -one.probability)[:MAX_EXPLAINED]
        found = self.explain_quotas([one.quota for one in likeliest], now)
        return [(one, found[one.quota]) for one in measured if one.quota in found]

    def explain_quotas(self, quotas: Iterable[Quota], now: float) -> dict[Quota, Explanation]:
        """What the forecasts of some quotas rest on, of any providers; nothing of those that are
        not known. It takes a millisecond or two for each."""
        self._follow_ledger()
        known = [self._index[quota] for quota in quotas if quota in self._index]
        with self._ledger.fine.lock, self._ledger.coarse.lock:
            chosen, estimates = self._estimated(np.array(known, np.intp), now)
            start, end, used = self._windows(chosen, now, estimates)
            cases = self._cases(chosen, start, end, used, now)
            found: list[tuple[int, Explanation]] = []
            of_told = self._of_told(chosen)
            if not of_told.all():
                some = cases.take(~of_told)
                why = explain(*self._history(some.series, now), now, some)
                found += zip(chosen[~of_told].tolist(), why, strict=True)
            if of_told.any():
                profile, some = self._told_history(cases.take(of_told), chosen[of_told], now)
                why = explain(profile, _nothing_new(some), now, some)
                found += zip(chosen[of_told].tolist(), why, strict=True)
        return {self._quotas[at]: why.scaled(float(1 / self._scale[at])) for at, why in found}

    def _estimated(
        self, chosen: NDArray[np.intp], now: float
    ) -> tuple[NDArray[np.intp], dict[int, Estimate]]:
        """Those of `chosen` of which something is known, and the reported ones among them."""
        estimates, gone = {}, set()
        for index in chosen[self._reported[chosen]].tolist():
            quota = self._quotas[index]
            found = self._estimates.of(quota, now)
            self._by_reports.pop(index, None)
            if found is None:
                gone.add(index)
                continue
            estimates[index] = found
            if not found.learnt:
                self._by_reports[index] = self._estimates.reports[quota]
            self._amount[index] = self._spent_at[index] = found.whole
            self._scale[index] = found.whole / quota.budget.amount
        if gone:
            chosen = np.array([index for index in chosen.tolist() if index not in gone], np.intp)
        return chosen, estimates

    def _windows(
        self, chosen: NDArray[np.intp], now: float, estimates: Mapping[int, Estimate]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        start, end, used = (np.zeros(len(self._quotas)) for _ in range(3))
        wanted = np.zeros(len(self._quotas), bool)
        wanted[chosen] = True
        for index, found in estimates.items():
            start[index], end[index] = found.window
            used[index] = found.used * found.whole
            wanted[index] = False
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
        for first in range(0, len(stale), _AT_ONCE):
            some = stale[first : first + _AT_ONCE]
            which = chosen[some]
            cases = self._cases(which, start[some], end[some], used[some], now)
            held = self._forecast
            unused = (made_for[some] == self._made_for[which]).all(axis=1)
            unused &= ~cases.rolling
            unused &= now >= self._made_at[which]
            made = self._predict(cases, which, now).over(self._scale[which])
            made = made.held_down(held.take(which), unused)
            held.lower[which] = _rounded(made.lower)
            held.median[which] = _rounded(made.median)
            held.upper[which] = _rounded(made.upper)
            held.probability[which] = made.probability
            held.exhaustion_at[which] = made.exhaustion_at
            self._made_at[which] = now
            self._made_for[which] = made_for[some]

    def _cases(
        self,
        which: NDArray[np.intp],
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        used: NDArray[np.float64],
        now: float,
    ) -> Cases:
        rolling = self._rolling[which]
        offset = np.zeros(len(self._quotas))
        for period, indices in self._periods.items():
            offset[indices] = _offset(period, now)
        return Cases(
            series=self._rows[which],
            start=start,
            end=np.where(rolling, now + end - start, end),
            used=used,
            budget=self._spent_at[which],
            rolling=rolling,
            utc_offset=offset[which],
        )

    def _predict(self, cases: Cases, which: NDArray[np.intp], now: float) -> Forecast:
        of_told = self._of_told(which)
        made = Forecast(*(np.zeros(len(which)) for _ in range(5)))
        for some, foresee in ((~of_told, self._foresee), (of_told, self._foresee_told)):
            if some.any():
                found = foresee(cases.take(some), which[some], now)
                for column, values in zip(made.columns, found.columns, strict=True):
                    column[some] = values
        return made

    def _foresee_told(self, cases: Cases, which: NDArray[np.intp], now: float) -> Forecast:
        """Foresee windows by the use that their reports tell."""
        profile, cases = self._told_history(cases, which, now)
        recent = _nothing_new(cases)
        made = predict(profile, recent, now, cases)
        return allow_for_rest(made, profile, recent, now, cases, self._personal[which])

    def _of_told(self, which: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Of which quotas only the reports tell the use."""
        return np.array([index in self._by_reports for index in which.tolist()], bool)

    def _told_history(
        self, cases: Cases, which: NDArray[np.intp], now: float
    ) -> tuple[Profile, Cases]:
        """The use that the reports of some quotas tell, and the cases as rows of that."""
        profile = told([self._by_reports[index] for index in which.tolist()], now)
        return profile, replace(cases, series=np.arange(len(which)))

    def _foresee(self, cases: Cases, which: NDArray[np.intp], now: float) -> Forecast:
        straight = self._linear[which]
        if straight.all():
            return linear(now, cases)
        profile, recent = self._history(cases.series, now)
        made = predict(profile, recent, now, cases)
        made = allow_for_rest(made, profile, recent, now, cases, self._personal[which])
        if not straight.any():
            return made
        columns = zip(linear(now, cases).columns, made.columns, strict=True)
        return Forecast(*(np.where(straight, one, other) for one, other in columns))

    def _history(self, rows: NDArray[np.intp], now: float) -> tuple[Profile, NDArray[np.float64]]:
        """What is known of the past of `rows`, and the bin that is filling."""
        edges, origin, since = self._ledger.history()
        settled = int((now - origin) // COARSE_SECONDS)
        profile = Profile(origin, edges[:, : settled + 1], since)
        profile = self._turned_away.put_into(profile, self._outages, rows.tolist())
        return profile, edges[:, settled + 1 : settled + 2] - edges[:, settled : settled + 1]


def _nothing_new(cases: Cases) -> NDArray[np.float64]:
    return np.zeros((len(cases.series), 1))


def _offset(period: Period, now: float) -> float:
    return utc_offset(period.zone, now) if isinstance(period, Calendar) else 0.0


def _rounded(amounts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without the dust of binary fractions that weights leave behind."""
    # numpy's own rounding multiplies and divides, which changes large numbers.
    return np.array([round(each, 6) for each in amounts.tolist()])
