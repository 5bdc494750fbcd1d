"""Every budget at one moment: used, projected, and how likely it runs out."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from exporter.core.budget import Quota
from exporter.core.estimates import Estimates
from exporter.core.forecast import Explanation, Outage
from exporter.core.ledger import Ledger
from exporter.core.measurement import Measurement
from exporter.core.quota_columns import Ints, QuotaColumns
from exporter.core.quota_forecasts import QuotaForecasts, rounded
from exporter.core.reports import Report
from exporter.core.scope import Scope
from exporter.core.windows import DAY, Window

BURN_WINDOWS = {"10m": 600, "1h": 3600, "6h": 21600}
"""Look-back windows of the burn rate in seconds."""

MAX_EXPLAINED = 50
"""Quotas of one provider of which is said what their forecasts rest on: milliseconds each."""


class BudgetMeter:
    """Measures the quotas of a ledger, making anew only the forecasts that changed.

    Not thread-safe; it may run beside the ledger's writer.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._columns = QuotaColumns(ledger)
        self._forecasts = QuotaForecasts(ledger, self._columns)
        self._estimates = Estimates(ledger)
        self._outages_of: tuple[Mapping[Scope, Sequence[Outage]], int] = {}, 0

    def reported(self, reports: Mapping[Quota, Report]) -> None:
        """Say what was last reported of the windows among the quotas."""
        # A copy: another may be forgotten while this measures in a thread of its own.
        self._estimates.reports = dict(reports)

    def was_out(self, outages: Mapping[Scope, Sequence[Outage]]) -> None:
        """Say when each scope was out, so that its demand is learnt.

        A part of a provider is out with the whole of it, too.
        """
        known = len(self._ledger.index.quotas)
        if (outages, known) == self._outages_of:
            return
        self._outages_of = outages, known
        found = {}
        for quota, row in zip(self._ledger.index.quotas, self._ledger.index.rows, strict=False):
            own = () if quota.scope.whole else outages.get(quota.scope, ())
            spans = (*outages.get(Scope(quota.scope.provider), ()), *own)
            if spans:
                found[row] = spans
        self._forecasts.outages = found

    def _extend(self) -> None:
        self._columns.extend()
        self._forecasts.extend()

    def measure(self, now: float, providers: Iterable[str] | None = None) -> list[Measurement]:
        """Measure the quotas that stand at `providers`, or all of them."""
        self._extend()
        columns = self._columns
        chosen = np.arange(len(columns)) if providers is None else columns.at(providers)
        return self._measured(chosen, now) if len(chosen) else []

    def _measured(self, chosen: Ints, now: float) -> list[Measurement]:
        ledger, columns = self._ledger, self._columns
        with ledger.fine.lock, ledger.coarse.lock:
            chosen, estimates = columns.estimate(chosen, self._estimates, now)
            start, end, used = columns.windows(chosen, estimates, now)
            rows, length, amount = columns.rows[chosen], end - start, columns.amount[chosen]
            burn = {
                name: ledger.rate(rows, seconds, now) * length / amount
                for name, seconds in BURN_WINDOWS.items()
            }
            made = self._forecasts.renewed(chosen, start, end, used, now)
            used = rounded(used / columns.scale[chosen])
        forecasts = (column.tolist() for column in made.columns)
        found = zip(
            *(chosen.tolist(), start.tolist(), end.tolist(), used.tolist()),
            *forecasts,
            strict=True,
        )
        rates = zip(*(rate.tolist() for rate in burn.values()), strict=True)
        quotas, only_reported = columns.quotas, columns.reports
        return [
            Measurement(
                quotas[index],
                Window(begin, finish),
                tokens,
                lower,
                median,
                upper,
                probability,
                moment if moment == moment else None,
                {} if index in only_reported else dict(zip(BURN_WINDOWS, rate, strict=True)),
            )
            for (
                (index, begin, finish, tokens, probability, lower, median, upper, moment),
                rate,
            ) in zip(found, rates, strict=True)
        ]

    def history_days(self, provider: str, now: float) -> float | None:
        """Days since the first use that quotas of `provider` remember; None when there is none."""
        rows = self._ledger.index.rows
        first = self._ledger.first_use(rows[index] for index in self._columns.of(provider))
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
        measured = self.measure(now, [provider])
        likeliest = sorted(measured, key=lambda one: -one.probability)[:MAX_EXPLAINED]
        found = self.explain_quotas([one.quota for one in likeliest], now)
        return [(one, found[one.quota]) for one in measured if one.quota in found]

    def explain_quotas(self, quotas: Iterable[Quota], now: float) -> dict[Quota, Explanation]:
        """What the forecasts of some quotas rest on, of any providers; nothing of those that are
        not known. It takes a millisecond or two for each."""
        self._extend()
        columns = self._columns
        known = [columns.index_of[quota] for quota in quotas if quota in columns.index_of]
        with self._ledger.fine.lock, self._ledger.coarse.lock:
            chosen = np.array(known, np.intp)
            chosen, estimates = columns.estimate(chosen, self._estimates, now)
            cases = columns.cases(chosen, *columns.windows(chosen, estimates, now), now)
            found = self._forecasts.explain(cases, chosen, now)
        return {columns.quotas[at]: why.scaled(float(1 / columns.scale[at])) for at, why in found}
