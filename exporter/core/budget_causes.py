"""What the measured quotas of a scope do to its state: the causes `budget` and `predicted`."""

from collections.abc import Callable, Sequence

from exporter.core.budget import PredictionSettings, Quota
from exporter.core.measure import Measurement
from exporter.core.quota_state import QuotaState, Reason
from exporter.core.views import allowed, shown

FreedAt = Callable[[Measurement, float], float]
"""When a spent budget is no longer spent, seen from a moment."""


def settled(
    state: QuotaState, measured: Sequence[Measurement], freed_at: FreedAt, now: float
) -> QuotaState:
    """Hold a state against the measurements of all quotas of its scope."""
    spent = [one for one in measured if one.exceeded]
    if not state.known and not spent and not any(map(_alarming, measured)):
        return state  # as nearly always: spare the rest
    until = max((freed_at(one, now) for one in spent), default=None)
    detail = ", ".join(f"{shown(one.budget, one.used)} of {allowed(one.quota)}" for one in spent)
    return _predicted(state.with_budget(until, now, detail), measured, now)


def spent(state: QuotaState, quota: Quota, used: float, until: float, now: float) -> QuotaState:
    """Add to a state that a quota has just been spent, until a time at which it will not be any
    more (Unix seconds)."""
    held = state.causes.get(Reason.BUDGET)
    ends = until if held is None else max(until, held.retry_at)
    return state.with_budget(ends, now, f"{shown(quota.budget, used)} of {allowed(quota)}")


def _alarming(one: Measurement) -> bool:
    enough = one.budget.prediction.exhausted_at
    return enough is not None and one.probability >= enough


def _predicted(state: QuotaState, measured: Sequence[Measurement], now: float) -> QuotaState:
    """Hold a state against the likeliest exhaustion that has not come yet."""
    held = state.causes.get(Reason.PREDICTED)
    live = held is not None and held.live(now)

    def excess(one: Measurement) -> float:
        """By how much a forecast is beyond the threshold that is set for it."""
        settings = one.budget.prediction
        enter = settings.exhausted_at or 0.0
        return one.probability - (settings.release_below if live else enter)

    ahead = [
        one
        for one in measured
        if not one.exceeded and one.budget.prediction.exhausted_at is not None
    ]
    if not ahead:
        return state.with_prediction(None, None, now)
    worst = max(ahead, key=lambda one: (excess(one), one.probability))
    if not worst.budget.period.rolling:
        until = worst.window.end
    elif held is not None and live:
        until = held.retry_at  # a rolling window has no end of its own: keep to the first
    else:
        until = now + (worst.window.end - worst.window.start)
    detail = (
        f"probability {worst.probability:.3f}, projected {shown(worst.budget, worst.median)} of "
        f"{allowed(worst.quota)}"
    )
    settings: PredictionSettings = worst.budget.prediction
    return state.with_prediction(
        worst.probability,
        until,
        now,
        enter=settings.exhausted_at or 1.0,
        leave=settings.release_below,
        detail=detail,
    )
