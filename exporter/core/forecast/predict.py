"""The calibrated forecast of every budget window."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.cases import Cases, Forecast
from exporter.core.forecast.features import describe
from exporter.core.forecast.first_days import growth, tempered
from exporter.core.forecast.history import Floats, Ints, Profile, Timeline
from exporter.core.forecast.mixture import Mixture
from exporter.core.forecast.model import outlook
from exporter.core.forecast.moment import moment
from exporter.core.forecast.network import FITTED, Fitted
from exporter.core.forecast.past import paths
from exporter.core.forecast.situation import Situation

_LIKELY = 0.5
"""Above this probability the moment of exhaustion is given."""


def predict(
    profile: Profile, recent: Floats, now: float, cases: Cases, fitted: Fitted = FITTED
) -> Forecast:
    """Forecast the cases from what is known at `now`.

    `recent` holds the bins from `profile.end` on, the last one filled up to `now`. A budget that
    is used up is answered with certainty.
    """
    timeline = Timeline(profile, recent, now)
    open_ = cases.used < cases.budget
    kept = np.where(cases.rolling, 0.0, cases.used)
    # The projection of a rolling window is of what is used from now on.
    fixed = replace(cases, rolling=np.zeros(cases.rolling.shape, bool))
    situation, rows = situations(timeline, fixed)
    ahead = _ahead(situation, rows, cases, now, fitted)
    needed = np.where(open_, cases.budget - cases.used, cases.budget)
    probability = np.where(open_, np.clip(ahead.survival(needed), 0.0, 1.0), 1.0)
    exhaustion = np.where(open_, np.nan, now)

    def put_moments(situation: Situation, rows: Ints, which: NDArray[np.bool_]) -> None:
        likely = probability[which] > _LIKELY
        if likely.any():
            chosen = np.flatnonzero(which)[likely]
            described, asked = situation.take(rows[likely]), cases.take(chosen)
            horizon = _horizon(asked, now)
            used = paths(timeline, asked.series, horizon, asked.rolling)
            exhaustion[chosen] = now + horizon * moment(described, needed[chosen], used, fitted)

    rolls = open_ & cases.rolling
    if rolls.any():
        some = cases.take(rolls)
        rolling, rolling_rows = situations(timeline, some)
        rise = _ahead(rolling, rolling_rows, some, now, fitted)
        probability[rolls] = np.clip(rise.survival(needed[rolls]), 0.0, 1.0)
    begun = open_ & (situation.scale[rows] > 0)
    days, uneven = situation.days[rows], situation.uneven[rows]
    share = cases.used / cases.budget
    adjusted = tempered(probability, days, uneven, _length(cases, now), share)
    probability = np.where(begun, adjusted, probability)
    calendar = open_ & ~cases.rolling
    put_moments(situation, rows[calendar], calendar)
    if rolls.any():
        put_moments(rolling, rolling_rows, rolls)
    lower, median, upper = (kept + amount for amount in ahead.quantiles((0.1, 0.5, 0.9)))
    return Forecast(probability, lower, median, upper, exhaustion)


def _ahead(situation: Situation, rows: Ints, cases: Cases, now: float, fitted: Fitted) -> Mixture:
    """Return what comes in each case, by the description that it has."""
    ahead = outlook(situation, fitted).under(rows, _share(cases, now))
    if not cases.rolling.any():
        return ahead
    more = np.where(cases.rolling, growth(situation.days[rows], _length(cases, now)), 0.0)
    return replace(ahead, location=ahead.location + more[:, None])


def situations(timeline: Timeline, cases: Cases) -> tuple[Situation, Ints]:
    """Describe each distinct question once; return also which description each case has."""
    horizon = _horizon(cases, timeline.now)
    questions = np.stack([cases.series, horizon, cases.utc_offset, cases.rolling], axis=1)
    distinct, rows = np.unique(questions, axis=0, return_inverse=True)
    series, horizons, offsets, rolling = distinct.T
    described = describe(timeline, series.astype(np.intp), horizons, offsets, rolling > 0)
    return described, rows.ravel()


def _horizon(cases: Cases, now: float) -> Floats:
    """Return how many seconds are ahead; of a rolling window as many as it is long."""
    return np.maximum(cases.end - now, 1.0)


def _share(cases: Cases, now: float) -> Floats:
    """Return what of each budget an even use would leave for the time ahead."""
    share: Floats = cases.budget * _horizon(cases, now) / _length(cases, now)
    return share


def _length(cases: Cases, now: float) -> Floats:
    """Return how many seconds the windows are long."""
    horizon = _horizon(cases, now)
    length: Floats = np.where(cases.rolling, horizon, np.maximum(cases.end - cases.start, horizon))
    return length
