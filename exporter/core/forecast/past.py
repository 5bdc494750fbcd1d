"""Past use beside the present: the same hours of earlier days, and what followed them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats, Ints, Timeline

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0

LAGS = 13
"""So many earlier days (or longer periods) are compared with the present one."""
LOOKBACKS = np.array([10 * MINUTE, 30 * MINUTE, *(HOUR * np.arange(1.0, 25.0))])
COMPARED = np.array([1, 3, 6, 12, 24]) * HOUR
"""The last hours compared with the same hours of earlier days."""


@dataclass(frozen=True, slots=True)
class Past:
    """Past use around the cases: a row per case, then a column per lag, then per look-back.

    A lag is one day; for a horizon beyond a day as many whole days as it is long.
    """

    horizon: Floats
    age: Floats
    known: NDArray[np.bool_]
    comparable: NDArray[np.bool_]
    whole_weeks: NDArray[np.bool_]
    ahead: Floats
    weekly: Floats
    weekly_known: NDArray[np.bool_]
    behind: Floats
    spans: Floats
    lately: Floats
    earlier: Floats
    rates: tuple[Floats, Floats, Floats]

    @classmethod
    def of(cls, timeline: Timeline, series: Ints, horizon: Floats) -> "Past":
        now, rows = timeline.now, series[:, None]
        age = np.maximum(now - timeline.since[series], 0.0)
        period = DAY * np.maximum(np.ceil(horizon / DAY - 1e-9), 1.0)[:, None]
        distance = period * np.arange(1, LAGS + 1)
        back = now - distance
        at_back = timeline.total(rows, back)
        week = 7 * DAY * np.ceil(np.maximum(horizon / (7 * DAY), 1 / 7) - 1e-9)
        weekly = timeline.total(series, np.minimum(now - week + horizon, now))
        at_now = timeline.total(series, np.full(series.shape, now))
        # The last span is the time since the present period began.
        begun = np.maximum(period - horizon[:, None], 10 * MINUTE)
        spans = np.hstack([np.broadcast_to(COMPARED, (series.size, COMPARED.size)), begun])
        before = back[:, :, None] - spans[:, None, :]

        def rate(longest: float) -> Floats:
            length = np.minimum(age, longest)
            used: Floats = at_now - timeline.total(series, now - length)
            return used / np.maximum(length, HOUR)

        return cls(
            horizon,
            age,
            known=age[:, None] >= distance - HOUR,
            comparable=age[:, None] >= distance + 6 * HOUR,
            whole_weeks=distance % (7 * DAY) == 0,
            ahead=timeline.total(rows, np.minimum(back + horizon[:, None], now)) - at_back,
            weekly=weekly - timeline.total(series, now - week),
            weekly_known=age >= week - HOUR,
            behind=at_now[:, None] - timeline.total(rows, now - LOOKBACKS),
            spans=spans,
            lately=at_now[:, None] - timeline.total(rows, now - spans),
            earlier=at_back[:, :, None] - timeline.total(rows[:, :, None], before),
            rates=(rate(3 * DAY), rate(7 * DAY), at_now / np.maximum(age, HOUR)),
        )
