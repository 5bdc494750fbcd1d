"""The calibrated forecast of every budget window."""

import numpy as np

from exporter.core.forecast.cases import Cases, Forecast
from exporter.core.forecast.features import DAY, describe
from exporter.core.forecast.history import Floats, Ints, Profile, Timeline
from exporter.core.forecast.model import Outlook, outlook

_ROLLING_STEPS = (0.25, 0.5)
"""At which shares of its length, besides the whole, a rolling window is looked at."""
_PATH = np.linspace(0.0, 1.0, 25)
_PATH_LAGS = np.array([1, 2, 3, 7])
_PATH_WEIGHTS = np.array([0.4, 0.2, 0.1, 0.3])
_PATH_FLAT = 0.1
"""Weight of an even flow, which is all that is left where no past day is known."""


def predict(profile: Profile, recent: Floats, now: float, cases: Cases) -> Forecast:
    """Forecast the cases from what is known at `now`.

    `recent` holds the bins from `profile.end` on, the last one filled up to `now`. A window that
    is over, or of which the budget is used, is answered with certainty.
    """
    timeline = Timeline(profile, recent, now)
    horizon = np.maximum(cases.end - now, 1.0)
    length = np.where(cases.rolling, horizon, np.maximum(cases.end - cases.start, 1.0))
    outcome, rows = _outlooks(timeline, cases, horizon)
    ahead = outcome.under(rows, cases.budget * horizon / length)
    left = np.maximum(cases.budget - cases.used, 0.0)
    kept = np.where(cases.rolling, 0.0, cases.used)
    tiny = np.finfo(np.float64).tiny
    probability = ahead.survival(np.maximum(cases.budget - kept, tiny))
    rolling = cases.rolling & (left > 0)
    if rolling.any():
        probability[rolling] = np.maximum(
            probability[rolling], _within_length(timeline, cases.take(rolling), horizon[rolling])
        )
    probability = np.clip(np.where(left > 0, probability, 1.0), 0.0, 1.0)
    lower, median, upper = (
        kept + ahead.quantile(np.full(kept.shape, level)) for level in (0.1, 0.5, 0.9)
    )

    exhaustion = np.where(left > 0, np.nan, now)
    likely = (probability > 0.5) & (left > 0)
    if likely.any():
        # What is used ahead if the budget is reached at all: the middle of that part.
        levels = 1 - np.minimum(probability, ahead.survival(np.maximum(left, tiny))) / 2
        amount = np.maximum(ahead.quantile(levels), left)[likely]
        exhaustion[likely] = _crossing(timeline, cases.take(likely), horizon[likely], amount)
    return Forecast(probability, lower, median, upper, exhaustion)


def _outlooks(timeline: Timeline, cases: Cases, horizon: Floats) -> tuple[Outlook, Ints]:
    """Return an outlook per distinct question, and which one answers each case."""
    questions = np.stack([cases.series, horizon, cases.utc_offset], axis=1)
    distinct, rows = np.unique(questions, axis=0, return_inverse=True)
    series, horizons, offsets = distinct.T
    situation = describe(timeline, series.astype(np.intp), horizons, offsets)
    return outlook(situation), rows.ravel()


def _within_length(timeline: Timeline, cases: Cases, horizon: Floats) -> Floats:
    """Return the chance that a rolling window is full at one of the steps before its length."""
    best = np.zeros(horizon.shape)
    for step in _ROLLING_STEPS:
        outcome, rows = _outlooks(timeline, cases, step * horizon)
        needed = cases.budget - _retained(timeline, cases, step * horizon)
        ahead = outcome.under(rows, cases.budget * step)
        best = np.maximum(best, ahead.survival(np.maximum(needed, 1e-9 * cases.budget)))
    return best


def _retained(timeline: Timeline, cases: Cases, after: Floats) -> Floats:
    """Return what a window still counts of its use so far, `after` seconds from now."""
    now = np.full(after.shape, timeline.now)
    begin = np.minimum(cases.start + after, now)
    since = timeline.total(cases.series, now) - timeline.total(cases.series, begin)
    return np.where(cases.rolling, np.minimum(since, cases.used), cases.used)


def _crossing(timeline: Timeline, cases: Cases, horizon: Floats, amount: Floats) -> Floats:
    """Return when `amount`, used ahead in the rhythm of past days, fills each budget."""
    now = timeline.now
    period = DAY * np.maximum(np.ceil(horizon / DAY - 1e-9), 1.0)
    begin = now - period[:, None] * _PATH_LAGS
    known = timeline.since[cases.series][:, None] <= begin
    moments = np.minimum(begin[:, :, None] + horizon[:, None, None] * _PATH, now)
    totals = timeline.total(cases.series[:, None, None], moments)
    paths = (known * _PATH_WEIGHTS)[:, :, None] * (totals - totals[:, :, :1])
    rhythm = paths.sum(axis=1)
    whole = rhythm[:, -1:]
    shaped = np.where(whole > 0, rhythm / np.where(whole > 0, whole, 1.0), _PATH)
    path = amount[:, None] * ((1 - _PATH_FLAT) * shaped + _PATH_FLAT * _PATH)
    kept = np.stack([_retained(timeline, cases, share * horizon) for share in _PATH], axis=1)
    reached = path + kept >= cases.budget[:, None] * (1 - 1e-12)
    last = np.where(reached.any(axis=1), reached.argmax(axis=1), _PATH.size - 1)
    last = np.maximum(last, 1)
    each = np.arange(last.size)
    after, before = (path + kept)[each, last], (path + kept)[each, last - 1]
    part = (cases.budget - before) / np.where(after > before, after - before, 1.0)
    share = _PATH[last - 1] + np.clip(part, 0.0, 1.0) * (_PATH[last] - _PATH[last - 1])
    moment: Floats = now + share * horizon
    return moment
