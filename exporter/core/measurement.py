"""One quota as it was measured."""

from collections.abc import Mapping

import msgspec

from exporter.core.budget import Budget, Quota
from exporter.core.scope import Scope
from exporter.core.windows import Window


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
