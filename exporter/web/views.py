"""Providers as JSON for routers."""

from collections.abc import Mapping
from typing import Any

from exporter.core.measure import Measurement
from exporter.core.moment import rfc3339
from exporter.quota_states import ProviderView, Reported


def provider(view: ProviderView) -> dict[str, Any]:
    """One provider, as `GET /v1/providers/{provider}` shows it."""
    state = view.view
    return {
        "provider": view.name,
        "state": state.state.value,
        "reason": state.reason.value if state.reason else None,
        "retry_after": rfc3339(state.retry_at),
        "detail": state.detail,
        "recovery_pending": view.pending,
        "throttled_until": rfc3339(view.throttled_until),
        "periods": {one.budget.period.name: period(one) for one in view.measurements},
        "limits": _limits(view.limits, view.drift),
    }


def period(one: Measurement) -> dict[str, Any]:
    """One budget, measured."""
    return {
        "budget_tokens": one.budget.tokens,
        "used_tokens": one.used,
        "window_start": rfc3339(one.window.start),
        "window_end": rfc3339(one.window.end),
        "projected_tokens": one.median,
        "projected_tokens_lower": one.lower,
        "projected_tokens_upper": one.upper,
        "exhaustion_probability": one.probability,
        "exhaustion_at": rfc3339(one.exhaustion_at),
        "burn_rate": dict(one.burn),
    }


def _limits(limits: Mapping[str, Reported], drift: Mapping[str, float]) -> dict[str, Any]:
    return {
        name: {
            "limit": limit.limit,
            "remaining": limit.remaining,
            "utilization": limit.utilization,
            "reset_at": rfc3339(limit.reset_at),
            "reported_at": rfc3339(at),
            "drift": drift.get(name),
        }
        for name, (limit, at) in limits.items()
    }
