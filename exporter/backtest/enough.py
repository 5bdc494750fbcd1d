"""Which budget would have been enough."""

from dataclasses import dataclass

import numpy as np

from exporter.backtest.replay import Decisions, Floats
from exporter.backtest.truth import Truth
from exporter.core.budget import Budget
from exporter.core.windows import Calendar

LASTING = 0.95
"""The share of its windows in which a budget that is enough lasts."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one budget would have had to be.

    Attributes:
        provider, budget: whose, and what it is.
        windows: complete windows that were looked at; of a rolling one, moments at which it was.
        lasted: the share of them in which the budget was not reached; nan when there was none.
        enough: the least amount that is not reached in `LASTING` of them; nan when there was none.
    """

    provider: str
    budget: Budget
    windows: int
    lasted: float
    enough: float


def enough(decisions: Decisions, truth: Truth) -> list[Need]:
    """Look at all complete windows of every budget."""
    totals: dict[int, list[float]] = {}
    for one in truth.episodes:
        if isinstance(decisions.cases[one.case][1].period, Calendar):
            totals.setdefault(one.case, []).append(float(truth.final[one.first, one.case]))
    found = []
    for case, (provider, budget) in enumerate(decisions.cases):
        if budget.period.rolling:
            whole = decisions.times >= decisions.times[0] + budget.period.longest
            used = decisions.used[whole, case]
        else:
            used = np.array(totals.get(case, []))
        found.append(_need(provider, budget, used))
    return found


def _need(provider: str, budget: Budget, used: Floats) -> Need:
    if not used.size:
        return Need(provider, budget, 0, float("nan"), float("nan"))
    # A budget is spent when it is reached: enough is one token more than was used.
    most = float(np.quantile(used, LASTING, method="inverted_cdf"))
    lasted = float((used < budget.spent_at).mean())
    least = np.ceil((np.floor(most) + 1) / (1 - budget.reserve))
    return Need(provider, budget, used.size, lasted, float(least))
