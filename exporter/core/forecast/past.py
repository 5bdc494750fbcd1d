"""Past use beside the present: the same hours of earlier days, and what followed them.

An earlier day answers for any stretch: what is longer than its distance is its repetition, as in
a seasonal naive forecast (https://otexts.com/fpp3/simple-methods.html). A distance of whole weeks
keeps the weekday.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats, Ints, Timeline

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
WEEK_DAYS = 7

LAG_DAYS = np.array([*range(1, 11), 14, 21, 28])
"""Distances, in days, of the earlier days that are compared with the present one."""
LAGS = LAG_DAYS.size
REACH = 35
"""Days that are looked back on at most."""
LOOKBACKS = np.array([10 * MINUTE, 30 * MINUTE, *(HOUR * np.arange(1.0, 25.0))])
COMPARED = np.array([1, 3, 6, 12, 24]) * HOUR
"""The last hours compared with the same hours of earlier days."""
STEPS = np.linspace(0.0, 1.0, 25)
"""The shares of the time ahead at which the use of earlier days is looked up."""
_ORIGINS = np.array([7, 14, 21])
"""Days ago, on this weekday, at which the earlier days are tried as forecasts."""
_TRIED_DAYS = np.arange(1, 8)
"""Days ago at which they are tried for the stretch of at most a day."""
_FLOOR = 1e-2
"""Of usual use, added to both sides of a ratio."""


@dataclass(frozen=True, slots=True)
class Trials:
    """How right each earlier distance would have been: a row per case, a column per lag.

    Attributes:
        bias: mean logarithm of what came over what the distance said.
        error: mean of its absolute value.
        spread: its standard deviation, what is left of the error when the bias is known.
        count: in how many trials, 0 where there was no history for one.
    """

    bias: Floats
    error: Floats
    spread: Floats
    count: Floats


@dataclass(frozen=True, slots=True)
class Past:
    """Past use around the cases: a row per case, then a column per lag, then per look-back."""

    horizon: Floats
    age: Floats
    known: NDArray[np.bool_]
    comparable: NDArray[np.bool_]
    ahead: Floats
    behind: Floats
    spans: Floats
    lately: Floats
    earlier: Floats
    rates: tuple[Floats, Floats, Floats]
    weekly: Trials
    daily: Trials

    @classmethod
    def of(cls, timeline: Timeline, series: Ints, horizon: Floats) -> "Past":
        now, rows = timeline.now, series[:, None]
        age = np.maximum(now - timeline.since[series], 0.0)
        back = now - DAY * np.arange(REACH + 1)
        edges = timeline.total(rows, np.broadcast_to(back, (series.size, REACH + 1)))
        at_now, at_back = edges[:, 0], edges[:, LAG_DAYS]
        # The last span is the time since the present day began.
        begun = np.maximum(np.ceil(horizon / DAY - 1e-9) * DAY - horizon, 10 * MINUTE)[:, None]
        spans = np.hstack([np.broadcast_to(COMPARED, (series.size, COMPARED.size)), begun])
        before = (now - DAY * LAG_DAYS)[None, :, None] - spans[:, None, :]

        def rate(longest: float) -> Floats:
            length = np.minimum(age, longest)
            used: Floats = at_now - timeline.total(series, now - length)
            return used / np.maximum(length, HOUR)

        rates = (rate(3 * DAY), rate(7 * DAY), at_now / np.maximum(age, HOUR))
        ahead, weekly, daily = _seasons(timeline, series, horizon, edges, age, rates[1])
        return cls(
            horizon,
            age,
            known=age[:, None] >= LAG_DAYS * DAY - HOUR,
            comparable=age[:, None] >= LAG_DAYS * DAY + 6 * HOUR,
            ahead=ahead,
            behind=at_now[:, None] - timeline.total(rows, now - LOOKBACKS),
            spans=spans,
            lately=at_now[:, None] - timeline.total(rows, now - spans),
            earlier=at_back[:, :, None] - timeline.total(rows[:, :, None], before),
            rates=rates,
            weekly=weekly,
            daily=daily,
        )


def _seasons(
    timeline: Timeline, series: Ints, horizon: Floats, edges: Floats, age: Floats, rate: Floats
) -> tuple[Floats, Trials, Trials]:
    """Return what each lag says of the stretch ahead, and its trials by week and by day."""
    now = timeline.now
    whole = np.floor(horizon / DAY + 1e-9)
    part = horizon - whole * DAY
    back = now - DAY * np.arange(REACH + 1)
    beyond = timeline.total(series[:, None], np.minimum(back + part[:, None], now))
    ahead = _repeated(edges, beyond, 0, LAG_DAYS, whole)

    long = horizon > WEEK_DAYS * DAY
    tried = np.where(long, WEEK_DAYS, whole)
    beyond = np.where(long[:, None], edges, beyond)
    floor = (_FLOOR * rate * np.minimum(horizon, WEEK_DAYS * DAY) + (rate <= 0))[:, None]
    off = np.zeros((len(_ORIGINS), series.size, LAGS))
    held = np.zeros(off.shape, bool)
    for number, origin in enumerate(_ORIGINS):
        lags = np.flatnonzero(origin + LAG_DAYS <= REACH)
        came = np.take_along_axis(beyond, (origin - tried.astype(np.intp))[:, None], axis=1)
        came = came - edges[:, origin : origin + 1]
        said = _repeated(edges, beyond, origin, LAG_DAYS[lags], tried)
        off[number][:, lags] = np.log((came + floor) / (said + floor))
        held[number][:, lags] = age[:, None] >= (origin + LAG_DAYS[lags]) * DAY - HOUR

    # Of the first day ahead alone there are many trials.
    first = np.where((whole > 0)[:, None], edges[:, :-1], beyond[:, 1:]) - edges[:, 1:]
    floor = (_FLOOR * rate * np.minimum(horizon, DAY) + (rate <= 0))[:, None]
    size = np.log(first + floor)
    then = _TRIED_DAYS[:, None] + LAG_DAYS
    inside = then <= REACH
    days_off = size[:, _TRIED_DAYS - 1][:, :, None] - size[:, np.minimum(then, REACH) - 1]
    days_held = inside & (age[:, None, None] >= then * DAY - HOUR)
    return ahead, _trials(off, held, 0), _trials(days_off, days_held, 1)


def _trials(off: Floats, held: NDArray[np.bool_], axis: int) -> Trials:
    off = np.clip(off, -6.0, 6.0) * held
    count = held.sum(axis=axis)
    share = np.maximum(count, 1)
    bias = off.sum(axis=axis) / share
    variance = (off**2).sum(axis=axis) / share - bias**2
    error = np.abs(off).sum(axis=axis) / share
    return Trials(bias, error, np.sqrt(np.maximum(variance, 0.0)), count)


def _repeated(edges: Floats, beyond: Floats, origin: int, lags: Ints, whole: Floats) -> Floats:
    """Return the use from `origin` days ago on, had each lag's days repeated themselves.

    `edges` and `beyond` are totals so many days ago, at the time of now and of the window's end.
    """
    days = whole.astype(np.intp)[:, None]
    times, rest = days // lags, days % lags
    begin = edges[:, origin + lags]
    full = edges[:, origin : origin + 1] - begin
    used: Floats = times * full + np.take_along_axis(beyond, origin + lags - rest, axis=1) - begin
    return used


def paths(timeline: Timeline, series: Ints, horizon: Floats, rolling: NDArray[np.bool_]) -> Floats:
    """Return per case and lag what it says is used from now to each of `STEPS` of the horizon.

    Of a rolling window as long as the horizon: by how much its use has risen above the present one.
    """
    now, rows = timeline.now, series[:, None, None]
    lags = (DAY * LAG_DAYS)[None, :, None]
    after = horizon[:, None, None] * STEPS
    times = np.floor(after / lags)
    moments = np.minimum(now - lags + after - times * lags, now)
    at_now = timeline.total(series, np.full(series.shape, now))
    begin = timeline.total(
        series[:, None], np.broadcast_to(now - lags[0, :, 0], (len(series), LAGS))
    )
    full = (at_now[:, None] - begin)[:, :, None]
    used: Floats = times * full + timeline.total(rows, moments) - begin[:, :, None]
    which = np.flatnonzero(rolling)
    if which.size:
        kept = retained(timeline, series[which], horizon[which, None] * (1 - STEPS))
        risen = kept[:, None, :] - kept[:, None, :1] + used[which]
        used[which] = np.maximum.accumulate(risen, axis=2)
    return used


def retained(timeline: Timeline, series: Ints, lengths: Floats) -> Floats:
    """Return what was used in the last `lengths` seconds, of which there is a column each."""
    now = timeline.now
    at_now = timeline.total(series, np.full(series.shape, now))
    left: Floats = at_now[:, None] - timeline.total(series[:, None], now - lengths)
    return left
