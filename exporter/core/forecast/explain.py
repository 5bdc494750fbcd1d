"""What a forecast rests on: the usual course of such a window, and how much of the past speaks."""

from collections.abc import Callable

import msgspec
import numpy as np

from exporter.core.forecast.cases import Cases
from exporter.core.forecast.history import Floats, Ints, Profile, Timeline
from exporter.core.forecast.model import alike
from exporter.core.forecast.past import DAY, LAG_DAYS, WEEK_DAYS
from exporter.core.forecast.predict import situations

POINTS = 49
"""Moments at which a course is given, of a day every half an hour."""

LEARNED_DAYS = 14.0
"""Days of history from which on a forecast knows the week; before it is learning."""

_SPEAKS = 0.01
"""Weight below which an earlier window hardly speaks."""


class Explanation(msgspec.Struct, frozen=True):
    """The course of one budget's window beside that of earlier ones; tokens are weighted.

    Attributes:
        moments: Unix seconds, from the window's start to its end; of a rolling window from one
            length before now to one after it.
        lower, usual, upper: quantiles (10, 50, 90 %) of what was asked for in earlier windows up
            to such a moment (used, or turned away while the provider was out), weighed by their
            likeness to the present one; empty when none is known.
        used: what this one had used, up to now; of a rolling window what it held.
        windows: how many earlier windows were scored.
        days: days of history.
    """

    moments: list[float]
    lower: list[float]
    usual: list[float]
    upper: list[float]
    used: list[float]
    windows: int
    days: float

    def scaled(self, factor: float) -> "Explanation":
        """The same in another unit."""
        if factor == 1:
            return self
        lines = (self.lower, self.usual, self.upper, self.used)
        lower, usual, upper, used = ([factor * each for each in line] for line in lines)
        return msgspec.structs.replace(self, lower=lower, usual=usual, upper=upper, used=used)

    @property
    def learning(self) -> bool:
        """The forecaster has not yet seen this provider for long enough to know its week."""
        return self.days < LEARNED_DAYS


def explain(profile: Profile, recent: Floats, now: float, cases: Cases) -> list[Explanation]:
    """Explain what is said of the cases."""
    timeline = Timeline(profile, recent, now)
    described, rows = situations(timeline, cases)
    weights = alike(described)[rows]
    days = np.maximum(now - timeline.since[cases.series], 0.0) / DAY
    found = []
    for case in range(len(cases.used)):
        one = cases.take(np.array([case]))
        series, start, end = one.series, float(one.start[0]), float(one.end[0])
        moments = np.linspace(start, end, POINTS)
        rolling = bool(one.rolling[0])
        length = end - now if rolling else 0.0
        courses, weight = _courses(timeline, series, moments, length, weights[case])
        past = moments[moments <= now]
        lower, usual, upper = _quantiles(courses, weight, (0.1, 0.5, 0.9))
        found.append(
            Explanation(
                moments.tolist(),
                lower,
                usual,
                upper,
                used=_course(timeline.used, series, past, length, 0.0).tolist(),
                windows=int((weight > _SPEAKS).sum()),
                days=float(days[case]),
            )
        )
    return found


def _course(
    sums: Callable[[Ints, Floats], Floats],
    series: Ints,
    moments: Floats,
    length: float,
    back: float,
) -> Floats:
    """Return what a window held `back` seconds before each moment, of what `sums` are of."""
    then = moments - back
    begin = then - length if length else np.full(then.shape, moments[:1] - back)
    return sums(series, then) - sums(series, begin)


def _courses(
    timeline: Timeline, series: Ints, moments: Floats, length: float, weight: Floats
) -> tuple[Floats, Floats]:
    """Return the courses of the earlier windows that are known, and what each counts.

    What is longer than a day is compared with windows of the same weekdays, once there are any.
    """
    now = timeline.now
    since = timeline.since[series[0]]
    span = moments[-1] - moments[0]
    distances = LAG_DAYS * DAY
    # All of an earlier window is past, and what it may hold was seen.
    known = (moments[-1] - distances <= now) & (moments[0] - distances - length >= since - DAY / 24)
    if span > DAY:
        same = known & (LAG_DAYS % WEEK_DAYS == 0)
        known = same if same.any() else known
    if not known.any():
        return np.zeros((0, moments.size)), np.zeros(0)
    courses = [_course(timeline.total, series, moments, length, back) for back in distances[known]]
    share = np.maximum(weight[known], _SPEAKS / LAG_DAYS.size)
    return np.array(courses), share / share.sum()


def _quantiles(courses: Floats, weight: Floats, levels: tuple[float, ...]) -> list[list[float]]:
    """Return weighted quantiles of the courses at each moment; nothing when there are none."""
    if not len(courses):
        return [[] for _ in levels]
    order = np.argsort(courses, axis=0)
    ordered = np.take_along_axis(courses, order, axis=0)
    shares = weight[order].cumsum(axis=0) - weight[order] / 2
    return [
        [float(np.interp(level, shares[:, at], ordered[:, at])) for at in range(courses.shape[1])]
        for level in levels
    ]
