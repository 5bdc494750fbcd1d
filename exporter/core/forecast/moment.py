"""When a needed amount will have been used, if it will.

Each earlier day says at which share of the time ahead it had used that much. Their mean, weighed by
likeness to the present day, is a first guess, which a network corrects by what else is known.
"""

import numpy as np

from exporter.core.forecast.history import Floats
from exporter.core.forecast.model import alike, carried
from exporter.core.forecast.network import Fitted, networks, sigmoid
from exporter.core.forecast.past import STEPS
from exporter.core.forecast.situation import Situation

_EVEN = 0.1
"""Weight of an even flow beside that of earlier days; all there is where none is known."""
_HARDLY = 1e-3
"""Days that together weigh less say nothing."""


def moment_inputs(situation: Situation, needed: Floats, used: Floats) -> Floats:
    """Return what the network is told, the last column its first guess; `used` are `paths`."""
    weight = alike(situation)
    grown = used * np.exp(carried(situation))[:, :, None]
    enough = weight * (grown[:, :, -1] >= needed[:, None])
    share = _crossing(grown, np.broadcast_to(needed[:, None], weight.shape))
    likely = enough.sum(axis=1)
    early = (enough * (1 - share)).sum(axis=1)

    relative = needed / np.maximum(situation.scale, 1e-9 * needed)
    path = (weight[:, :, None] * used).sum(axis=1)
    whole = path[:, -1:]
    path = np.where(whole > 0, path / np.where(whole > 0, whole, 1.0), STEPS)
    usual = _crossing((1 - _EVEN) * path + _EVEN * STEPS, np.minimum(relative, 0.98))
    size = np.clip(np.log(relative), -8.0, 8.0)
    guess = np.where(likely > _HARDLY, 1 - early / np.maximum(likely, _HARDLY), usual)
    columns = (size, np.exp(np.minimum(size, 1.5)), _logit(1 - early), likely, _logit(guess))
    return np.column_stack([situation.inputs, *columns])


def moment(situation: Situation, needed: Floats, used: Floats, fitted: Fitted) -> Floats:
    """Return at which share of the time ahead `needed` tokens are used, if they are.

    `used` are the `paths` of the earlier days.
    """
    inputs = moment_inputs(situation, needed, used)
    shifts = [last[:, 0] for last, _ in networks(inputs, fitted, "moment")]
    return sigmoid(inputs[:, -1] + np.mean(shifts, axis=0))


def _crossing(path: Floats, level: Floats) -> Floats:
    """Return the share at which each path, given at `STEPS`, reaches its level, 1 if none."""
    beyond = path >= level[..., None]
    right = np.where(beyond[..., -1], beyond.argmax(axis=-1), STEPS.size - 1)
    right = np.maximum(right, 1)[..., None]
    high = np.take_along_axis(path, right, axis=-1)[..., 0]
    low = np.take_along_axis(path, right - 1, axis=-1)[..., 0]
    part = (level - low) / np.where(high > low, high - low, 1.0)
    share: Floats = (right[..., 0] - 1 + np.clip(part, 0.0, 1.0)) / (STEPS.size - 1)
    return share


def _logit(share: Floats) -> Floats:
    inside = np.clip(share, 0.002, 0.998)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
