"""What the model is told about a series at a moment: ratios of past use, without units."""

from dataclasses import dataclass

import numpy as np

from exporter.core.forecast.history import Floats, Ints, Timeline
from exporter.core.forecast.past import COMPARED, DAY, HOUR, LAGS, LOOKBACKS, Past

_SHOWN = 7
"""So many of the earlier days the model is told one by one."""
_RECENCY = 0.8 ** np.arange(LAGS)
_RATES = np.array([0, 1, 2, 4, 7, 13, 25])
"""Look-backs offered as rates: 10 min, 30 min, 1 h, 3 h, 6 h, 12 h, 24 h."""
_YESTERDAY, _WEEK_AGO, _WHOLE_DAY = 0, 6, 4
UNLIKE, GROWTH, COMPARABLE = 0, 1, 7
"""Columns of a day's likeness: how unlike its hours were, how much has been used since compared
with it, and whether enough is known to tell."""
_RARE = 0.1
"""Part that is left of a never used series' chances, which come from series that did begin."""
_PAST_COLUMNS = 10
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
        awake: what is left of the chance of any use where there never was one; 1 elsewhere.
    """

    inputs: Floats
    scale: Floats
    days: Floats
    followed: Floats
    likeness: Floats
    awake: Floats

    def take(self, rows: Ints) -> "Situation":
        """Return the given rows, repeated as they are."""
        return Situation(
            self.inputs[rows],
            self.scale[rows],
            self.days[rows],
            self.followed[rows],
            self.likeness[rows],
            self.awake[rows],
        )


def describe(timeline: Timeline, series: Ints, horizon: Floats, utc_offset: Floats) -> Situation:
    """Describe each series at the timeline's `now`, `horizon` seconds before the window's end."""
    past = Past.of(timeline, series, horizon)
    days = past.age / DAY
    _, seven, ever = past.rates
    level = np.where(seven > 0, 0.98 * seven + 0.02 * ever, ever)
    weight = past.known * _RECENCY
    usual = (weight * past.ahead).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-9)
    flat = level * horizon
    scale = np.where(past.known[:, 0], 0.7 * usual + 0.3 * flat, flat)

    compared, likeness, followed = _comparisons(past, scale, usual, level)
    angle = 2 * np.pi * ((timeline.now + utc_offset) % DAY) / DAY
    columns = [
        np.log(horizon / DAY),
        np.minimum(horizon / DAY, 2.0),
        *(np.sin(angle), np.cos(angle), np.sin(2 * angle), np.cos(2 * angle)),
        np.log1p(np.minimum(days, 13.0)),
        np.minimum(days, 1.0),
        np.minimum(days / 7, 1.0),
        (scale > 0).astype(np.float64),
        *_levels(past, scale, usual, flat),
        *compared,
        *_burstiness(past, scale),
    ]
    inputs = np.stack(columns, axis=1)
    inputs[scale <= 0, _PAST_COLUMNS:] = 0.0
    # Once others have been seen for a day, or nobody at all, a beginning is a rare event.
    watched = timeline.now - timeline.since.min(initial=np.inf)
    beginning = 1.0 if 0 <= watched < DAY else _RARE
    return Situation(inputs, scale, days, followed, likeness, np.where(scale > 0, 1.0, beginning))


def _ratio(value: Floats, reference: Floats, floor: Floats) -> Floats:
    bounded: Floats = np.clip(np.log((value + floor) / (reference + floor)), -6.0, 6.0)
    return bounded


def _floor(scale: Floats) -> Floats:
    return 3e-3 * np.where(scale > 0, scale, 1.0)


def _levels(past: Past, scale: Floats, usual: Floats, flat: Floats) -> list[Floats]:
    """How much the next stretch would bring if it went as past ones or at past rates."""
    floor, horizon, known = _floor(scale), past.horizon, past.known
    three, _, ever = past.rates
    followed = np.where(known, _ratio(past.ahead, scale[:, None], floor[:, None]), 0.0)
    count = np.maximum(known.sum(axis=1), 1)
    mean = followed.sum(axis=1) / count
    spread = np.sqrt((known * (followed - mean[:, None]) ** 2).sum(axis=1) / count)
    lasting = past.behind[:, _RATES] / LOOKBACKS[_RATES] * horizon[:, None]
    return [
        past.weekly_known.astype(np.float64),
        _ratio(flat, scale, floor),
        np.where(past.weekly_known, _ratio(past.weekly, scale, floor), 0.0),
        _ratio(three * horizon, scale, floor),
        _ratio(ever * horizon, scale, floor),
        np.where(known[:, 0], _ratio(usual, scale, floor), 0.0),
        *(mean, spread, followed.min(axis=1), followed.max(axis=1)),
        (known & (past.ahead <= 0)).sum(axis=1) / count,
        *followed[:, :_SHOWN].T,
        *known[:, :_SHOWN].astype(np.float64).T,
        *_ratio(lasting, scale[:, None], floor[:, None]).T,
    ]


def _comparisons(
    past: Past, scale: Floats, usual: Floats, level: Floats
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
    followed = np.where(past.known, _ratio(past.ahead, scale[:, None], floor[:, None]), 0.0)
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
        np.broadcast_to(np.arange(1, LAGS + 1) / 7, mask.shape),
        past.whole_weeks.astype(np.float64),
        mask.astype(np.float64),
        np.where(past.known, followed - middle, 0.0),
        np.where(past.known, past.ahead <= 0, False).astype(np.float64),
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
    return compared, likeness, np.where(past.known, followed, np.nan)


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
        deviation / np.maximum(average, 1e-9 * np.where(scale > 0, scale, 1.0)) / 4,
        (lived & ~active).sum(axis=1) / alive,
        (~active[:, :6]).sum(axis=1) / 6,
        np.log1p(idle),
        *(past.behind[:, :2] > 0).astype(np.float64).T,
    ]
