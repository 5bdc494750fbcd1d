"""Providers, their scopes and quotas as JSON for routers."""

from collections.abc import Iterable, Mapping
from typing import Any

from exporter.core.budget import BudgetUnit
from exporter.core.forecast import Explanation
from exporter.core.measurement import Measurement
from exporter.core.moment import rfc3339
from exporter.core.reports import Report
from exporter.core.scorer import Record
from exporter.core.views import Explained, ProviderView, ScopeView


def provider(view: ProviderView) -> dict[str, Any]:
    """One provider, as `GET /v1/providers/{provider}` shows it."""
    return {
        "provider": view.name,
        **scope(view.whole),
        "known": view.known,
        "history_days": view.history_days,
        "periods": _periods(view.measurements),
        "quotas": [_quota(one) for one in view.measurements],
        "scopes": [{**_part(one), **scope(one)} for one in view.parts],
        "limits": _limits(view.limits, view.drift),
    }


def scope(one: ScopeView) -> dict[str, Any]:
    """What is known of a provider, or of a part of it."""
    state = one.view
    return {
        "state": state.state.value,
        "reason": state.reason.value if state.reason else None,
        "retry_after": rfc3339(state.retry_at),
        "detail": state.detail,
        "recovery_pending": one.pending,
        "throttled_until": rfc3339(one.throttled_until),
        "probability": one.outlook.probability,
        "exhaustion_at": rfc3339(one.outlook.exhaustion_at),
        "override": None
        if one.override is None
        else {
            "state": one.override.state.value,
            "until": rfc3339(one.override.until),
            "by": "operator",
            "reason": one.override.detail,
        },
    }


def _part(one: ScopeView) -> dict[str, str]:
    return {name: value for name, value in one.scope._asdict().items() if value}


def _periods(measured: Iterable[Measurement]) -> dict[str, Any]:
    """The quotas of the whole provider by period; of several units, tokens stand for it."""
    whole = [one for one in measured if one.scope.whole]
    whole.sort(key=lambda one: one.budget.unit is BudgetUnit.TOKENS)
    return {one.budget.period.name: _period(one) for one in whole}


def _period(one: Measurement) -> dict[str, Any]:
    unit = one.budget.unit
    amounts = {
        f"budget_{unit}": _amount(one, one.budget.amount),
        f"used_{unit}": _amount(one, one.used),
        f"projected_{unit}": _amount(one, one.median),
        f"projected_{unit}_lower": _amount(one, one.lower),
        f"projected_{unit}_upper": _amount(one, one.upper),
    }
    return {**amounts, **_course(one)}


def _quota(one: Measurement) -> dict[str, Any]:
    return {
        **_scope_names(one),
        "period": one.budget.period.name,
        "unit": one.budget.unit.value,
        "budget": _amount(one, one.budget.amount),
        "reserve": one.budget.reserve,
        "override": _override(one),
        "silenced_until": rfc3339(one.budget.silenced_until),
        "used": _amount(one, one.used),
        "used_ratio": one.used_ratio,
        "projected": _amount(one, one.median),
        "projected_lower": _amount(one, one.lower),
        "projected_upper": _amount(one, one.upper),
        **_course(one),
    }


def _override(one: Measurement) -> dict[str, Any] | None:
    """What an operator changed of a budget, while that holds."""
    override = one.budget.override
    if override is None:
        return None
    return {
        "configured": _amount(one, override.configured),
        "until": rfc3339(override.until),
        "by": "operator",
        "reason": override.reason,
    }


def _scope_names(one: Measurement) -> dict[str, str]:
    names = {"model": one.scope.model, "consumer": one.scope.consumer}
    return {name: value for name, value in names.items() if value}


def _course(one: Measurement) -> dict[str, Any]:
    """What is said of a quota whatever its unit."""
    return {
        "window_start": rfc3339(one.window.start),
        "window_end": rfc3339(one.window.end),
        "exhaustion_probability": one.probability,
        "exhaustion_at": rfc3339(one.exhaustion_at),
        "burn_rate": dict(one.burn),
    }


def _amount(one: Measurement, amount: float) -> float:
    """In the unit of the budget."""
    scale = one.budget.unit.scale
    return amount if scale == 1 else amount / scale


def explanation(provider: str, explained: Iterable[Explained]) -> dict[str, Any]:
    """What forecasts rest on, as `GET /v1/providers/{provider}/explain` shows it."""
    return {"provider": provider, "quotas": [_explained(*one) for one in explained]}


def _explained(one: Measurement, why: Explanation, record: Record | None) -> dict[str, Any]:
    def amounts(course: Iterable[float]) -> list[float]:
        return [_amount(one, each) for each in course]

    return {
        **_quota(one),
        "history_days": why.days,
        "learning": why.learning,
        "windows": why.windows,
        "course": {
            "timestamps": why.moments,
            "used": amounts(why.used),
            "usual": amounts(why.usual),
            "usual_lower": amounts(why.lower),
            "usual_upper": amounts(why.upper),
        },
        "record": None
        if record is None
        else {
            "windows": record.windows,
            "brier": record.squares / record.count,
            "mean_probability": record.said / record.count,
            "share_exhausted": record.came / record.count,
        },
    }


def _limits(limits: Mapping[str, Report], drift: Mapping[str, float]) -> dict[str, Any]:
    return {
        key: {
            "limit": report.limit.limit,
            "remaining": report.limit.remaining,
            "utilization": report.limit.utilization,
            "unit": report.limit.unit or None,
            "model": report.limit.model or None,
            "reset_at": rfc3339(report.limit.reset_at),
            "reported_at": rfc3339(report.at),
            "drift": drift.get(key),
        }
        for key, report in limits.items()
    }
