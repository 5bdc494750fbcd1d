"""Earlier days beside the present one: how alike their hours were, and what followed them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats
from exporter.core.forecast.past import COMPARED, DAY, LAG_DAYS, LAGS, Past
from exporter.core.forecast.ratios import MIN_RATIO, floor_of, log_ratio

YESTERDAY, WEEK_AGO = 0, 6
"""Lags that are looked at by themselves."""
LISTED = 7
"""Earlier days, from yesterday on, whose features are listed one by one."""
RECENCY = 0.8 ** np.arange(LAGS)
_WHOLE_DAY = 4
"""The span of 24 hours among those that are compared."""

UNLIKE, GROWTH, COMPARABLE, NOTHING = 0, 1, 7, 9
WEEKLY_ERROR, WEEKLY_TRIALS, DAILY_ERROR, DAILY_TRIALS = 10, 11, 13, 15
"""Columns of a day's likeness: how unlike its hours were, how much has been used since compared
with it, whether enough is known to tell, whether nothing followed, and how wrong its distance has
been."""


class Comparison(NamedTuple):
    """The present day held against the earlier ones, a row per case.

    Attributes:
        columns: features of the case.
        likeness: then by lag, the features of each earlier day.
        followed: by lag, the logarithm of what followed over the scale; nan where no such day is
            known.
    """

    columns: list[Floats]
    likeness: Floats
    followed: Floats


def compare(past: Past, ahead: Floats, scale: Floats, usual: Floats, level: Floats) -> Comparison:
    """Compare the last hours with the same hours of earlier days, and say what followed those.

    Args:
        ahead: what followed the present moment in each earlier day.
        scale: by which use is measured.
        usual: what usually follows.
        level: use per second.
    """
    floor, share, mask = floor_of(scale), past.horizon / DAY, past.comparable
    unused = level[:, None] <= 0
    small = 3e-3 * level[:, None] * past.spans + unused
    weight = mask * RECENCY
    typical = (weight[:, :, None] * past.earlier).sum(axis=1)
    typical /= np.maximum(weight.sum(axis=1), 1e-9)[:, None]
    day_before = past.earlier[:, :, _WHOLE_DAY]
    hours = [
        np.where(mask[:, lag : lag + 1], log_ratio(past.lately, reference, small), 0.0)
        for lag, reference in (
            (YESTERDAY, typical),
            (YESTERDAY, past.earlier[:, YESTERDAY]),
            (WEEK_AGO, past.earlier[:, WEEK_AGO]),
        )
    ]
    turns = [
        np.where(
            mask[:, lag], log_ratio(past.ahead[:, lag], day_before[:, lag] * share, floor), 0.0
        )
        for lag in (YESTERDAY, WEEK_AGO)
    ]
    usual_turn = log_ratio(usual, typical[:, _WHOLE_DAY] * share, floor)
    whole = slice(_WHOLE_DAY, _WHOLE_DAY + 1)
    day_ratios = log_ratio(day_before, typical[:, whole], small[:, whole]) * mask
    day_spread = np.sqrt((day_ratios**2).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))
    unlike, distance, growth = _unlikeness(past, level)
    followed = np.where(past.known, log_ratio(ahead, scale[:, None], floor[:, None]), 0.0)
    expected, middle, scatter = _analogues(mask, distance, growth, followed)
    known_nearest = np.where(mask, distance, 9.0).min(axis=1)
    totals = log_ratio(day_before * share[:, None], scale[:, None], floor[:, None])
    begun = past.lately[:, None, -1], past.earlier[:, :, -1]
    so_far = np.where(mask, log_ratio(*begun, small[:, -1:]), 0.0)
    likeness = [
        np.where(mask, distance, 0.0),
        np.where(mask, growth, 0.0),
        np.where(mask, unlike[:, :, 0], 0.0),
        np.where(mask, day_ratios, 0.0),
        so_far,
        np.broadcast_to(np.minimum(LAG_DAYS, 14) / 7, mask.shape),
        np.broadcast_to(LAG_DAYS % 7 == 0, mask.shape).astype(np.float64),
        mask.astype(np.float64),
        np.where(past.known, followed - middle, 0.0),
        np.where(past.known, ahead <= 0, False).astype(np.float64),
        past.weekly.error,
        np.minimum(past.weekly.count, 3) / 3,
        past.weekly.bias,
        past.daily.error,
        past.daily.bias,
        np.minimum(past.daily.count, 7) / 7,
    ]
    columns = [
        *np.hstack(hours).T,
        *turns,
        np.where(mask[:, 0], usual_turn, 0.0),
        day_spread,
        *expected,
        scatter,
        np.where(mask[:, 0], known_nearest, 0.0),
        *np.where(mask, totals, 0.0)[:, :LISTED].T,
    ]
    return Comparison(columns, np.stack(likeness, axis=2), _exact(past, ahead, scale))


def _unlikeness(past: Past, level: Floats) -> tuple[Floats, Floats, Floats]:
    """How unlike each earlier day was, part by part and on the whole; and by how much less was
    used in it."""
    parts = np.diff(past.lately[:, :-1], axis=1, prepend=0.0)[:, None, :]
    then = np.diff(past.earlier[:, :, :-1], axis=2, prepend=0.0)
    unused = level[:, None] <= 0
    part_floor = 3e-2 * level[:, None] * np.diff(COMPARED, prepend=0.0) + unused
    unlike = log_ratio(parts, then, part_floor[:, None, :])
    each = np.full(COMPARED.size, 1 / COMPARED.size)
    return unlike, np.abs(unlike) @ each, unlike @ each


def _analogues(
    mask: NDArray[np.bool_], distance: Floats, growth: Floats, followed: Floats
) -> tuple[list[Floats], Floats, Floats]:
    """What followed the days most like the present one, as it was and grown as much as they; the
    middle of that, and how scattered it is."""
    nearest = distance.min(axis=1, keepdims=True)
    found = []
    for sharpness in (1.0, 3.0):
        alike = mask * np.exp(-sharpness * (distance - nearest))
        alike /= np.maximum(alike.sum(axis=1, keepdims=True), 1e-9)
        expected = (alike * followed).sum(axis=1)
        grown = followed + np.clip(growth, -2.0, 2.0)
        found += [expected, (alike * grown).sum(axis=1)]
    scatter = np.sqrt((alike * (followed - expected[:, None]) ** 2).sum(axis=1))
    return found, expected[:, None], scatter


def _exact(past: Past, ahead: Floats, scale: Floats) -> Floats:
    least = np.log(MIN_RATIO)
    unit = np.where(scale > 0, scale, 1.0)[:, None]
    exact = np.log(np.maximum(ahead, MIN_RATIO * unit) / unit)
    return np.where(past.known, np.clip(exact, least, -least), np.nan)
