"""How a scope fares, in one word: what a person has to look at first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from exporter.core.budget import BudgetUnit, Method
from exporter.core.forecast import LEARNED_DAYS
from exporter.core.measurement import Measurement
from exporter.core.quota_state import State
from exporter.core.scope import Scope
from exporter.core.views import ProviderView, ScopeView
from exporter.snapshot import Snapshot

HIGH = 0.8
"""Share of a budget from which it is shown as nearly used."""

CRITICAL = 0.95
"""Share of a budget from which it is shown as all but used."""

LIKELY = 0.5
"""Probability from which a budget is expected to run out."""


class Condition(StrEnum):
    """The worst that is to be said of a scope, worst first."""

    OUT = "out"
    OVERRULED = "overruled"  # an operator keeps it available
    THROTTLED = "throttled"
    LIKELY = "likely"
    HIGH = "high"
    BLOCKED = "blocked"  # all of its provider is out
    RECOVERING = "recovering"  # the time to retry has come, and no success was seen since
    AVAILABLE = "available"
    UNUSED = "unused"  # has a budget, and was never used: perhaps its name is misspelt
    UNBUDGETED = "unbudgeted"

    @property
    def words(self) -> str:
        """What people read."""
        return _WORDS[self]


_WORDS = {
    Condition.OUT: "out",
    Condition.OVERRULED: "kept available",
    Condition.THROTTLED: "throttled",
    Condition.LIKELY: "likely to run out",
    Condition.HIGH: "over 80 % used",
    Condition.BLOCKED: "out with its provider",
    Condition.RECOVERING: "recovery pending",
    Condition.AVAILABLE: "available",
    Condition.UNUSED: "never used",
    Condition.UNBUDGETED: "no budget",
}
_RANK = {condition: rank for rank, condition in enumerate(Condition)}


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """A scope with its budgets, as a page shows it.

    Attributes:
        scope: what it is about.
        view: its state; None of a part that has none of its own.
        budgets: measured.
        condition: the worst that is to be said.
        learning: days seen by a forecast that does not know the week yet; None otherwise.
    """

    scope: Scope
    view: ScopeView | None
    budgets: Sequence[Measurement]
    condition: Condition
    learning: float | None

    @property
    def until(self) -> float | None:
        """When the condition ends, in Unix seconds, if that is known."""
        if self.view is None:
            return None
        if self.condition is Condition.OUT:
            return self.view.view.retry_at
        if self.condition is Condition.THROTTLED:
            return self.view.throttled_until
        return None

    @property
    def used_ratio(self) -> float:
        """Of the budget that is used most."""
        return max((one.used_ratio for one in self.budgets), default=0.0)

    @property
    def probability(self) -> float:
        """Of the budget that is likeliest to run out."""
        return max((one.probability for one in self.budgets), default=0.0)

    @property
    def exhaustion_at(self) -> float:
        """The first moment at which a budget is expected to run out; infinite without one."""
        return min((one.exhaustion_at or inf for one in self.budgets), default=inf)

    @property
    def resets_at(self) -> float:
        """When the first window ends; infinite without one."""
        return min((one.window.end for one in self.budgets), default=inf)

    @property
    def urgency(self) -> tuple[object, ...]:
        """Sorts the worst first."""
        return (
            _RANK[self.condition],
            not self.scope.whole,
            -(self.until or 0.0),
            self.exhaustion_at,
            -self.used_ratio,
            self.scope,
        )


def rows_of(views: Iterable[ProviderView]) -> list[ScopeRow]:
    """Every scope of which there is something to say, in the order of the views."""
    return [row for view in views for row in _rows(view)]


def _rows(view: ProviderView) -> Iterable[ScopeRow]:
    budgets: dict[Scope, list[Measurement]] = {}
    for one in view.measurements:
        budgets.setdefault(one.scope, []).append(one)
    states = {one.scope: one for one in view.parts}
    whole, provider_out = view.whole.scope, view.whole.view.reason is not None
    days = view.history_days
    learning = days if days is not None and days < LEARNED_DAYS else None
    parts = [scope for scope in dict.fromkeys([*budgets, *states]) if scope != whole]
    parts = [scope for scope in parts if scope in budgets or _speaks(states[scope])]
    if whole in budgets or not parts or _speaks(view.whole):
        parts.insert(0, whole)
    for scope in parts:
        state = view.whole if scope == whole else states.get(scope)
        measured = budgets.get(scope, ())
        condition = condition_of(state, measured, used=days is not None or not configured(measured))
        if provider_out and condition is not Condition.OUT:
            condition = Condition.BLOCKED
        learns = any(one.budget.prediction.method is Method.FORECAST for one in measured)
        yield ScopeRow(scope, state, measured, condition, learning if learns else None)


def configured(budgets: Iterable[Measurement]) -> bool:
    """Any of the budgets is configured, and not only reported by its provider."""
    return any(not one.quota.reported for one in budgets)


def unpriced(snapshot: Snapshot) -> Mapping[tuple[str, str], int]:
    """(provider, model) -> requests of unknown cost, of providers with a budget of money."""
    money = {
        provider
        for name, view in snapshot.views.items()
        for one in view.measurements
        if one.budget.unit is BudgetUnit.USD
        for provider in one.budget.pool or (name,)
    }
    return {key: times for key, times in snapshot.unpriced.items() if key[0] in money}


def _speaks(state: ScopeView) -> bool:
    """There is something to say of a scope without budgets."""
    return bool(state.view.reason or state.pending or state.throttled_until or state.override)


def condition_of(
    state: ScopeView | None, budgets: Sequence[Measurement], *, used: bool
) -> Condition:
    """The worst that is to be said of a scope; `used`: its provider was used at some time."""
    if state is not None:
        if state.view.reason is not None:
            return Condition.OUT
        if state.override is not None and state.override.state is State.AVAILABLE:
            return Condition.OVERRULED
        if state.throttled_until is not None:
            return Condition.THROTTLED
    if any(one.probability >= LIKELY for one in budgets):
        return Condition.LIKELY
    if any(one.used_ratio >= HIGH for one in budgets):
        return Condition.HIGH
    if state is not None and state.pending:
        return Condition.RECOVERING
    if not budgets:
        return Condition.UNBUDGETED
    return Condition.AVAILABLE if used else Condition.UNUSED
