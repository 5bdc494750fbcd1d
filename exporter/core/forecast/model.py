"""The fitted part of the forecast: from a description of the past to what comes.

Views of the use ahead are averaged, each a mixture of log-logistic amounts measured by the series'
own scale:

- small neural networks that give the weights, places and widths of a few amounts, and also look at
  each earlier day by itself and say how much what followed then counts now, and how far it is off;
- the earlier days weighed by likeness alone, which no other series has a say in.

Amounts are the narrower the more exactly the earlier days have told later ones.

In its first days a series has hardly a scale; then the budget tells something too (people set
budgets near what they use), so an amount is placed at a geometric mean of the scale and the
budget's share. Such a mean grows no faster than the budget, so the probability of reaching a
budget still falls as the budget rises. So does what is left of the whole when use has begun far
below what the budget allows.
"""

from dataclasses import dataclass

import numpy as np

from exporter.core.forecast.earlier_days import (
    COMPARABLE,
    DAILY_ERROR,
    DAILY_TRIALS,
    GROWTH,
    NOTHING,
    UNLIKE,
    WEEKLY_ERROR,
    WEEKLY_TRIALS,
)
from exporter.core.forecast.features import ANCHORS
from exporter.core.forecast.history import Floats, Ints
from exporter.core.forecast.mixture import Mixture
from exporter.core.forecast.network import CLIP, Fitted, layer, networks, sigmoid, swish
from exporter.core.forecast.past import LAG_DAYS, LAGS
from exporter.core.forecast.situation import Situation

_Parts = tuple[Floats, Floats, Floats, Floats]
"""Of a mixture: chances (before they are made to sum to 1), places, spreads and trusts."""

COMPONENTS = 7
"""Amounts a network places by itself: the first of them beside the anchors."""
_ENDS = np.cumsum([COMPONENTS + 1, COMPONENTS, COMPONENTS, COMPONENTS])
OUTPUTS = int(_ENDS[-1]) + 2
MIN_SPREAD = 0.004
"""Smallest log-spread of a component."""
_INEXACT, _EXACT = 0.1, 0.003
"""Unlikeness from which on a network's spreads count in full, and which is added to it."""
_UNTRIED = 0.5
"""Error of an earlier day that was never tried."""
BUDGET_TELLS_DAYS = 3.0
"""From this age of a series on, its forecast rests on its own history alone."""
_OWN_DAYS = 0.15
"""Weight of the earlier days by themselves, once there are three to compare."""
_SHARPNESS, _CARRIED, _WIDTH = 2.5, 0.5, 0.24
"""Of their weighing: by unlikeness, the part of a change of level that is carried on, and the
log-spread per unlikeness. Chosen on the same trace."""
_FADING = 0.2 * LAG_DAYS / 7
_EVIDENT = 0.85
"""Weight of what a person sees at a glance, where it is as clear as can be."""
_SAME, _OTHER = np.log(1.5), np.log(3.0)
"""Ratio of the last hour's use to that of earlier days up to which it is on the same level, and
from which on it is on another one."""
_STEADY, _TREND = 0.05, 0.03
"""Deviation of single days from a trend that makes it none, and its least size, as logarithms."""
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
    doubt: Floats
    young: Floats

    def under(self, rows: Ints, budget_share: Floats) -> Mixture:
        """Return the distributions of `rows`, each for a budget's share of the time ahead."""
        trust = self.trust[rows]
        location = self.place[rows] + trust * np.log(budget_share)[:, None]
        location += (1 - trust) * self.log_scale[rows, None]
        beside = self.log_scale[rows] - np.log(budget_share)
        going = sigmoid(self.doubt[rows, 0] + self.doubt[rows, 1] * beside)
        weight = self.weight[rows] * (1 - self.young[rows] * (1 - going))[:, None]
        return Mixture(weight, location, self.spread[rows])


def outlook(situation: Situation, fitted: Fitted) -> Outlook:
    """Forecast the use ahead of each described case."""
    exact = exactness(situation.likeness)
    narrow = narrowness(exact, situation.steadiness)
    own_share, own = _clearest(_own_days(situation), _evident(situation))
    anchors = np.pad(situation.anchors, ((0, 0), (0, COMPONENTS - ANCHORS)))
    members, doubts = [], []
    for member, (last, hidden) in enumerate(networks(situation.inputs, fitted, "alike")):
        chances, place, spread, trust, doubt = np.split(last, _ENDS, axis=1)
        place = place + anchors
        parts = chances, place, _positive(spread) * narrow + MIN_SPREAD, sigmoid(trust)
        verdicts = _verdicts(hidden, situation, exact, fitted, member)
        chances, *others = (
            np.concatenate(both, axis=1) for both in zip(parts, verdicts, strict=True)
        )
        members.append((_shares(chances), *others))
        doubts.append(doubt)
    network_share = (1 - own_share) / len(members)
    views = [(share * network_share, *others) for share, *others in members]
    weight, place, spread, trust = (
        np.concatenate(part, axis=1).astype(np.float64) for part in zip(*views, own, strict=True)
    )
    seen = situation.scale > 0
    young = np.clip(1 - situation.days / BUDGET_TELLS_DAYS, 0.0, 1.0)
    trust = np.where(seen[:, None], trust * young[:, None], 1.0)
    log_scale = np.log(np.where(seen, situation.scale, 1.0))
    doubt = np.mean(doubts, axis=0).astype(np.float64)
    return Outlook(
        weight * situation.awake[:, None],
        place,
        spread,
        trust,
        log_scale,
        doubt=np.stack([doubt[:, 0], _positive(doubt[:, 1])], axis=1),
        young=young * seen,
    )


def exactness(likeness: Floats) -> Floats:
    """Return how narrow each earlier day makes what it says, from nearly 0 to 1, the widest."""
    weekly = np.where(likeness[:, :, WEEKLY_TRIALS] > 0, likeness[:, :, WEEKLY_ERROR], _UNTRIED)
    daily = np.where(likeness[:, :, DAILY_TRIALS] > 0, likeness[:, :, DAILY_ERROR], _UNTRIED)
    unlike = np.minimum(weekly, daily) + likeness[:, :, UNLIKE] + _EXACT
    unlike = np.where(likeness[:, :, COMPARABLE] > 0, unlike, 1.0)
    narrow: Floats = np.minimum(unlike / _INEXACT, 1.0)
    return narrow


def narrowness(exact: Floats, steadiness: Floats) -> Floats:
    """Return how narrow each amount of a network may be, likewise: trends by their own record."""
    best = exact.min(axis=1, keepdims=True)
    trend = np.where(np.isnan(steadiness), 1.0, (steadiness + _EXACT) / _INEXACT)
    narrow = np.repeat(best, COMPONENTS, axis=1)
    narrow[:, ANCHORS - trend.shape[1] : ANCHORS] = np.minimum(trend, 1.0)
    return narrow


def _verdicts(
    hidden: Floats, situation: Situation, exact: Floats, fitted: Fitted, member: int
) -> _Parts:
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
    return chance, place, _positive(spread) * exact + MIN_SPREAD, np.zeros(place.shape)


def alike(situation: Situation) -> Floats:
    """Return the weight of each earlier day by its likeness to the present one; they sum to 1.

    All are 0 where no earlier day is known.
    """
    unlike, comparable = (situation.likeness[:, :, column] for column in (UNLIKE, COMPARABLE))
    known = ~np.isnan(situation.followed)
    wrong = situation.likeness[:, :, WEEKLY_ERROR]
    weight = np.maximum(comparable, _BARELY * known)
    weight = weight * np.exp(-_SHARPNESS * (unlike + wrong) - _FADING)
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
    spread = spread * exactness(situation.likeness) + MIN_SPREAD
    weight = share * alike(situation) * (1 - situation.likeness[:, :, NOTHING])
    return share, (weight, place, spread, np.zeros(place.shape))


def _evident(situation: Situation) -> tuple[Floats, _Parts]:
    """Return the share of what a person sees at a glance, and its mixture.

    An even hour on another level than on all earlier days goes on as those days did, on its level;
    a trend from day to day that hardly ever was off goes on.
    """
    known = alike(situation) * ~np.isnan(situation.risen)
    weight = known / np.maximum(known.sum(axis=1, keepdims=True), 1e-9)
    risen = np.nan_to_num(situation.risen)
    least = np.where(known > 0, np.abs(risen), np.inf).min(axis=1)
    least = np.where(np.isfinite(least), least, 0.0)
    changed = situation.even * np.clip((least - _SAME) / (_OTHER - _SAME), 0.0, 1.0)

    deviation = np.where(np.isnan(situation.steadiness[:, 0]), 9.0, situation.steadiness[:, 0])
    going = np.clip(1 - deviation / _STEADY, 0.0, 1.0)
    going *= np.clip(np.abs(np.nan_to_num(situation.trend)) / _TREND - 1, 0.0, 1.0)

    trend = (going > changed)[:, None]
    share = _EVIDENT * np.maximum(changed, going)[:, None]
    weight = np.where(trend, 1 / LAGS, weight)
    place = np.where(trend, situation.anchors[:, 2:3], np.nan_to_num(situation.followed) + risen)
    spread = np.where(trend, deviation[:, None] + _EXACT, _WIDTH / 2)
    return share, (share * weight, place, spread, np.zeros(place.shape))


def _clearest(one: tuple[Floats, _Parts], other: tuple[Floats, _Parts]) -> tuple[Floats, _Parts]:
    """Return in each case what has the greater share."""
    (share, parts), (other_share, other_parts) = one, other
    clearer = other_share > share
    chances, place, spread, trust = (
        np.where(clearer, theirs, ours) for ours, theirs in zip(parts, other_parts, strict=True)
    )
    return np.where(clearer, other_share, share), (chances, place, spread, trust)


def _shares(chances: Floats) -> Floats:
    """Return the weights of all components but the first, which is the chance of nothing."""
    odds = np.exp(chances - chances.max(axis=1, keepdims=True))
    share: Floats = odds[:, 1:] / odds.sum(axis=1, keepdims=True)
    return share


def _positive(spread: Floats) -> Floats:
    above: Floats = np.logaddexp(spread, 0)
    return above
