"""The calibrated forecast of every budget window."""

import numpy as np

from exporter.core.forecast.cases import Cases, Forecast
from exporter.core.forecast.features import Situation, describe
from exporter.core.forecast.history import Floats, Ints, Profile, Timeline
from exporter.core.forecast.model import outlook
from exporter.core.forecast.moment import moment, paths
from exporter.core.forecast.network import FITTED, Fitted

_ROLLING_STEPS = (0.25, 0.5)
"""At which shares of its length, besides the whole, a rolling window is looked at."""
_ROLLING_ROUNDS = 3
"""How often the moment a rolling window fills is corrected for what it forgets until then."""


def predict(
    profile: Profile, recent: Floats, now: float, cases: Cases, fitted: Fitted = FITTED
) -> Forecast:
    """Forecast the cases from what is known at `now`.

    `recent` holds the bins from `profile.end` on, the last one filled up to `now`. A budget that
    is used up is answered with certainty.
    """
    timeline = Timeline(profile, recent, now)
    horizon = np.maximum(cases.end - now, 1.0)
    length = np.where(cases.rolling, horizon, np.maximum(cases.end - cases.start, horizon))
    situation, rows = _situations(timeline, cases, horizon)
    ahead = outlook(situation, fitted).under(rows, cases.budget * horizon / length)

    kept = np.where(cases.rolling, 0.0, cases.used)
    open_ = cases.used < cases.budget
    probability = ahead.survival(np.where(open_, cases.budget - kept, cases.budget))
    rolling = cases.rolling & open_
    if rolling.any():
        sooner = _within_length(timeline, cases.take(rolling), horizon[rolling], fitted)
        probability[rolling] = np.maximum(probability[rolling], sooner)
    probability = np.where(open_, np.clip(probability, 0.0, 1.0), 1.0)
    lower, median, upper = (kept + ahead_of for ahead_of in ahead.quantiles((0.1, 0.5, 0.9)))

    exhaustion = np.where(open_, np.nan, now)
    likely = open_ & (probability > 0.5)
    if likely.any():
        described = situation.take(rows[likely])
        expected = cases.take(likely)
        exhaustion[likely] = _moments(timeline, expected, horizon[likely], described, fitted)
    return Forecast(probability, lower, median, upper, exhaustion)


def _situations(timeline: Timeline, cases: Cases, horizon: Floats) -> tuple[Situation, Ints]:
    """Describe each distinct question once; return also which description each case has."""
    questions = np.stack([cases.series, horizon, cases.utc_offset], axis=1)
    distinct, rows = np.unique(questions, axis=0, return_inverse=True)
    series, horizons, offsets = distinct.T
    return describe(timeline, series.astype(np.intp), horizons, offsets), rows.ravel()


def _within_length(timeline: Timeline, cases: Cases, horizon: Floats, fitted: Fitted) -> Floats:
    """Return the chance that a rolling window is full at one of the steps before its length."""
    best = np.zeros(horizon.shape)
    for step in _ROLLING_STEPS:
        situation, rows = _situations(timeline, cases, step * horizon)
        ahead = outlook(situation, fitted).under(rows, cases.budget * step)
        needed = cases.budget - _retained(timeline, cases, step * horizon)
        best = np.maximum(best, ahead.survival(needed))
    return best


def _retained(timeline: Timeline, cases: Cases, after: Floats) -> Floats:
    """Return what a window still counts of its use so far, `after` seconds from now."""
    now = np.full(after.shape, timeline.now)
    begin = np.minimum(cases.start + after, now)
    since = timeline.total(cases.series, now) - timeline.total(cases.series, begin)
    return np.where(cases.rolling, np.minimum(since, cases.used), cases.used)


def _moments(
    timeline: Timeline, cases: Cases, horizon: Floats, situation: Situation, fitted: Fitted
) -> Floats:
    """Return when each budget is expected to be used up, given that it will be."""
    used = paths(timeline, cases.series, horizon)
    share = np.zeros(horizon.shape)
    for _ in range(_ROLLING_ROUNDS if cases.rolling.any() else 1):
        needed = cases.budget - _retained(timeline, cases, share * horizon)
        share = moment(situation, needed, used, fitted)
    moments: Floats = timeline.now + share * horizon
    return moments
