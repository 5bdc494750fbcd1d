"""A distribution of token amounts: nothing at all, or one of several log-logistic amounts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats, Ints

_STEPS = 20
"""Steps towards a quantile at most."""
_CLOSE = 0.005
"""Distance from a quantile's log-odds at which it is found: a thousandth of the probability."""

_Singles = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Mixture:
    """A row of component weights, log-amounts and log-spreads per case.

    What the weights lack of 1 is the chance of no tokens at all.
    """

    weight: Floats
    location: Floats
    spread: Floats

    def survival(self, amount: Floats) -> Floats:
        """Return the probability of at least `amount` (positive) tokens."""
        steps = (np.log(amount)[:, None] - self.location) / self.spread
        total: Floats = (self.weight / (1 + np.exp(np.minimum(steps, 50)))).sum(axis=1)
        return total

    def quantiles(self, levels: tuple[float, ...]) -> list[Floats]:
        """Return for each level the amounts not exceeded with that probability."""
        total = np.maximum(self.weight.sum(axis=1), 1e-9)
        share = self.weight / total[:, None]
        centre = (share * self.location).sum(axis=1)
        # About its middle the logarithm of an amount needs no more than single precision.
        weight, offset, half_rate = (
            values.astype(np.float32)
            for values in (share, self.location - centre[:, None], 0.5 / self.spread)
        )
        half_place = offset * half_rate

        def log_odds(rows: Ints, point: _Singles) -> _Singles:
            # Twice a logistic share is 1 - tanh: quicker than exp, and no overflow to avoid.
            steps = point[:, None] * half_rate[rows]
            steps -= half_place[rows]
            balance = np.einsum("ij,ij->i", weight[rows], np.tanh(steps, out=steps))
            above = np.clip((1 - balance) / 2, 1e-7, 1 - 1e-7)
            odds: _Singles = np.log(above / (1 - above))
            return odds

        share_above = 1 - np.array(levels)[:, None]
        above = np.clip(share_above / total, 1e-6, 1 - 1e-6)
        wanted = np.log(above / (1 - above)).astype(np.float32)
        # A quantile lies among the components' own.
        own = offset - (0.5 / half_rate) * wanted[:, :, None]
        rows = np.tile(np.arange(len(total)), len(levels))
        found = _root(
            log_odds, rows, wanted.ravel(), own.min(axis=2).ravel(), own.max(axis=2).ravel()
        )
        amounts = np.exp(centre + found.reshape(wanted.shape))
        return list(np.where(total > share_above, amounts, 0.0))


def _root(
    falling: Callable[[Ints, _Singles], _Singles],
    rows: Ints,
    wanted: _Singles,
    low: _Singles,
    high: _Singles,
) -> _Singles:
    """Return where each row's function has the wanted value: false position, Illinois variant."""
    point = np.empty_like(wanted)
    at_low, at_high = falling(rows, low) - wanted, falling(rows, high) - wanted
    last = np.zeros(wanted.shape, np.int8)
    sought = np.arange(wanted.size)
    for _ in range(_STEPS):
        slope = np.maximum(at_low - at_high, np.float32(1e-9))
        guess = np.clip(low + at_low * (high - low) / slope, low, high)
        point[sought] = guess
        here = falling(rows[sought], guess) - wanted[sought]
        side = np.where(here > 0, 1, -1).astype(np.int8)
        # An end that stays a second time counts half, or it would stay for long.
        at_high = np.where(side > 0, np.where(last > 0, at_high / 2, at_high), here)
        at_low = np.where(side > 0, here, np.where(last < 0, at_low / 2, at_low))
        low, high = np.where(side > 0, guess, low), np.where(side > 0, high, guess)
        off = np.abs(here) > _CLOSE
        if not off.any():
            break
        sought, last = sought[off], side[off]
        low, high, at_low, at_high = low[off], high[off], at_low[off], at_high[off]
    return point
