"""What an operator sets for a while: another amount of a budget, silence about a prediction."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from exporter.core.budget import AmountOverride, Budget, BudgetUnit
from exporter.core.scope import Scope, alternatives, matches


class BudgetKey(NamedTuple):
    """One budget of the configuration, whatever its amount.

    Attributes:
        provider: where it stands.
        period, unit, model, consumer: the budget's.
        per: what it is for every one of, with `+` between; empty for none.
    """

    provider: str
    period: str
    unit: str
    model: str = ""
    consumer: str = ""
    per: str = ""

    @classmethod
    def of(cls, provider: str, budget: Budget) -> "BudgetKey":
        """The key of a budget that stands at `provider`."""
        per = "+".join(sorted(budget.per))
        return cls(
            provider, budget.period.name, budget.unit.value, budget.model, budget.consumer, per
        )


class Amount(msgspec.Struct, frozen=True):
    """What a budget is instead of what the configuration says.

    Attributes:
        amount: as in `Budget`.
        until: Unix seconds at which the configuration holds again.
        reason: why, in the operator's words.
    """

    amount: int
    until: float
    reason: str = ""


class Silence(msgspec.Struct, frozen=True):
    """Predictions are shown and have no effect.

    Attributes:
        until: Unix seconds at which they have one again.
        reason: why, in the operator's words.
    """

    until: float
    reason: str = ""


def applied(
    budgets: Mapping[str, Sequence[Budget]],
    amounts: Mapping[BudgetKey, Amount],
    silences: Mapping[Scope, Silence],
) -> Mapping[str, Sequence[Budget]]:
    """The budgets as an operator wants them; those that nothing is said of are left as they are."""
    if not amounts and not silences:
        return budgets
    return {
        name: tuple(_changed(name, budget, amounts, silences) for budget in those)
        for name, those in budgets.items()
    }


def _changed(
    name: str,
    budget: Budget,
    amounts: Mapping[BudgetKey, Amount],
    silences: Mapping[Scope, Silence],
) -> Budget:
    said = amounts.get(BudgetKey.of(name, budget))
    if said is not None:
        override = AmountOverride(budget.amount, said.until, said.reason)
        budget = replace(budget, amount=said.amount, override=override)
    quiet = max(
        (one.until for scope, one in silences.items() if _about(scope, name, budget)), default=None
    )
    if quiet is not None:
        budget = replace(budget, silenced_until=quiet)
    return budget


def _about(scope: Scope, name: str, budget: Budget) -> bool:
    """Whether a silence about `scope` holds for a budget: it is about no more than that."""
    return (
        scope.provider == name
        and _within(budget.model, scope.model)
        and _within(budget.consumer, scope.consumer)
    )


def _within(patterns: str, outer: str) -> bool:
    """Whether all that `patterns` mean is meant by `outer`."""
    return not outer or (
        bool(patterns) and all(matches(outer, one) for one in alternatives(patterns))
    )


def key_of(
    provider: str, budgets: Iterable[Budget], given: Mapping[str, str]
) -> tuple[BudgetKey, BudgetUnit]:
    """The one budget of `provider` that has these values of a `BudgetKey`: of several the one that
    is for every model or consumer together, where none is given.

    Raises:
        ValueError: there is none, or another value is needed to tell several apart.
    """
    keys = {BudgetKey.of(provider, one): one.unit for one in budgets}
    fitting = [key for key in keys if all(getattr(key, name) == one for name, one in given.items())]
    open_ = [name for name in ("model", "consumer", "per") if name not in given]
    whole = [key for key in fitting if not any(getattr(key, name) for name in open_)]
    fitting = whole or fitting
    if len(fitting) == 1:
        return fitting[0], keys[fitting[0]]
    if fitting:
        name = next(
            name
            for name in BudgetKey._fields
            if name not in given and len({getattr(key, name) for key in fitting}) > 1
        )
        values = sorted({getattr(key, name) for key in fitting} - {""})
        raise ValueError(f"{name}: expected one of {', '.join(values)}, got none")
    shown = "; ".join(" ".join(filter(None, key[1:])) for key in keys) or "none"
    asked = " ".join(filter(None, given.values())) or "any"
    raise ValueError(f"budget: expected one that {provider} has ({shown}), got {asked}")
