"""The fitted part of the forecast: from a description of the past to what comes.

Three views of the use ahead are averaged, each a mixture of log-logistic amounts measured by the
series' own scale:

- `plain`, a small neural network that gives the weights, places and widths;
- `alike`, networks that also look at each earlier day by itself and say how much what followed
  then counts now, and how far it is off;
- the earlier days weighed by likeness alone, which no other series has a say in.

In its first days a series has hardly a scale; then the budget tells something too (people set
budgets near what they use), so an amount is placed at a geometric mean of the scale and the
budget's share. Such a mean grows no faster than the budget, so the probability of reaching a
budget still falls as the budget rises.
"""

from dataclasses import dataclass

import numpy as np

from exporter.core.forecast.features import COMPARABLE, GROWTH, UNLIKE, Situation
from exporter.core.forecast.history import Floats, Ints
from exporter.core.forecast.mixture import Mixture
from exporter.core.forecast.network import CLIP, Fitted, layer, networks, sigmoid, swish
from exporter.core.forecast.past import LAGS

_Parts = tuple[Floats, Floats, Floats, Floats]
"""Of a mixture: chances (before they are made to sum to 1), places, spreads and trusts."""

COMPONENTS = 6
NARROWEST = 0.03
"""Smallest log-spread of a component."""
BUDGET_TELLS_DAYS = 3.0
"""From this age of a series on, its forecast rests on its own history alone."""
_SHARPENED = 0.17
"""By how much the log-odds are raised from that age on: views that differ, averaged, are less sure
than they are right. Chosen where cross-validation lets the 10-90 % interval hold 78 to 80 %
and alerts at 0.9 be false on fewer than 3 % of days."""
_OWN_DAYS = 0.15
"""Weight of the earlier days by themselves, once there are three to compare."""
_SHARPNESS, _CARRIED, _WIDTH = 2.5, 0.5, 0.24
"""Of their weighing: by unlikeness, the part of a change of level that is carried on, and the
log-spread per unlikeness. Chosen on the same trace."""
_FADING_BY_LAG = 0.2 * np.arange(1, LAGS + 1) / 7
_BARELY = 1e-6
"""Weight of days of which only what followed is known."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Distributions whose places still depend on a budget; rows as in the situation."""

    weight: Floats
    place: Floats
    spread: Floats
    trust: Floats
    log_scale: Floats
    sharpness: Floats

    def under(self, rows: Ints, budget_share: Floats) -> Mixture:
        """Return the distributions of `rows`, each for a budget's share of the time ahead."""
        trust = self.trust[rows]
        location = self.place[rows] + trust * np.log(budget_share)[:, None]
        location += (1 - trust) * self.log_scale[rows, None]
        return Mixture(self.weight[rows], location, self.spread[rows], self.sharpness[rows])


def outlook(situation: Situation, fitted: Fitted) -> Outlook:
    """Forecast the use ahead of each described case."""
    views = [
        [_mixture_parts(last) for last, _ in networks(situation.inputs, fitted, "plain")],
        [
            _with_days(_mixture_parts(last), _verdicts(hidden, situation, fitted, member))
            for member, (last, hidden) in enumerate(networks(situation.inputs, fitted, "alike"))
        ],
    ]
    own_share, own = _own_days(situation)
    members = [
        (_shares(chances) * ((1 - own_share) / len(views) / len(view)), *others)
        for view in views
        for chances, *others in view
    ]
    weight, place, spread, trust = (
        np.concatenate(part, axis=1).astype(np.float64) for part in zip(*members, own, strict=True)
    )
    young = np.clip(1 - situation.days / BUDGET_TELLS_DAYS, 0.0, 1.0)
    trust = np.where(situation.scale[:, None] > 0, trust * young[:, None], 1.0)
    log_scale = np.log(np.where(situation.scale > 0, situation.scale, 1.0))
    sharpness = 1 + _SHARPENED * (1 - young)
    return Outlook(weight * situation.awake[:, None], place, spread, trust, log_scale, sharpness)


def _mixture_parts(values: Floats) -> _Parts:
    chances, place, spread, trust = np.split(
        values, [COMPONENTS + 1, 2 * COMPONENTS + 1, 3 * COMPONENTS + 1], axis=1
    )
    return chances, place, _positive(spread), sigmoid(trust)


def _verdicts(hidden: Floats, situation: Situation, fitted: Fitted, member: int) -> _Parts:
    """Return what a network makes of each earlier day; unknown ones have no chance."""
    # One large product is several times as fast as one per case.
    days = situation.likeness.reshape(-1, situation.likeness.shape[2])
    days = np.clip(days, -CLIP, CLIP).astype(np.float32)
    context = np.repeat(layer(hidden, fitted, "alike.context", member), LAGS, axis=0)
    beside = swish(days @ fitted["alike.beside.weight"][member] + context)
    verdict = layer(beside, fitted, "alike.verdict", member)
    chance, shift, spread = verdict.T.reshape(3, -1, LAGS)
    chance = np.where(np.isnan(situation.followed), -np.inf, chance)
    place = np.nan_to_num(situation.followed) + shift
    return chance, place, _positive(spread), np.zeros(place.shape)


def _with_days(parts: _Parts, days: _Parts) -> _Parts:
    chances, place, spread, trust = (
        np.concatenate(both, axis=1) for both in zip(parts, days, strict=True)
    )
    return chances, place, spread, trust


def alike(situation: Situation) -> Floats:
    """Return the weight of each earlier day by its likeness to the present one; they sum to 1.

    All are 0 where no earlier day is known.
    """
    unlike, comparable = (situation.likeness[:, :, column] for column in (UNLIKE, COMPARABLE))
    known = ~np.isnan(situation.followed)
    weight = np.maximum(comparable, _BARELY * known) * np.exp(-_SHARPNESS * unlike - _FADING_BY_LAG)
    shares: Floats = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    return shares


def carried(situation: Situation) -> Floats:
    """Return which part of the change of level since each earlier day goes on, as a logarithm."""
    growth: Floats = _CARRIED * np.clip(situation.likeness[:, :, GROWTH], -2.0, 2.0)
    return growth


def _own_days(situation: Situation) -> tuple[Floats, _Parts]:
    """Return the share the earlier days have by themselves, and their mixture."""
    comparable = situation.likeness[:, :, COMPARABLE].sum(axis=1, keepdims=True)
    share = _OWN_DAYS * np.minimum(comparable / 3, 1.0)
    place = np.nan_to_num(situation.followed) + carried(situation)
    spread = _WIDTH * np.maximum(situation.likeness[:, :, UNLIKE], 0.1)
    return share, (share * alike(situation), place, spread, np.zeros(place.shape))


def _shares(chances: Floats) -> Floats:
    """Return the weights of all components but the first, which is the chance of nothing."""
    odds = np.exp(chances - chances.max(axis=1, keepdims=True))
    share: Floats = odds[:, 1:] / odds.sum(axis=1, keepdims=True)
    return share


def _positive(spread: Floats) -> Floats:
    above: Floats = np.logaddexp(spread, 0) + NARROWEST
    return above
