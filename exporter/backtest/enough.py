"""Which budget would have been enough."""

from dataclasses import dataclass

import numpy as np

from exporter.backtest.replay import Decisions, Floats
from exporter.backtest.truth import Truth
from exporter.core.budget import NANO, BudgetUnit, Quota
from exporter.core.windows import Calendar

LASTING = 0.95
"""The share of its windows in which a budget that is enough lasts."""

_CENT = NANO // 100


@dataclass(frozen=True, slots=True)
class Need:
    """What one budget would have had to be.

    Attributes:
        quota: whose, and what it is.
        windows: complete windows that were looked at; of a rolling one, moments at which it was.
        lasted: the share of them in which the budget was not reached; nan when there was none.
        enough: the least amount that is not reached in `LASTING` of them, in what the budget
            counts; nan when there was none.
    """

    quota: Quota
    windows: int
    lasted: float
    enough: float


def enough(decisions: Decisions, truth: Truth) -> list[Need]:
    """Look at all complete windows of every budget."""
    totals: dict[int, list[float]] = {}
    for one in truth.episodes:
        if isinstance(decisions.cases[one.case].budget.period, Calendar):
            totals.setdefault(one.case, []).append(float(truth.final[one.first, one.case]))
    found = []
    for case, quota in enumerate(decisions.cases):
        period = quota.budget.period
        if period.rolling:
            whole = decisions.times >= decisions.times[0] + period.longest
            used = decisions.used[whole, case]
        else:
            used = np.array(totals.get(case, []))
        found.append(_need(quota, used))
    return found


def _need(quota: Quota, used: Floats) -> Need:
    if not used.size:
        return Need(quota, 0, float("nan"), float("nan"))
    budget = quota.budget
    # A budget is spent when it is reached: enough is one token, or cent, more than was used.
    step = _CENT if budget.unit is BudgetUnit.USD else 1
    most = float(np.quantile(used, LASTING, method="inverted_cdf"))
    lasted = float((used < budget.spent_at).mean())
    least = np.ceil((np.floor(most / step) + 1) / (1 - budget.reserve)) * step
    return Need(quota, used.size, lasted, float(least))
