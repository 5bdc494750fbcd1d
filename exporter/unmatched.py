"""Budgets that are for nothing that is seen: a pattern was mistyped, or a model has gone."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

from exporter.core.budget import Budget, Quota
from exporter.core.scope import Scope, matches
from exporter.core.views import allowed
from exporter.core.windows import DAY

UsedSince = Callable[[str, float], tuple[Iterable[str], Iterable[str]]]
"""The models and the consumers of a provider that were used since a moment, in Unix seconds."""

log = logging.getLogger("exporter")


class UnmatchedBudgets:
    """Tells, once, of each budget for models or consumers that were not seen for a day, while
    others of its provider were. Not for concurrent use."""

    def __init__(self) -> None:
        self._logged: set[Quota] = set()

    def check(
        self, budgets: Mapping[str, Sequence[Budget]], used_since: UsedSince, now: float
    ) -> set[Quota]:
        """The budgets that match nothing now; new ones are logged."""
        found = {
            Quota(Scope(name, budget.model, budget.consumer), budget)
            for name, those in budgets.items()
            for budget in those
            if _unmatched(budget, name, used_since, now)
        }
        for scope, budget in found - self._logged:
            fields = {"provider": scope.provider, "budget": allowed(Quota(scope, budget))}
            log.info("budget matches nothing that was seen for a day", extra={"fields": fields})
        self._logged = found
        return found


def _unmatched(budget: Budget, name: str, used_since: UsedSince, now: float) -> bool:
    if not budget.model and not budget.consumer:
        return False
    seen = [used_since(provider, now - DAY) for provider in budget.pool or (name,)]
    models = [model for some, _ in seen for model in some]
    consumers = [consumer for _, some in seen for consumer in some]
    if not models and not consumers:
        return False  # nobody used the provider
    return not (
        any(matches(budget.model, model) for model in models or [""])
        and any(matches(budget.consumer, consumer) for consumer in consumers or [""])
    )
