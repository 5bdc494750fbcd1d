"""What may be used, of which unit, by whom, per period."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from exporter.core.scope import Scope
from exporter.core.slots import COST, REQUESTS, WIDTH
from exporter.core.usage import KINDS
from exporter.core.windows import Period, Reported

Weights = tuple[float, ...]
"""What a token of each kind costs, in the order of `KINDS`; 1 is a plain token."""

PLAIN: Weights = (1.0,) * len(KINDS)

NANO = 10**9
"""Nano-dollars in a dollar: money is kept in whole ones, so that sums are exact."""


class BudgetUnit(StrEnum):
    """What a budget counts."""

    TOKENS = "tokens"
    REQUESTS = "requests"
    USD = "usd"
    SHARE = "share"  # of a window that a provider reports without an amount

    @property
    def scale(self) -> int:
        """How many of what is counted inside make one of the unit."""
        return NANO if self is BudgetUnit.USD else 1


class Per(StrEnum):
    """Of what every one that is seen has a quota of its own."""

    MODEL = "model"
    CONSUMER = "consumer"


class Method(StrEnum):
    """How use is projected."""

    FORECAST = "forecast"  # learned from the quota's own history
    LINEAR = "linear"  # straight on from the window's start


@dataclass(frozen=True, slots=True)
class PredictionSettings:
    """How use is projected, and when a projection takes a scope out.

    Attributes:
        method: how use is projected.
        exhausted_at: probability (0.5 to 1) from which a scope counts as exhausted; None
            when predictions are shown only.
        from_used: share of the budget (0 to 1) that must be used by then. A router that obeys
            gets the rest of the budget only if a prediction waits for it.
        release_below: probability below which the scope is available again, less than
            `exhausted_at`; None: it stays out until the time that was announced. Deprecated.
    """

    method: Method = Method.FORECAST
    exhausted_at: float | None = 0.95
    from_used: float = 0.98
    release_below: float | None = None


DEFAULT_PREDICTION = PredictionSettings()


class AmountOverride(NamedTuple):
    """An operator's amount holds instead of the configured one.

    Attributes:
        configured: what the configuration says.
        until: Unix seconds at which that holds again.
        reason: why, in the operator's words.
    """

    configured: int
    until: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """An amount per period, for a part of what a provider gives.

    Attributes:
        amount: what is allowed, at least 1: weighted tokens, requests, or nano-dollars.
        period: when the count starts over.
        weights: what a token of each kind counts; only with tokens and shares.
        unit: what is counted.
        model: name, pattern or alternatives (see `Scope`) of the models it is for; empty: all.
        consumer: the same for consumers.
        per: every model, or consumer, that is seen has this amount for itself.
        pool: providers that use it together; empty: the one that it stands at.
        reserve: share of it, 0 to below 1, that is to be left: spent is what reaches the rest.
        prediction: what is done about its future.
        labels: further labels of its info metric, for the routing of alerts.
        override: an operator gave it another amount for a while.
        silenced_until: Unix seconds until which an operator wants no effect of its predictions;
            it is the same budget meanwhile.
    """

    amount: int
    period: Period
    weights: Weights = field(default=PLAIN, hash=False)
    unit: BudgetUnit = field(default=BudgetUnit.TOKENS, hash=False)
    model: str = ""
    consumer: str = ""
    per: frozenset[Per] = field(default=frozenset(), hash=False)
    pool: tuple[str, ...] = field(default=(), hash=False)
    reserve: float = field(default=0.0, hash=False)
    prediction: PredictionSettings = field(default=DEFAULT_PREDICTION, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    override: AmountOverride | None = field(default=None, hash=False)
    silenced_until: float | None = field(default=None, compare=False)

    @property
    def predicted_out_at(self) -> float | None:
        """Probability (0.5 to 1) from which a prediction takes its scope out; None: none does."""
        return self.prediction.exhausted_at if self.silenced_until is None else None

    @property
    def spent_at(self) -> float:
        """The use that counts as the budget being spent."""
        return self.amount * (1 - self.reserve)

    @property
    def columns(self) -> tuple[float, ...]:
        """What one of each count (see `Counts`) adds to its use."""
        columns = [0.0] * WIDTH
        if self.unit in (BudgetUnit.TOKENS, BudgetUnit.SHARE):
            columns[: len(KINDS)] = self.weights
        else:
            columns[REQUESTS if self.unit is BudgetUnit.REQUESTS else COST] = 1.0
        return tuple(columns)


class Quota(NamedTuple):
    """One running count: a budget for one scope.

    Attributes:
        scope: what is counted together; of a pool, the pool's name stands for its providers.
        budget: how much that may be.
    """

    scope: Scope
    budget: Budget

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Every scope that is out when this quota is spent."""
        if not self.budget.pool:
            return (self.scope,)
        return (self.scope, *(self.scope._replace(provider=one) for one in self.budget.pool))

    @property
    def reported(self) -> bool:
        """It is a window that the provider reports: what we count does not spend it."""
        return isinstance(self.budget.period, Reported)

    @property
    def name(self) -> str:
        """What tells it from the other quotas of its provider; `day` for the simplest."""
        budget, scope = self.budget, self.scope
        unit = "" if budget.unit is BudgetUnit.TOKENS else budget.unit.value
        parts = [budget.period.name, unit, scope.model, scope.consumer]
        return "/".join(parts).rstrip("/")
