"""Scopes and providers at one moment, as they are shown and exposed."""

from collections.abc import Collection, Iterable, Mapping
from math import inf
from typing import NamedTuple

import msgspec

from exporter.core.budget import Budget, BudgetUnit, Quota
from exporter.core.forecast import Explanation
from exporter.core.measurement import Measurement
from exporter.core.quota_state import AVAILABLE, Override, Reason, View
from exporter.core.reports import Report
from exporter.core.scope import Scope
from exporter.core.scorer import Record

_STRENGTH: Mapping[Reason | None, int] = {reason: at for at, reason in enumerate(Reason)}


class Outlook(msgspec.Struct, frozen=True, gc=False):
    """What is foreseen of a scope: of its likeliest quota.

    Attributes:
        probability: that it will be spent, 0 to 1.
        exhaustion_at: Unix seconds of the expected moment, None unless more likely than not.
    """

    probability: float = 0.0
    exhaustion_at: float | None = None


class Explained(NamedTuple):
    """What the forecast of one quota rests on.

    Attributes:
        measurement: what is said.
        explanation: the course of its window beside that of earlier ones.
        record: how right the forecasts of this quota were; None before a window was over.
    """

    measurement: Measurement
    explanation: Explanation
    record: Record | None


class ScopeView(msgspec.Struct, frozen=True, gc=False):
    """One scope at one moment.

    Attributes:
        scope: what it is about.
        view: its state, why, and until when.
        pending: the time to retry has come, and no success was seen since.
        throttled_until: Unix seconds at which a short rate limit ends, if one is on.
        override: what an operator said, while it holds.
        outlook: what is foreseen.
        until: Unix seconds at which something of it ends by itself.
    """

    scope: Scope
    view: View
    pending: bool
    throttled_until: float | None
    override: Override | None
    outlook: Outlook
    until: float = inf


class ProviderView(msgspec.Struct, frozen=True, gc=False):
    """One provider at one moment.

    Attributes:
        whole: the provider as a whole; out only when nothing of it can be had.
        parts: its models and consumers that have a state of their own.
        measurements: its quotas, measured.
        known: it has a budget, or has been used, or has said something.
        history_days: days since the first use that is remembered, None when there is none.
        limits: what the provider reports of its own limits, by key.
        drift: what the provider counted beyond our own count, as a share of the limit, by key.
    """

    whole: ScopeView
    parts: tuple[ScopeView, ...]
    measurements: tuple[Measurement, ...]
    known: bool
    history_days: float | None
    limits: Mapping[str, Report]
    drift: Mapping[str, float]

    @property
    def name(self) -> str:
        """The canonical name."""
        return self.whole.scope.provider


def combined(scope: Scope, views: Collection[ScopeView]) -> ScopeView:
    """What all of `views`, which apply to `scope`, say of it together.

    The strongest cause is the reason; available again is what none of them holds back, except
    that a prediction never lengthens what stronger evidence says.
    """
    out = [one.view for one in views if one.view.reason is not None]
    view = AVAILABLE
    if out:
        strongest = min(out, key=lambda one: _STRENGTH[one.reason])
        ends = [one.retry_at or 0.0 for one in out if one.reason is not Reason.PREDICTED]
        predicted = max(one.retry_at or 0.0 for one in out)
        view = strongest._replace(retry_at=max(ends, default=predicted))
    throttles = [one.throttled_until for one in views if one.throttled_until is not None]
    overrides = [one.override for one in views if one.override is not None]
    return ScopeView(
        scope,
        view,
        any(one.pending for one in views),
        max(throttles, default=None),
        max(overrides, key=lambda one: one.until, default=None),
        max((one.outlook for one in views), key=lambda one: one.probability, default=Outlook()),
        min((one.until for one in views), default=inf),
    )


def nothing_left(parts: Iterable[ScopeView], models: Collection[str]) -> View:
    """The state of a provider of which all known models are out, each by itself.

    Of a single model that is no evidence: others may be had that nobody has tried.
    """
    if len(models) < 2:
        return AVAILABLE
    out = [one for one in parts if one.view.retry_at is not None and not one.scope.consumer]
    ends: list[View] = []
    for model in models:
        views = [one.view for one in out if one.scope.covers(model, "")]
        if not views:
            return AVAILABLE
        ends.append(max(views, key=lambda view: view.retry_at or 0.0))
    return min(ends, key=lambda view: view.retry_at or 0.0)


def allowed(quota: Quota) -> str:
    """A budget in words: `5.00 USD per day for gpt-5*`."""
    scope, budget = quota
    whose = "".join(f" for {part}" for part in (scope.model, scope.consumer) if part)
    return f"{shown(budget, budget.amount)} per {budget.period.name}{whose}"


def shown(budget: Budget, amount: float) -> str:
    """An amount of what a budget counts, in words."""
    if budget.unit is BudgetUnit.SHARE:
        return f"{amount:.1%}"
    if budget.unit is BudgetUnit.USD:
        return f"{amount / budget.unit.scale:.2f} USD"
    unit = "" if budget.unit is BudgetUnit.TOKENS else f" {budget.unit.value}"
    return f"{amount:.0f}{unit}"
