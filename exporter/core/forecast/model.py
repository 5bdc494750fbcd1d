"""The fitted part of the forecast: from a description of the past to a distribution of what comes.

A few small neural networks, averaged. Each gives the weights, places and widths of log-logistic
amounts, measured by the series' own scale. In its first days a series has hardly a scale; then the
budget tells something too (people set budgets near what they use), so an amount is placed at a
geometric mean of the scale and the budget's share. Such a mean grows no faster than the budget, so
the probability of reaching a budget still falls as the budget rises.

`coefficients.npz` is fitted by `tests/benchmarks/fit_forecast.py` on the public ServeGen trace
(https://github.com/alibaba/ServeGen, Apache-2.0, arXiv 2505.09999).
"""

from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.features import Situation
from exporter.core.forecast.history import Floats, Ints
from exporter.core.forecast.mixture import Mixture

COMPONENTS = 6
CLIP = 4.0
"""Standardised features are held within this many standard deviations."""
BUDGET_TELLS_DAYS = 3.0
"""From this age of a series on, its forecast rests on its own history alone."""

with (files(__package__) / "coefficients.npz").open("rb") as _file:
    _FITTED: dict[str, NDArray[np.float32]] = dict(np.load(_file))


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
        anchor = np.log(budget_share)[:, None]
        location = self.place[rows] + trust * anchor
        location += (1 - trust) * np.where(trust < 1, self.log_scale[rows, None], 0.0)
        return Mixture(self.weight[rows], location, self.spread[rows])


def outlook(situation: Situation) -> Outlook:
    """Forecast each described case."""
    standard = (situation.inputs - _FITTED["mean"]) / _FITTED["deviation"]
    inputs = np.clip(standard, -CLIP, CLIP).astype(np.float32)
    outputs = [_network(inputs, member) for member in range(_FITTED["output"].shape[0])]
    weight, place, spread, trust = (
        np.concatenate(part, axis=1).astype(np.float64) for part in zip(*outputs, strict=True)
    )
    young = np.clip(1 - situation.days / BUDGET_TELLS_DAYS, 0.0, 1.0)[:, None]
    trust = np.where(situation.scale[:, None] > 0, trust * young, 1.0)
    log_scale = np.log(np.where(situation.scale > 0, situation.scale, 1.0))
    return Outlook(weight / len(outputs), place, spread, trust, log_scale)


def _network(inputs: NDArray[np.float32], member: int) -> tuple[NDArray[np.float32], ...]:
    values = inputs
    for layer in ("first", "second"):
        values = values @ _FITTED[layer][member] + _FITTED[layer + "_bias"][member]
        values = values * _sigmoid(values)
    values = values @ _FITTED["output"][member] + _FITTED["output_bias"][member]
    chances, place, spread, trust = np.split(
        values, [COMPONENTS + 1, 2 * COMPONENTS + 1, 3 * COMPONENTS + 1], axis=1
    )
    chances = np.exp(chances - chances.max(axis=1, keepdims=True))
    weight = chances[:, 1:] / chances.sum(axis=1, keepdims=True)
    return weight, place, np.logaddexp(spread, 0) + np.float32(0.03), _sigmoid(trust)


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(np.clip(-values, -50, 50)))).astype(np.float32)
