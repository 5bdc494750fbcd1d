"""What the measured quotas of a scope do to its state: the causes `budget` and `predicted`."""

from collections.abc import Callable, Sequence

from exporter.core.budget import Quota
from exporter.core.measurement import Measurement
from exporter.core.quota_state import QuotaState, Reason
from exporter.core.views import allowed, shown

RELEASED = 0.08
"""Of a budget: by so much its use must have fallen (a rolling window forgot, or the budget was
raised) before a prediction that it runs out is taken back."""

_MIN_SHARE = 0.01

FreedAt = Callable[[Measurement, float, float], float]
"""When less than a share of a budget is used, if nothing more is, seen from a moment."""


def settled(
    state: QuotaState, measured: Sequence[Measurement], freed_at: FreedAt, now: float
) -> QuotaState:
    """Hold a state against the measurements of all quotas of its scope."""
    spent = [one for one in measured if one.exceeded]
    if not state.known and not spent and not any(map(_alarming, measured)):
        return state  # as nearly always: spare the rest
    until = max((freed_at(one, 1.0, now) for one in spent), default=None)
    detail = ", ".join(f"{shown(one.budget, one.used)} of {allowed(one.quota)}" for one in spent)
    return _predicted(state.with_budget(until, now, detail), measured, freed_at, now)


def spent(state: QuotaState, quota: Quota, used: float, until: float, now: float) -> QuotaState:
    """Add to a state that a quota has just been spent, until a time at which it will not be any
    more (Unix seconds)."""
    held = state.causes.get(Reason.BUDGET)
    ends = until if held is None else max(until, held.retry_at)
    return state.with_budget(ends, now, f"{shown(quota.budget, used)} of {allowed(quota)}")


def _alarming(one: Measurement) -> bool:
    """Whether a budget is to run out, likely enough and near enough to take its scope out."""
    enough = one.budget.predicted_out_at
    return (
        enough is not None
        and one.probability >= enough  # seldom
        and not one.exceeded
        and one.used >= one.budget.prediction.from_used * one.budget.spent_at
    )


def _holds(one: Measurement) -> bool:
    """Whether a budget goes on holding its scope out that was predicted to run out."""
    settings = one.budget.prediction
    if one.budget.predicted_out_at is None or one.exceeded:
        return False
    if settings.release_below is not None:
        return one.probability >= settings.release_below
    return one.used >= (settings.from_used - RELEASED) * one.budget.spent_at


def _predicted(
    state: QuotaState, measured: Sequence[Measurement], freed_at: FreedAt, now: float
) -> QuotaState:
    """Hold a state against the exhaustion that is nearly there.

    Once a budget is predicted to run out, that stays until the time that was announced, whatever
    becomes of the probability (routers that obey lower it), unless less of the budget is used.
    """
    if state.is_predicted(now):
        stays = any(_holds(one) for one in measured)
        return state if stays else state.without_prediction(now)
    likely = [one for one in measured if _alarming(one)]
    if not likely:
        return state
    # Nothing used is less than any share but none.
    until = {
        freed_at(one, max(one.budget.prediction.from_used - RELEASED, _MIN_SHARE), now): one
        for one in likely
    }
    worst = until[max(until)]
    detail = (
        f"probability {worst.probability:.3f}, projected {shown(worst.budget, worst.median)} of "
        f"{allowed(worst.quota)}"
    )
    return state.with_prediction(max(until), now, detail)
