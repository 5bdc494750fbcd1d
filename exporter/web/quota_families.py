"""Scopes and their quotas at one moment, as families of metrics.

Labels `model` and `consumer` are there only where a scope has one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter

from exporter.core.budget import BudgetUnit, Quota
from exporter.core.measurement import Measurement
from exporter.core.quota_state import Reason, State
from exporter.core.scope import Scope
from exporter.core.views import ProviderView, ScopeView
from exporter.web.exposition import Family, counter, gauge

SCOPE = ("model", "consumer")
"""Labels of a part of a provider."""

_STATES = [(state, state.value) for state in State]

_UNITS = {
    BudgetUnit.TOKENS: ("tokens", "weighted tokens"),
    BudgetUnit.REQUESTS: ("requests", "requests"),
    BudgetUnit.USD: ("usd", "US dollars"),
}

_AMOUNTS: dict[str, tuple[str, Callable[[Measurement], float]]] = {
    "budget_{}": ("What is allowed in the period, in {}.", attrgetter("quota.budget.amount")),
    "used_{}": ("What is used in the running window, in {}.", attrgetter("used")),
    "projected_{}": (
        "Projected use at the end of the window (rolling: one length from now), in {}.",
        attrgetter("median"),
    ),
    "projected_{}_lower": ("10 % quantile of the projected use, in {}.", attrgetter("lower")),
    "projected_{}_upper": ("90 % quantile of the projected use, in {}.", attrgetter("upper")),
}

_OTHERS: dict[str, tuple[str, Callable[[Measurement], float | None]]] = {
    "used_ratio": ("Share of the budget that is used.", attrgetter("used_ratio")),
    "window_start_timestamp_seconds": (
        "When the running window began, in Unix time.",
        attrgetter("window.start"),
    ),
    "window_end_timestamp_seconds": (
        "When the running window ends, in Unix time.",
        attrgetter("window.end"),
    ),
    "exhaustion_probability": (
        "Probability that the window ends at or over budget.",
        attrgetter("probability"),
    ),
    "exhaustion_timestamp_seconds": (
        "Predicted moment of exhaustion, if more likely than not.",
        attrgetter("exhaustion_at"),
    ),
    "budget_override_until_timestamp_seconds": (
        "When the configured amount holds again instead of an operator's.",
        lambda one: one.budget.override and one.budget.override.until,
    ),
    "silenced_until_timestamp_seconds": (
        "When predictions count again, which an operator has silenced.",
        attrgetter("budget.silenced_until"),
    ),
}


def states(views: Iterable[ProviderView]) -> Iterable[Family]:
    """The states of providers, and of their models and consumers that have one."""

    def family(name: str, text: str, *labels: str) -> Family:
        return gauge(name, text, "provider", *labels, optional=SCOPE)

    state = family("state", "1 for the state that it is in, else 0.", "state")
    info = family("exhausted_info", "1 while exhausted, and why.", "reason")
    retry = family("retry_after_timestamp_seconds", "When to retry, while exhausted.")
    pending = family("recovery_pending", "1 when the time to retry has passed without a success.")
    throttled = family("throttled_until_timestamp_seconds", "When a short rate limit ends.")
    override = family("override_info", "1 while an operator's word holds.", "state", "by")
    until = family("override_until_timestamp_seconds", "When an operator's word ends.")
    for one in _scopes(views):
        provider, *scope = one.scope
        for each, name in _STATES:
            state.samples[provider, name, *scope] = 1.0 if one.view.state is each else 0.0
        if one.view.reason is not None and one.view.retry_at is not None:
            info.samples[provider, one.view.reason.value, *scope] = 1.0
            retry.samples[provider, *scope] = one.view.retry_at
        pending.samples[provider, *scope] = float(one.pending)
        if one.throttled_until is not None:
            throttled.samples[provider, *scope] = one.throttled_until
        if one.override is not None:
            override.samples[provider, one.override.state.value, "operator", *scope] = 1.0
            until.samples[provider, *scope] = one.override.until
    return state, info, retry, pending, throttled, override, until


def _scopes(views: Iterable[ProviderView]) -> Iterator[ScopeView]:
    for view in views:
        yield view.whole
        yield from view.parts


def quotas(views: Iterable[ProviderView]) -> Iterator[Family]:
    """The quotas of budgets and of windows that providers report."""
    measured = [(_labels(one.quota), one) for view in views for one in view.measurements]
    for unit, (suffix, words) in _UNITS.items():
        some = [
            ((*labels[:2], *labels[3:]), one) for labels, one in measured if one.budget.unit is unit
        ]
        if not some and unit is not BudgetUnit.TOKENS:
            continue
        scale = unit.scale
        for name, (text, amount_of) in _AMOUNTS.items():
            family = gauge(
                name.format(suffix), text.format(words), "provider", "period", optional=SCOPE
            )
            family.samples = {labels: amount_of(one) / scale for labels, one in some}
            yield family
    for name, (text, value_of) in _OTHERS.items():
        family = gauge(name, text, "provider", "period", "unit", optional=SCOPE)
        family.samples = {
            labels: value for labels, one in measured if (value := value_of(one)) is not None
        }
        yield family
    burn = gauge(
        "burn_rate",
        "1 spends exactly the budget over the period.",
        *("provider", "period", "unit", "window"),
        optional=SCOPE,
    )
    burn.samples = {
        (*labels[:3], window, *labels[3:]): rate
        for labels, one in measured
        for window, rate in one.burn.items()
    }
    yield burn
    yield _info(measured)


def _info(measured: Iterable[tuple[tuple[str, ...], Measurement]]) -> Family:
    """Every budget with the labels that its configuration gives it."""
    rows = [(labels, one.budget.labels) for labels, one in measured]
    names = sorted({name for _, given in rows for name in given})
    info = gauge(
        "budget_info",
        "1 for every budget, with the labels that the configuration gives it.",
        *("provider", "period", "unit"),
        optional=(*SCOPE, *names),
    )
    info.samples = {
        (*labels, *(given.get(name, "") for name in names)): 1.0 for labels, given in rows
    }
    return info


def _labels(quota: Quota) -> tuple[str, ...]:
    scope, budget = quota
    return scope.provider, budget.period.name, budget.unit.value, scope.model, scope.consumer


def transitions(counted: Mapping[tuple[Scope, State, Reason], int]) -> Family:
    """Changes of state."""
    family = counter(
        "transitions", "Changes of state.", "provider", "state", "reason", optional=SCOPE
    )
    for (scope, state, reason), times in counted.items():
        provider, *part = scope
        family.samples[provider, state.value, reason.value, *part] = times
    return family
