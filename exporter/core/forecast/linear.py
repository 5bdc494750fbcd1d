"""The customary rules, to be chosen instead of the forecast or compared with it."""

import numpy as np

from exporter.core.forecast.cases import Cases, Forecast
from exporter.core.forecast.history import Floats, Profile, Timeline

_SAMPLES = 60


def linear(now: float, cases: Cases) -> Forecast:
    """Let the window's use so far go on evenly: used x length / elapsed.

    Exhausted, with probability 1 and otherwise 0, when that exceeds the budget or the budget is
    used.
    """
    elapsed = now - cases.start
    rate = np.where(elapsed > 0, cases.used / np.where(elapsed > 0, elapsed, 1.0), 0.0)
    length = np.where(cases.rolling, elapsed, cases.end - cases.start)
    projection = np.maximum(rate * length, cases.used)
    return _certain(now, cases, projection, rate)


def predict_linear(
    profile: Profile, recent: Floats, now: float, cases: Cases, span: float
) -> Forecast:
    """Answer as PromQL's `predict_linear(used[span], end - now)` does: a least-squares line.

    The line goes through the use counted in the window during the last `span` seconds, or since
    the window began if that is less; a rolling window's through what was used in that span.
    """
    timeline = Timeline(profile, recent, now)
    begin = np.where(cases.rolling, now - span, np.maximum(cases.start, now - span))
    begin = np.minimum(begin, now)[:, None]
    moments = begin + (now - begin) * np.linspace(0.0, 1.0, _SAMPLES)
    totals = timeline.total(cases.series[:, None], moments)
    counter = cases.used[:, None] - (totals[:, -1:] - totals)
    offset = moments - moments.mean(axis=1, keepdims=True)
    square = (offset**2).sum(axis=1)
    slope = (offset * counter).sum(axis=1) / np.where(square > 0, square, 1.0)
    fitted = counter.mean(axis=1) + slope * (now - moments.mean(axis=1))
    grown = np.where(cases.rolling, slope * (cases.end - now), fitted + slope * (cases.end - now))
    projection = np.maximum(grown, np.where(cases.rolling, 0.0, cases.used))
    return _certain(now, cases, projection, slope)


def _certain(now: float, cases: Cases, projection: Floats, rate: Floats) -> Forecast:
    spent = cases.used >= cases.budget
    exhausted = spent | (projection > cases.budget)
    left = np.maximum(cases.budget - cases.used, 0.0)
    wait = left / np.where(rate > 0, rate, 1.0)
    moment = np.minimum(now + np.where(rate > 0, wait, 0.0), cases.end)
    moment = np.where(spent, now, np.where(exhausted, moment, np.nan))
    return Forecast(exhausted.astype(np.float64), projection, projection, projection, moment)
