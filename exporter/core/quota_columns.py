"""The quotas of a ledger in columns, for arithmetic on all of them at once."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from exporter.core.budget import BudgetUnit, Method, Quota
from exporter.core.estimates import Estimates
from exporter.core.forecast import Cases
from exporter.core.ledger import Ledger
from exporter.core.reported_windows import Estimate
from exporter.core.reports import Report
from exporter.core.windows import Calendar, Period, utc_offset

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class QuotaColumns:
    """What is known of each quota without its use; a quota's index is its place in a column.

    Attributes:
        quotas: in the order in which the ledger has them.
        index_of: the index of each.
        rows: their rows in the ledger.
        amount, spent_at: what the budget allows, and what of it may be used; of a reported window
            as it was last estimated.
        scale: what is counted for one of what a quota counts: not 1 only for reported windows.
        rolling: whether the window rolls.
        linear: whether the forecast is a straight line.
        reported: whether the window is one that the provider reports.
        personal: whether it is a share, as those of people's plans are.
        reports: index -> what was last reported, of those whose use only the reports tell.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.quotas: list[Quota] = []
        self.index_of: dict[Quota, int] = {}
        self.rows: Ints = np.zeros(0, np.intp)
        self.amount, self.spent_at, self.scale = np.zeros(0), np.zeros(0), np.zeros(0)
        self.rolling, self.linear = np.zeros(0, bool), np.zeros(0, bool)
        self.reported, self.personal = np.zeros(0, bool), np.zeros(0, bool)
        self.reports: dict[int, Report] = {}
        self._at_provider: dict[str, list[int]] = {}
        self._of_period: dict[Period, list[int]] = {}

    def __len__(self) -> int:
        return len(self.quotas)

    def extend(self) -> None:
        """Take in the quotas that came up in the ledger since."""
        known = len(self.quotas)
        new = self._ledger.index.quotas[known : self._ledger.ready]
        if not new:
            return
        self.quotas += new
        for index, quota in enumerate(new, known):
            self.index_of[quota] = index
            self._at_provider.setdefault(quota.scope.provider, []).append(index)
            self._of_period.setdefault(quota.budget.period, []).append(index)
        budgets = [quota.budget for quota in new]
        self.rows = np.array(self._ledger.index.rows[: len(self.quotas)], np.intp)
        self.amount = np.append(self.amount, [float(one.amount) for one in budgets])
        self.spent_at = np.append(self.spent_at, [one.spent_at for one in budgets])
        self.scale = np.append(self.scale, np.ones(len(new)))
        self.rolling = np.append(self.rolling, [one.period.rolling for one in budgets])
        self.reported = np.append(self.reported, [quota.reported for quota in new])
        shares = [one.unit is BudgetUnit.SHARE for one in budgets]
        self.personal = np.append(self.personal, shares)
        straight = [one.prediction.method is Method.LINEAR for one in budgets]
        self.linear = np.append(self.linear, straight)

    def of(self, provider: str) -> Sequence[int]:
        """The indices of the quotas that stand at a provider."""
        return self._at_provider.get(provider, ())

    def at(self, providers: Iterable[str]) -> Ints:
        """The same of several."""
        return np.array([index for name in providers for index in self.of(name)], np.intp)

    def estimate(
        self, chosen: Ints, estimates: Estimates, now: float
    ) -> tuple[Ints, dict[int, Estimate]]:
        """Bring reported windows up to date; those of `chosen` of which something is known, and
        the estimates of the reported ones among them."""
        found: dict[int, Estimate] = {}
        gone = set()
        for index in chosen[self.reported[chosen]].tolist():
            quota = self.quotas[index]
            one = estimates.of(quota, now)
            self.reports.pop(index, None)
            if one is None:
                gone.add(index)
                continue
            found[index] = one
            if not one.learnt:
                self.reports[index] = estimates.reports[quota]
            self.amount[index] = self.spent_at[index] = one.whole
            self.scale[index] = one.whole / quota.budget.amount
        if gone:
            chosen = np.array([index for index in chosen.tolist() if index not in gone], np.intp)
        return chosen, found

    def only_reported(self, chosen: Ints) -> NDArray[np.bool_]:
        """Of which of `chosen` only the reports tell the use."""
        return np.array([index in self.reports for index in chosen.tolist()], bool)

    def windows(
        self, chosen: Ints, estimates: Mapping[int, Estimate], now: float
    ) -> tuple[Floats, Floats, Floats]:
        """Start and end of the running windows of `chosen`, Unix seconds, and the use in them."""
        start, end, used = (np.zeros(len(self)) for _ in range(3))
        wanted = np.zeros(len(self), bool)
        wanted[chosen] = True
        for index, found in estimates.items():
            start[index], end[index] = found.window
            used[index] = found.used * found.whole
            wanted[index] = False
        for period, indices in self._of_period.items():
            some = np.array(indices)[wanted[indices]]
            if len(some):
                window, totals = self._ledger.used(self.rows[some], period, now)
                start[some], end[some], used[some] = *window, totals
        return start[chosen], end[chosen], used[chosen]

    def cases(self, chosen: Ints, start: Floats, end: Floats, used: Floats, now: float) -> Cases:
        """The windows of `chosen` as cases of a forecast at `now`."""
        rolling = self.rolling[chosen]
        offset = np.zeros(len(self))
        for period, indices in self._of_period.items():
            offset[indices] = _offset(period, now)
        return Cases(
            series=self.rows[chosen],
            start=start,
            end=np.where(rolling, now + end - start, end),
            used=used,
            budget=self.spent_at[chosen],
            rolling=rolling,
            utc_offset=offset[chosen],
        )


def _offset(period: Period, now: float) -> float:
    return utc_offset(period.zone, now) if isinstance(period, Calendar) else 0.0
