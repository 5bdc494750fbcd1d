"""The first days of a series: less sure where use is uneven, more where it is even.

A little history is a sample of few hours. Forecasts of series that none of the networks had seen
(five folds of the ServeGen clients) were right about even use and too sure of uneven use, up to
the third day; and rolling windows of days held more than was said while a series was young.
"""

import numpy as np

from exporter.core.forecast.history import Floats
from exporter.core.forecast.past import DAY, HOUR

_GROWTH, _GROWN, _GROWING = 0.12, 14.0, 7.0
"""Logarithm by which rolling windows of days hold more in the first week; none from the fourteenth
day on, and in between less from day to day."""
_EVEN_SLOPE, _UNEVEN_SLOPE = 1.1, 0.5
"""Slopes of the log-odds where use is even, and where it is uneven."""
_PIVOT = -0.7
"""Log-odds that are not changed."""
_EVEN, _EVEN_LATER, _UNEVEN = 0.1, 0.6, 0.6
"""Deviation of the hours, over their mean, up to which use is even; by how much that is more from
a day on; and from how much more on it is uneven."""
_MAX_DAYS = 2.5
"""Days from which on nothing is changed; in the last of them by less from hour to hour."""
_MIN_LENGTH = 6 * HOUR
"""Of windows that are meant: shorter ones were right."""
_GUESS_SHARE, _MAX_GUESS = 2e-4, 0.05
"""Part of a budget of which so little is used in the first hours that more than this probability
would be a guess; with more use it may be more, by the square."""
_GUESS_DAYS, _MAX_GUESS_DAYS = 0.25, 0.5
"""Days up to which that holds, and from which on it does not."""


def growth(days: Floats, length: Floats) -> Floats:
    """Return the logarithm by which a rolling window of so many seconds rises more."""
    young = np.clip((_GROWN - days) / (_GROWN - _GROWING), 0.0, 1.0)
    more: Floats = np.where(length > DAY, _GROWTH * young, 0.0)
    return more


def tempered(
    probability: Floats, days: Floats, uneven: Floats, length: Floats, share: Floats
) -> Floats:
    """Return the probabilities of reaching budgets.

    `days` have passed since the first use, `uneven` was the use of hours as their deviation over
    their mean, `length` are the windows' seconds, and `share` is what is used of the budgets.
    """
    inside = np.clip(probability, 1e-9, 1 - 1e-9)
    odds = np.log(inside / (1 - inside))
    even = _EVEN + _EVEN_LATER * np.minimum(days, 1.0)
    bursts = np.clip((uneven - even) / _UNEVEN, 0.0, 1.0)
    young = np.where(length >= _MIN_LENGTH, np.clip(_MAX_DAYS - days, 0.0, 1.0), 0.0)
    slope = 1 + young * (_EVEN_SLOPE - 1 + (_UNEVEN_SLOPE - _EVEN_SLOPE) * bursts)
    adjusted = 1 / (1 + np.exp(_PIVOT * (slope - 1) - slope * odds))
    hardly = _MAX_GUESS * np.maximum(share / _GUESS_SHARE, 1.0) ** 2
    first = np.clip((_MAX_GUESS_DAYS - days) / (_MAX_GUESS_DAYS - _GUESS_DAYS), 0.0, 1.0)
    limit = np.minimum(hardly, 1.0) ** first
    return np.where(young > 0, np.minimum(adjusted, limit), probability)
