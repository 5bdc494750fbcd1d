"""What the model is told about a series at a moment: ratios of past use, without units."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats, Ints, Timeline
from exporter.core.forecast.past import (
    COMPARED,
    DAY,
    HOUR,
    LAG_DAYS,
    LAGS,
    LOOKBACKS,
    Past,
    Trials,
    paths,
    retained,
)

_SHOWN = 7
_TOLD = [*range(_SHOWN), *range(LAGS - 3, LAGS)]
"""The earlier days that the model is told one by one."""
_MOST_OTHERS = 64
"""So many other series at most, evenly chosen, tell what the hours ahead bring."""
_RECENCY = 0.8 ** np.arange(LAGS)
_DISTRUST = 1.5
"""How fast an earlier day loses weight with the error it has had on this weekday."""
_RATES = np.array([0, 1, 2, 4, 7, 13, 25])
"""Look-backs offered as rates: 10 min, 30 min, 1 h, 3 h, 6 h, 12 h, 24 h."""
_YESTERDAY, _WEEK_AGO, _WHOLE_DAY = 0, 6, 4
UNLIKE, GROWTH, COMPARABLE, NOTHING = 0, 1, 7, 9
WEEKLY_ERROR, WEEKLY_TRIALS, DAILY_ERROR, DAILY_TRIALS = 10, 11, 13, 15
"""Columns of a day's likeness: how unlike its hours were, how much has been used since compared
with it, whether enough is known to tell, whether nothing followed, and how wrong its distance has
been."""
_LEAST = 2.5e-3
"""Use in an earlier day counts as at least this part of the scale, and at most its inverse."""
_FARTHEST = 4.0
"""Logarithm of the ratio to the scale up to which a pace or a trend is believed."""
_PACES = (2, 4)
"""Look-backs of an hour and of three hours."""
_UNIT = 4
"""Deviations of hours, over their mean, that the networks are told as 1."""
_LAST_HOUR = np.array([0, 1, 2])
"""Look-backs of 10, 30 and 60 minutes."""
_UNEVEN = 0.3
"""By which part the least of their rates is below the greatest in an hour that is not even."""
_LASTING = 3 * HOUR
"""Ahead of which another level is believed in full, less for longer."""
_HARDLY = 0.01
"""Of usual use: less in an hour is no measure for another one's."""
_TRIED = 5
"""Days on which a trend from day to day was held against what came, to be one."""
ANCHORS = 4
_RARE = 0.1
"""Part that is left of a never used series' chances, which come from series that did begin."""
_PAST_COLUMNS = 17
"""From this column on features describe the past; they are 0 where there is none."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Cases as the model sees them.

    Attributes:
        inputs: a row of features per case.
        scale: tokens by which use in the horizon is measured; 0 when nothing is known at all.
        days: days since the first use.
        followed: what followed the present moment in each earlier day, as the logarithm of its
            ratio to the scale; nan where no such day is known.
        likeness: features of each of these days beside the present one.
        anchors: what follows if the use of the last hour goes on, or that of the last three, or
            the trend from day to day or from week to week; logarithms alike.
        steadiness: how unsteady each of these trends has been, a logarithm; nan when unknown.
        awake: what is left of the chance of any use where there never was one; 1 elsewhere.
        risen: by how much the last hour's use exceeds that of the same hour of each earlier day, a
            logarithm; nan where that cannot be told.
        even: how even the last hour's use was, from 0 to 1, less where much is ahead; 0 where
            there was none.
        trend: of single days, from day to day, a logarithm; nan when unknown or not asked for.
        uneven: deviation of the use of the last day's hours over its mean.
    """

    inputs: Floats
    scale: Floats
    days: Floats
    followed: Floats
    likeness: Floats
    anchors: Floats
    steadiness: Floats
    awake: Floats
    risen: Floats
    even: Floats
    trend: Floats
    uneven: Floats

    def take(self, rows: Ints) -> "Situation":
        """Return the given rows, repeated as they are."""
        return Situation(
            self.inputs[rows],
            self.scale[rows],
            self.days[rows],
            self.followed[rows],
            self.likeness[rows],
            self.anchors[rows],
            self.steadiness[rows],
            self.awake[rows],
            self.risen[rows],
            self.even[rows],
            self.trend[rows],
            self.uneven[rows],
        )


def describe(
    timeline: Timeline,
    series: Ints,
    horizon: Floats,
    utc_offset: Floats,
    rolling: NDArray[np.bool_],
) -> Situation:
    """Describe each series at the timeline's `now`, `horizon` seconds before the window's end.

    Of a `rolling` one `horizon` is the length, and what is asked for is by how much its use will
    rise above the present one within that time.
    """
    past = Past.of(timeline, series, horizon)
    days = past.age / DAY
    _, seven, ever = past.rates
    level = np.where(seven > 0, 0.98 * seven + 0.02 * ever, ever)
    weight = past.known * _RECENCY * np.exp(-_DISTRUST * past.weekly.error)
    usual = (weight * past.ahead).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    flat = level * horizon
    scale = np.where(past.known[:, 0], 0.7 * usual + 0.3 * flat, flat)

    said, held, full = past.ahead, np.zeros((series.size, 3)), np.zeros(series.size)
    if rolling.any():
        asked = series[rolling], horizon[rolling]
        said = said.copy()
        said[rolling] = paths(timeline, *asked, rolling[rolling])[:, :, -1]
        full[rolling], held[rolling] = _fill(timeline, *asked, scale[rolling])
    compared, likeness, followed = _comparisons(past, said, scale, usual, level)
    bursts = _burstiness(past, scale)
    columns = [
        np.log(horizon / DAY),
        np.minimum(horizon / DAY, 2.0),
        np.minimum(horizon / DAY, 31.0) / 7,
        *_calendar(timeline.now + utc_offset, horizon),
        rolling.astype(np.float64),
        np.log1p(np.minimum(days, 13.0)),
        np.log1p(np.minimum(days, 35.0)),
        np.minimum(days, 1.0),
        np.minimum(days / 7, 1.0),
        *_others(timeline, series, horizon, days),
        (scale > 0).astype(np.float64),
        *held.T,
        *_levels(past, said, scale, usual, flat),
        *compared,
        *bursts,
        *_seasons(past),
    ]
    inputs = np.stack(columns, axis=1)
    inputs[scale <= 0, _PAST_COLUMNS:] = 0.0
    anchors = _anchors(past, said, full, scale)
    awake = np.where(scale > 0, 1.0, _RARE)
    steady = np.stack(
        [_unsteady(past.daily, _YESTERDAY), _unsteady(past.weekly, _WEEK_AGO)], axis=1
    )
    risen, even = _risen(past, level)
    risen[rolling] = np.nan
    even = np.where(rolling, 0.0, even * np.minimum(_LASTING / horizon, 1.0))
    tried = (past.daily.count[:, _YESTERDAY] >= _TRIED) & (horizon <= DAY) & ~rolling
    trend = np.where(tried, past.daily.bias[:, _YESTERDAY], np.nan)
    return Situation(
        *(inputs, scale, days, followed, likeness, anchors, steady, awake, risen, even, trend),
        uneven=_UNIT * bursts[0],
    )


def _calendar(local: Floats, horizon: Floats) -> list[Floats]:
    """The time of day, and how much of now and of the time ahead is a weekend."""
    angle = 2 * np.pi * (local % DAY) / DAY
    # Unix time began on a Thursday; the weekend is counted from Saturday 0:00.
    since_saturday = local - 2 * DAY
    weekend = weekends(since_saturday + horizon) - weekends(since_saturday)
    return [
        *(np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)),
        (since_saturday % (7 * DAY) < 2 * DAY).astype(np.float64),
        weekend / horizon,
    ]


def weekends(seconds: Floats) -> Floats:
    """Seconds of weekend between a Saturday 0:00 and so many seconds later."""
    weeks, rest = np.divmod(seconds, 7 * DAY)
    total: Floats = weeks * 2 * DAY + np.minimum(rest, 2 * DAY)
    return total


def _others(timeline: Timeline, series: Ints, horizon: Floats, days: Floats) -> list[Floats]:
    """What the time ahead brings to others, for a series that has no day of its own yet.

    It is the logarithm of what the same hours brought yesterday over what an even day would.
    """
    lean, told = np.zeros(series.size), np.zeros(series.size)
    older = np.flatnonzero(timeline.now - timeline.since >= DAY)
    young = np.flatnonzero(days < 1)
    if not older.size or not young.size:
        return [lean, told]
    older = older[:: max(1, older.size // _MOST_OTHERS)][:, None]
    ahead, which = np.unique(np.minimum(horizon[young], DAY), return_inverse=True)
    now = np.full(1, timeline.now)
    begin = timeline.total(older, now - DAY)
    share = timeline.total(older, timeline.now - DAY + ahead[None, :]) - begin
    whole = timeline.total(older, now) - begin
    used = whole[:, 0] > 0
    if used.any():
        mean = (share[used] / whole[used]).mean(axis=0)
        lean[young] = np.log((mean + 0.02) / (ahead / DAY + 0.02))[which]
        told[young] = 1.0
    return [lean, told]


def _fill(timeline: Timeline, series: Ints, length: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """What rolling windows hold, and features of that and of how much is from the younger half."""
    kept = retained(timeline, series, length[:, None] * [1.0, 0.5])
    used, half = kept.T
    held = [
        _ratio(used, scale, _floor(scale)),
        _ratio(half, 0.5 * used, _floor(scale)),
        (used <= 0).astype(np.float64),
    ]
    return used, np.stack(held, axis=1)


def _anchors(past: Past, said: Floats, full: Floats, scale: Floats) -> Floats:
    """Where the use ahead is if a pace or a trend goes on; 0, the scale, where none is known."""
    amounts = [
        past.behind[:, place] / np.minimum(LOOKBACKS[place], np.maximum(past.age, HOUR))
        for place in _PACES
    ]
    amounts = [np.maximum(rate * past.horizon - full, 0.0) for rate in amounts]
    for lag, trials in ((_YESTERDAY, past.daily), (_WEEK_AGO, past.weekly)):
        trend = said[:, lag] * np.exp(trials.bias[:, lag])
        amounts.append(np.where(past.known[:, lag], trend, scale))
    unit = np.where(scale > 0, scale, 1.0)[:, None]
    told = np.log(np.maximum(np.stack(amounts, axis=1), _LEAST * unit) / unit)
    held: Floats = np.where(scale[:, None] > 0, np.clip(told, -_FARTHEST, _FARTHEST), 0.0)
    return held


def _risen(past: Past, level: Floats) -> tuple[Floats, Floats]:
    """Return how the last hour's use compares with that of earlier days, and how even it was."""
    hour, then = past.lately[:, :1], past.earlier[:, :, 0]
    told = past.comparable & (hour > 0) & (then > _HARDLY * level[:, None] * HOUR)
    ratio = np.log(np.where(told, hour, 1.0) / np.where(told, then, 1.0))
    rates = past.behind[:, _LAST_HOUR] / LOOKBACKS[_LAST_HOUR]
    most = rates.max(axis=1)
    off = 1 - rates.min(axis=1) / np.where(most > 0, most, 1.0)
    even = np.where(most > 0, np.maximum(1 - off / _UNEVEN, 0.0), 0.0)
    return np.where(told, ratio, np.nan), even


def _unsteady(trials: Trials, lag: int) -> Floats:
    """How far single days were from the trend; nan where too few were tried to tell."""
    spread: Floats = np.where(trials.count[:, lag] >= 2, trials.spread[:, lag], np.nan)
    return spread


def _ratio(value: Floats, reference: Floats, floor: Floats) -> Floats:
    bounded: Floats = np.clip(np.log((value + floor) / (reference + floor)), -6.0, 6.0)
    return bounded


def _floor(scale: Floats) -> Floats:
    return 3e-3 * np.where(scale > 0, scale, 1.0)


def _levels(past: Past, said: Floats, scale: Floats, usual: Floats, flat: Floats) -> list[Floats]:
    """How much the next stretch would bring if it went as past ones or at past rates."""
    floor, horizon, known = _floor(scale), past.horizon, past.known
    three, _, ever = past.rates
    followed = np.where(known, _ratio(said, scale[:, None], floor[:, None]), 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    mean = followed.sum(axis=1) / count
    spread = np.sqrt((known * (followed - mean[:, None]) ** 2).sum(axis=1) / count)
    lasting = past.behind[:, _RATES] / LOOKBACKS[_RATES] * horizon[:, None]
    return [
        _ratio(flat, scale, floor),
        _ratio(three * horizon, scale, floor),
        _ratio(ever * horizon, scale, floor),
        np.where(known[:, 0], _ratio(usual, scale, floor), 0.0),
        *(mean, spread, followed.min(axis=1), followed.max(axis=1)),
        (known & (said <= 0)).sum(axis=1) / count,
        *followed[:, _TOLD].T,
        *known[:, _TOLD].astype(np.float64).T,
        *_ratio(lasting, scale[:, None], floor[:, None]).T,
    ]


def _comparisons(
    past: Past, said: Floats, scale: Floats, usual: Floats, level: Floats
) -> tuple[list[Floats], Floats, Floats]:
    """The last hours against the same hours of earlier days, and what followed those."""
    floor, share, mask = _floor(scale), past.horizon / DAY, past.comparable
    unused = level[:, None] <= 0
    small = 3e-3 * level[:, None] * past.spans + unused
    weight = mask * _RECENCY
    typical = (weight[:, :, None] * past.earlier).sum(axis=1)
    typical /= np.maximum(weight.sum(axis=1), 1e-9)[:, None]
    day_before = past.earlier[:, :, _WHOLE_DAY]
    columns = [
        np.where(mask[:, lag : lag + 1], _ratio(past.lately, reference, small), 0.0)
        for lag, reference in (
            (_YESTERDAY, typical),
            (_YESTERDAY, past.earlier[:, _YESTERDAY]),
            (_WEEK_AGO, past.earlier[:, _WEEK_AGO]),
        )
    ]
    turns = [
        np.where(mask[:, lag], _ratio(past.ahead[:, lag], day_before[:, lag] * share, floor), 0.0)
        for lag in (_YESTERDAY, _WEEK_AGO)
    ]
    usual_turn = _ratio(usual, typical[:, _WHOLE_DAY] * share, floor)
    whole = slice(_WHOLE_DAY, _WHOLE_DAY + 1)
    day_ratios = _ratio(day_before, typical[:, whole], small[:, whole]) * mask
    day_spread = np.sqrt((day_ratios**2).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))

    # The past days most like the last one, part by part, and what followed them.
    parts = np.diff(past.lately[:, :-1], axis=1, prepend=0.0)[:, None, :]
    then = np.diff(past.earlier[:, :, :-1], axis=2, prepend=0.0)
    part_floor = 3e-2 * level[:, None] * np.diff(COMPARED, prepend=0.0) + unused
    unlike = _ratio(parts, then, part_floor[:, None, :])
    each = np.full(COMPARED.size, 1 / COMPARED.size)
    distance, growth = np.abs(unlike) @ each, unlike @ each
    nearest = distance.min(axis=1, keepdims=True)
    followed = np.where(past.known, _ratio(said, scale[:, None], floor[:, None]), 0.0)
    analogues = []
    for sharpness in (1.0, 3.0):
        alike = mask * np.exp(-sharpness * (distance - nearest))
        alike /= np.maximum(alike.sum(axis=1, keepdims=True), 1e-9)
        expected = (alike * followed).sum(axis=1)
        grown = followed + np.clip(growth, -2.0, 2.0)
        analogues += [expected, (alike * grown).sum(axis=1)]
    scatter = np.sqrt((alike * (followed - expected[:, None]) ** 2).sum(axis=1))
    known_nearest = np.where(mask, distance, 9.0).min(axis=1)
    totals = _ratio(day_before * share[:, None], scale[:, None], floor[:, None])
    begun = past.lately[:, None, -1], past.earlier[:, :, -1]
    so_far = np.where(mask, _ratio(*begun, small[:, -1:]), 0.0)
    middle = (alike * followed).sum(axis=1)[:, None]
    beside = [
        np.where(mask, distance, 0.0),
        np.where(mask, growth, 0.0),
        np.where(mask, unlike[:, :, 0], 0.0),
        np.where(mask, day_ratios, 0.0),
        so_far,
        np.broadcast_to(np.minimum(LAG_DAYS, 14) / 7, mask.shape),
        np.broadcast_to(LAG_DAYS % 7 == 0, mask.shape).astype(np.float64),
        mask.astype(np.float64),
        np.where(past.known, followed - middle, 0.0),
        np.where(past.known, said <= 0, False).astype(np.float64),
        past.weekly.error,
        np.minimum(past.weekly.count, 3) / 3,
        past.weekly.bias,
        past.daily.error,
        past.daily.bias,
        np.minimum(past.daily.count, 7) / 7,
    ]
    compared = [
        *np.hstack(columns).T,
        *turns,
        np.where(mask[:, 0], usual_turn, 0.0),
        day_spread,
        *analogues,
        scatter,
        np.where(mask[:, 0], known_nearest, 0.0),
        *np.where(mask, totals, 0.0)[:, :_SHOWN].T,
    ]
    likeness = np.stack(beside, axis=2)
    least = np.log(_LEAST)
    unit = np.where(scale > 0, scale, 1.0)[:, None]
    exact = np.log(np.maximum(said, _LEAST * unit) / unit)
    return compared, likeness, np.where(past.known, np.clip(exact, least, -least), np.nan)


def _burstiness(past: Past, scale: Floats) -> list[Floats]:
    """How unevenly the last day's hours were used, and how long nothing has been."""
    hourly = np.diff(past.behind[:, 2:], axis=1, prepend=0.0)
    lived = np.arange(24) * HOUR < np.maximum(past.age, HOUR)[:, None]
    alive = lived.sum(axis=1)
    average = hourly.sum(axis=1) / alive
    deviation = np.sqrt((lived * (hourly - average[:, None]) ** 2).sum(axis=1) / alive)
    active = hourly > 0
    idle = np.where(active.any(axis=1), active.argmax(axis=1), 24)
    return [
        deviation / np.maximum(average, 1e-9 * np.where(scale > 0, scale, 1.0)) / _UNIT,
        (lived & ~active).sum(axis=1) / alive,
        (~active[:, :6]).sum(axis=1) / 6,
        np.log1p(idle),
        *(past.behind[:, :2] > 0).astype(np.float64).T,
    ]


def _seasons(past: Past) -> list[Floats]:
    """How well yesterday and the same weekday have told the future, and what they missed."""
    columns = []
    for lag in (_YESTERDAY, _WEEK_AGO):
        for trials in (past.daily, past.weekly):
            columns += [trials.error[:, lag], trials.bias[:, lag]]
    around = past.daily.spread[:, _YESTERDAY]
    counts = past.weekly.count[:, _WEEK_AGO], past.daily.count[:, _WEEK_AGO]
    best = np.where(past.weekly.count > 0, past.weekly.error, 9.0).min(axis=1)
    return [*columns, around, counts[0] / 3, counts[1] / 7, np.minimum(best, 3.0)]
