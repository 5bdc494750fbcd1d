"""Which budgets usage can answer for: it may lack what one of them counts."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from exporter.backtest.usage import FileError, Rows, Usage
from exporter.config import Config
from exporter.core.budget import Budget, BudgetUnit, Per, Quota
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.views import allowed

SHOWN = 5
"""Names that are listed of many."""

_UNITS = {
    BudgetUnit.TOKENS: "no tokens",
    BudgetUnit.REQUESTS: "no requests",
    BudgetUnit.USD: "no cost, and there is no price for what was used",
}


def budgeted(
    usage: Usage, config: Config, source: str, config_file: str
) -> tuple[Mapping[Series, Rows], Config, list[str]]:
    """Return the usage that budgets count, the budgets that count it, and what was left out.

    Raises:
        FileError: nothing is left.
    """
    used = {series.provider for series in usage.rows}
    counting = _providers(config.budgets)
    if not used & counting:
        raise FileError(
            f"{source}: no usage of {some(config.budgets)}, "
            f"for which {config_file} has budgets; got {some(used)}"
        )
    idle = {
        name
        for name, those in config.budgets.items()
        if not any(used.intersection(one.pool or (name,)) for one in those)
    }
    kept: dict[str, tuple[Budget, ...]] = {}
    lacking: dict[str, list[str]] = {}
    for name in config.budgets.keys() - idle:
        answered = []
        for one in config.budgets[name]:
            lack = _lack(one, usage)
            if lack is None:
                answered.append(one)
            else:
                quota = Quota(Scope(name, one.model, one.consumer), one)
                lacking.setdefault(lack, []).append(f"{name} {allowed(quota)}")
        if answered:
            kept[name] = tuple(answered)
    if not kept:
        raise FileError(
            "; ".join(f"{source}: tells {what}, for {some(of)}" for what, of in lacking.items())
        )
    found = _providers(kept)
    rows = {series: each for series, each in usage.rows.items() if series.provider in found}
    left_out: list[tuple[str, Collection[str]]] = [
        ("no budget", used - counting),
        ("no usage", idle),
    ]
    left_out += [(f"{source} tells {what}", of) for what, of in lacking.items()]
    notes = [f"left out, {why}: {some(of)}" for why, of in left_out if of]
    if usage.unpriced and any(one.unit is BudgetUnit.USD for one in _all(kept)):
        models = (f"{model or 'no model'} ({rows:,})" for model, rows in usage.unpriced.items())
        notes.append(f"count 0 USD, rows without a cost and a price: {some(list(models))}")
    return rows, replace(config, budgets=kept), notes


def _lack(budget: Budget, usage: Usage) -> str | None:
    """What a budget needs and usage does not tell."""
    if budget.unit not in usage.units:
        return _UNITS[budget.unit]
    if (budget.model or Per.MODEL in budget.per) and "model" not in usage.labels:
        return "no models"
    if (budget.consumer or Per.CONSUMER in budget.per) and "consumer" not in usage.labels:
        return "no consumers"
    return None


def _all(budgets: Mapping[str, Iterable[Budget]]) -> Iterable[Budget]:
    return (one for those in budgets.values() for one in those)


def _providers(budgets: Mapping[str, Iterable[Budget]]) -> set[str]:
    """Whose usage counts towards budgets."""
    pools = ((name, one.pool) for name, those in budgets.items() for one in those)
    return {provider for name, pool in pools for provider in pool or (name,)}


def some(names: Collection[str]) -> str:
    """A few names, and how many more there are."""
    shown = sorted(names)[:SHOWN]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "nobody"
