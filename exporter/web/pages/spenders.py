"""Who spent how much of a scope within the last hour."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from exporter.core.budget import NANO, BudgetUnit
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.slots import COST, REQUESTS, Counts, add

SHOWN = 3
"""How many are named where there is little room."""

Recent = Mapping[Series, Counts]
"""What every series used within the last hour."""


class Spender(NamedTuple):
    """A consumer, or a model, and what it used within the last hour.

    Attributes:
        name: empty for whoever did not say.
        share: of all that the scope used, in its unit, 0 to 1.
        tokens, requests: counted.
        usd: US dollars.
    """

    name: str
    share: float
    tokens: int
    requests: int
    usd: float


class Spending:
    """Usage of the last hour, ready to be asked of many scopes."""

    def __init__(self, recent: Recent) -> None:
        self._of_provider: dict[str, list[tuple[Series, Counts]]] = {}
        for series, counts in recent.items():
            self._of_provider.setdefault(series.provider, []).append((series, counts))

    def by_consumer(
        self, scope: Scope, pool: Sequence[str] = (), unit: BudgetUnit = BudgetUnit.TOKENS
    ) -> list[Spender]:
        """The consumers of a scope, or of the pool that it stands for; by use."""
        return self._by("consumer", scope, pool, unit)

    def by_model(
        self, scope: Scope, pool: Sequence[str] = (), unit: BudgetUnit = BudgetUnit.TOKENS
    ) -> list[Spender]:
        """The models of a scope, or of the pool that it stands for; by use."""
        return self._by("model", scope, pool, unit)

    def _by(self, label: str, scope: Scope, pool: Sequence[str], unit: BudgetUnit) -> list[Spender]:
        found: dict[str, Counts] = {}
        for provider in pool or (scope.provider,):
            for series, counts in self._of_provider.get(provider, ()):
                if scope.covers(series.model, series.consumer):
                    add(found, getattr(series, label), counts)
        total = sum(_amount(counts, unit) for counts in found.values())
        spenders = [
            Spender(
                name,
                _amount(counts, unit) / total if total else 0.0,
                sum(counts[:REQUESTS]),
                counts[REQUESTS],
                counts[COST] / NANO,
            )
            for name, counts in found.items()
        ]
        return sorted(spenders, key=lambda one: (-one.share, -one.tokens, one.name))


def _amount(counts: Counts, unit: BudgetUnit) -> int:
    if unit is BudgetUnit.REQUESTS:
        return counts[REQUESTS]
    return counts[COST] if unit is BudgetUnit.USD else sum(counts[:REQUESTS])
