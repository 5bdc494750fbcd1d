"""What the model is told about a series at a moment: ratios of past use, without units."""

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.earlier_days import LISTED, RECENCY, WEEK_AGO, YESTERDAY, compare
from exporter.core.forecast.history import Floats, Ints, Timeline
from exporter.core.forecast.past import DAY, HOUR, LAGS, LOOKBACKS, Past, Trials, paths, retained
from exporter.core.forecast.ratios import MIN_RATIO, floor_of, log_ratio
from exporter.core.forecast.situation import Situation

_LISTED_LAGS = [*range(LISTED), *range(LAGS - 3, LAGS)]
"""The earlier days that the model is told one by one."""
_MAX_OTHERS = 64
"""So many other series at most, evenly chosen, tell what the hours ahead bring."""
_DISTRUST = 1.5
"""How fast an earlier day loses weight with the error it has had on this weekday."""
_RATES = np.array([0, 1, 2, 4, 7, 13, 25])
"""Look-backs offered as rates: 10 min, 30 min, 1 h, 3 h, 6 h, 12 h, 24 h."""
_MAX_LOG = 4.0
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
    weight = past.known * RECENCY * np.exp(-_DISTRUST * past.weekly.error)
    usual = (weight * past.ahead).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    flat = level * horizon
    scale = np.where(past.known[:, 0], 0.7 * usual + 0.3 * flat, flat)

    following, held, full = past.ahead, np.zeros((series.size, 3)), np.zeros(series.size)
    if rolling.any():
        asked = series[rolling], horizon[rolling]
        following = following.copy()
        following[rolling] = paths(timeline, *asked, rolling[rolling])[:, :, -1]
        full[rolling], held[rolling] = _fill(timeline, *asked, scale[rolling])
    compared, likeness, followed = compare(past, following, scale, usual, level)
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
        *_levels(past, following, scale, usual, flat),
        *compared,
        *bursts,
        *_seasons(past),
    ]
    inputs = np.stack(columns, axis=1)
    inputs[scale <= 0, _PAST_COLUMNS:] = 0.0
    anchors = _anchors(past, following, full, scale)
    awake = np.where(scale > 0, 1.0, _RARE)
    steady = np.stack([_unsteady(past.daily, YESTERDAY), _unsteady(past.weekly, WEEK_AGO)], axis=1)
    risen, even = _risen(past, level)
    risen[rolling] = np.nan
    even = np.where(rolling, 0.0, even * np.minimum(_LASTING / horizon, 1.0))
    tried = (past.daily.count[:, YESTERDAY] >= _TRIED) & (horizon <= DAY) & ~rolling
    trend = np.where(tried, past.daily.bias[:, YESTERDAY], np.nan)
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
    lean, known = np.zeros(series.size), np.zeros(series.size)
    older = np.flatnonzero(timeline.now - timeline.since >= DAY)
    young = np.flatnonzero(days < 1)
    if not older.size or not young.size:
        return [lean, known]
    older = older[:: max(1, older.size // _MAX_OTHERS)][:, None]
    ahead, which = np.unique(np.minimum(horizon[young], DAY), return_inverse=True)
    now = np.full(1, timeline.now)
    begin = timeline.total(older, now - DAY)
    share = timeline.total(older, timeline.now - DAY + ahead[None, :]) - begin
    whole = timeline.total(older, now) - begin
    used = whole[:, 0] > 0
    if used.any():
        mean = (share[used] / whole[used]).mean(axis=0)
        lean[young] = np.log((mean + 0.02) / (ahead / DAY + 0.02))[which]
        known[young] = 1.0
    return [lean, known]


def _fill(timeline: Timeline, series: Ints, length: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """What rolling windows hold, and features of that and of how much is from the younger half."""
    kept = retained(timeline, series, length[:, None] * [1.0, 0.5])
    used, half = kept.T
    held = [
        log_ratio(used, scale, floor_of(scale)),
        log_ratio(half, 0.5 * used, floor_of(scale)),
        (used <= 0).astype(np.float64),
    ]
    return used, np.stack(held, axis=1)


def _anchors(past: Past, following: Floats, full: Floats, scale: Floats) -> Floats:
    """Where the use ahead is if a pace or a trend goes on; 0, the scale, where none is known."""
    amounts = [
        past.behind[:, place] / np.minimum(LOOKBACKS[place], np.maximum(past.age, HOUR))
        for place in _PACES
    ]
    amounts = [np.maximum(rate * past.horizon - full, 0.0) for rate in amounts]
    for lag, trials in ((YESTERDAY, past.daily), (WEEK_AGO, past.weekly)):
        trend = following[:, lag] * np.exp(trials.bias[:, lag])
        amounts.append(np.where(past.known[:, lag], trend, scale))
    unit = np.where(scale > 0, scale, 1.0)[:, None]
    logs = np.log(np.maximum(np.stack(amounts, axis=1), MIN_RATIO * unit) / unit)
    held: Floats = np.where(scale[:, None] > 0, np.clip(logs, -_MAX_LOG, _MAX_LOG), 0.0)
    return held


def _risen(past: Past, level: Floats) -> tuple[Floats, Floats]:
    """Return how the last hour's use compares with that of earlier days, and how even it was."""
    hour, then = past.lately[:, :1], past.earlier[:, :, 0]
    known = past.comparable & (hour > 0) & (then > _HARDLY * level[:, None] * HOUR)
    ratio = np.log(np.where(known, hour, 1.0) / np.where(known, then, 1.0))
    rates = past.behind[:, _LAST_HOUR] / LOOKBACKS[_LAST_HOUR]
    most = rates.max(axis=1)
    off = 1 - rates.min(axis=1) / np.where(most > 0, most, 1.0)
    even = np.where(most > 0, np.maximum(1 - off / _UNEVEN, 0.0), 0.0)
    return np.where(known, ratio, np.nan), even


def _unsteady(trials: Trials, lag: int) -> Floats:
    """How far single days were from the trend; nan where too few were tried to tell."""
    spread: Floats = np.where(trials.count[:, lag] >= 2, trials.spread[:, lag], np.nan)
    return spread


def _levels(
    past: Past, following: Floats, scale: Floats, usual: Floats, flat: Floats
) -> list[Floats]:
    """How much the next stretch would bring if it went as past ones or at past rates."""
    floor, horizon, known = floor_of(scale), past.horizon, past.known
    three, _, ever = past.rates
    followed = np.where(known, log_ratio(following, scale[:, None], floor[:, None]), 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    mean = followed.sum(axis=1) / count
    spread = np.sqrt((known * (followed - mean[:, None]) ** 2).sum(axis=1) / count)
    lasting = past.behind[:, _RATES] / LOOKBACKS[_RATES] * horizon[:, None]
    return [
        log_ratio(flat, scale, floor),
        log_ratio(three * horizon, scale, floor),
        log_ratio(ever * horizon, scale, floor),
        np.where(known[:, 0], log_ratio(usual, scale, floor), 0.0),
        *(mean, spread, followed.min(axis=1), followed.max(axis=1)),
        (known & (following <= 0)).sum(axis=1) / count,
        *followed[:, _LISTED_LAGS].T,
        *known[:, _LISTED_LAGS].astype(np.float64).T,
        *log_ratio(lasting, scale[:, None], floor[:, None]).T,
    ]


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
    for lag in (YESTERDAY, WEEK_AGO):
        for trials in (past.daily, past.weekly):
            columns += [trials.error[:, lag], trials.bias[:, lag]]
    around = past.daily.spread[:, YESTERDAY]
    counts = past.weekly.count[:, WEEK_AGO], past.daily.count[:, WEEK_AGO]
    best = np.where(past.weekly.count > 0, past.weekly.error, 9.0).min(axis=1)
    return [*columns, around, counts[0] / 3, counts[1] / 7, np.minimum(best, 3.0)]
