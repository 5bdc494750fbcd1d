"""How use spreads over the time ahead, as it did on past days."""

import numpy as np

from exporter.core.forecast.history import Floats, Ints, Timeline
from exporter.core.forecast.past import DAY

SHARES = np.linspace(0.0, 1.0, 25)
"""The shares of the horizon at which a rhythm is given."""
_LAG_WEIGHTS = np.array([0.25, 0.15, 0.1, 0.1, 0.1, 0.1, 0.2])
_EVEN = 0.1
"""Weight of an even flow, which is all that is left where no past day is known."""


def rhythm(timeline: Timeline, series: Ints, horizon: Floats) -> Floats:
    """Return the cumulative share, from 0 to 1, of the use ahead at each of `SHARES`."""
    now = timeline.now
    period = DAY * np.maximum(np.ceil(horizon / DAY - 1e-9), 1.0)
    begin = now - period[:, None] * np.arange(1, _LAG_WEIGHTS.size + 1)
    known = timeline.since[series][:, None] <= begin
    moments = np.minimum(begin[:, :, None] + horizon[:, None, None] * SHARES, now)
    totals = timeline.total(series[:, None, None], moments)
    path = ((known * _LAG_WEIGHTS)[:, :, None] * (totals - totals[:, :, :1])).sum(axis=1)
    whole = path[:, -1:]
    shaped = np.where(whole > 0, path / np.where(whole > 0, whole, 1.0), SHARES)
    mixed: Floats = (1 - _EVEN) * shaped + _EVEN * SHARES
    return mixed


def reach(path: Floats, level: Floats) -> Floats:
    """Return the share of the horizon at which each non-decreasing path reaches its level."""
    beyond = path >= level[:, None]
    right = np.where(beyond.any(axis=1), beyond.argmax(axis=1), SHARES.size - 1)
    right = np.maximum(right, 1)
    each = np.arange(right.size)
    high, low = path[each, right], path[each, right - 1]
    part = (level - low) / np.where(high > low, high - low, 1.0)
    share: Floats = (right - 1 + np.clip(part, 0.0, 1.0)) / (SHARES.size - 1)
    return share
