"""The fitted part of the forecast: from a description of the past to what comes, and when.

Small neural networks, two or three of a kind, averaged. The first kind gives the weights, places
and widths of log-logistic amounts, measured by the series' own scale. In its first days a series
has hardly a scale; then the budget tells something too (people set budgets near what they use), so
an amount is placed at a geometric mean of the scale and the budget's share. Such a mean grows no
faster than the budget, so the probability of reaching a budget still falls as the budget rises.
The second kind says at what share of the time ahead a needed amount is reached, if it is.

`coefficients.npz` is fitted by `tests/benchmarks/fit_forecast.py` on the public ServeGen trace
(https://github.com/alibaba/ServeGen, Apache-2.0, arXiv 2505.09999).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.features import Situation
from exporter.core.forecast.history import Floats, Ints
from exporter.core.forecast.mixture import Mixture
from exporter.core.forecast.rhythm import reach

Fitted = Mapping[str, NDArray[np.floating]]
"""Arrays by name: `outlook` or `moment`, a dot, and `mean`, `deviation`, or a layer's weight or
bias; layers have the members of the ensemble first."""

COMPONENTS = 6
NARROWEST = 0.03
"""Smallest log-spread of a component."""
CLIP = 4.0
"""Standardised inputs are held within this many standard deviations."""
BUDGET_TELLS_DAYS = 3.0
"""From this age of a series on, its forecast rests on its own history alone."""

with (files(__package__) / "coefficients.npz").open("rb") as _file:
    FITTED: Fitted = {name: array.astype(np.float32) for name, array in np.load(_file).items()}


@dataclass(frozen=True, slots=True)
class Outlook:
    """Distributions whose places still depend on a budget; rows as in the situation."""

    weight: Floats
    place: Floats
    spread: Floats
    trust: Floats
    log_scale: Floats

    def under(self, rows: Ints, budget_share: Floats) -> Mixture:
        """Return the distributions of `rows`, each for a budget's share of the time ahead."""
        trust = self.trust[rows]
        location = self.place[rows] + trust * np.log(budget_share)[:, None]
        location += (1 - trust) * self.log_scale[rows, None]
        return Mixture(self.weight[rows], location, self.spread[rows])


def outlook(situation: Situation, fitted: Fitted) -> Outlook:
    """Forecast the use ahead of each described case."""
    members = list(_networks(situation.inputs, fitted, "outlook"))
    parts = zip(*(_mixture_parts(values) for values in members), strict=True)
    weight, place, spread, trust = (
        np.concatenate(part, axis=1).astype(np.float64) for part in parts
    )
    young = np.clip(1 - situation.days / BUDGET_TELLS_DAYS, 0.0, 1.0)[:, None]
    trust = np.where(situation.scale[:, None] > 0, trust * young, 1.0)
    log_scale = np.log(np.where(situation.scale > 0, situation.scale, 1.0))
    return Outlook(weight / len(members), place, spread, trust, log_scale)


def moment_inputs(situation: Situation, needed: Floats, path: Floats) -> Floats:
    """Return what the second kind of network is told, the last column its first guess."""
    relative = needed / np.maximum(situation.scale, 1e-9 * needed)
    guesses = [
        _logit(reach(path, np.broadcast_to(share, relative.shape)))
        for share in (1 / 4, 1 / 2, 1 / 1.3, np.minimum(relative, 0.98))
    ]
    size = np.clip(np.log(relative), -8.0, 8.0)
    return np.column_stack([situation.inputs, size, np.exp(np.minimum(size, 1.5)), *guesses])


def moment(situation: Situation, needed: Floats, path: Floats, fitted: Fitted) -> Floats:
    """Return at which share of the horizon `needed` tokens are used, if they are.

    `path` is the rhythm in which use is expected.
    """
    inputs = moment_inputs(situation, needed, path)
    shifts = [values[:, 0] for values in _networks(inputs, fitted, "moment")]
    return _sigmoid(inputs[:, -1] + np.mean(shifts, axis=0))


def _networks(inputs: Floats, fitted: Fitted, kind: str) -> list[Floats]:
    standard = (inputs - fitted[f"{kind}.mean"]) / fitted[f"{kind}.deviation"]
    values = np.clip(standard, -CLIP, CLIP).astype(np.float32)
    first, second, last = (
        (fitted[f"{kind}.{layer}.weight"], fitted[f"{kind}.{layer}.bias"])
        for layer in ("first", "second", "last")
    )
    outputs = []
    for member in range(last[1].shape[0]):
        hidden = values
        for weight, bias in (first, second):
            hidden = hidden @ weight[member] + bias[member]
            hidden = hidden * _sigmoid(hidden)
        outputs.append(hidden @ last[0][member] + last[1][member])
    return outputs


def _mixture_parts(values: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    chances, place, spread, trust = np.split(
        values, [COMPONENTS + 1, 2 * COMPONENTS + 1, 3 * COMPONENTS + 1], axis=1
    )
    chances = np.exp(chances - chances.max(axis=1, keepdims=True))
    weight = chances[:, 1:] / chances.sum(axis=1, keepdims=True)
    return weight, place, np.logaddexp(spread, 0) + NARROWEST, _sigmoid(trust)


def _sigmoid(values: Floats) -> Floats:
    share: Floats = 1 / (1 + np.exp(np.clip(-values, -50, 50)))
    return share


def _logit(share: Floats) -> Floats:
    inside = np.clip(share, 0.002, 0.998)
    odds: Floats = np.log(inside / (1 - inside))
    return odds
