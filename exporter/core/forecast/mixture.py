"""A distribution of token amounts: nothing at all, or one of several log-logistic amounts."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats

_STEPS = 11
"""Steps towards a quantile: enough to place it within a thousandth of the probability."""

_Singles = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Mixture:
    """A row of component weights, log-amounts and log-spreads per case.

    What the weights lack of 1 is the chance of no tokens at all. `sharpness` is what the log-odds
    of every amount are multiplied by.
    """

    weight: Floats
    location: Floats
    spread: Floats
    sharpness: Floats

    def survival(self, amount: Floats) -> Floats:
        """Return the probability of at least `amount` (positive) tokens."""
        steps = (np.log(amount)[:, None] - self.location) / self.spread
        total = (self.weight / (1 + np.exp(np.minimum(steps, 50)))).sum(axis=1)
        total = np.clip(total, 1e-12, 1 - 1e-12)
        sharpened: Floats = 1 / (1 + (1 / total - 1) ** self.sharpness)
        return sharpened

    def quantiles(self, levels: tuple[float, ...]) -> list[Floats]:
        """Return for each level the amounts not exceeded with that probability."""
        total = np.maximum(self.weight.sum(axis=1), 1e-9)
        share = self.weight / total[:, None]
        centre = (share * self.location).sum(axis=1)
        # About its middle the logarithm of an amount needs no more than single precision.
        weight, offset, spread = (
            values.astype(np.float32)
            for values in (share, self.location - centre[:, None], self.spread)
        )
        half_rate = 0.5 / spread
        half_place = offset * half_rate

        def log_odds(point: _Singles) -> _Singles:
            # Twice a logistic share is 1 - tanh: quicker than exp, and no overflow to avoid.
            balance = np.einsum(
                "ij,ij->i", weight, np.tanh(point[:, None] * half_rate - half_place)
            )
            above = np.clip((1 - balance) / 2, 1e-7, 1 - 1e-7)
            odds: _Singles = np.log(above / (1 - above))
            return odds

        amounts = []
        for level in levels:
            share_above = 1 / (1 + (level / (1 - level)) ** (1 / self.sharpness))
            above = np.clip(share_above / total, 1e-6, 1 - 1e-6)
            wanted = np.log(above / (1 - above)).astype(np.float32)
            # The quantile lies among the components' own.
            own = offset - spread * wanted[:, None]
            point = _root(log_odds, wanted, own.min(axis=1), own.max(axis=1))
            amounts.append(np.where(total > share_above, np.exp(centre + point), 0.0))
        return amounts


def _root(
    falling: Callable[[_Singles], _Singles], wanted: _Singles, low: _Singles, high: _Singles
) -> _Singles:
    """Return where the function has the wanted values: false position, the Illinois variant."""
    at_low, at_high = falling(low) - wanted, falling(high) - wanted
    moved_low = np.zeros(low.shape, np.bool_)
    moved_high = moved_low
    for _ in range(_STEPS):
        slope = np.maximum(at_low - at_high, np.float32(1e-9))
        point = np.clip(low + at_low * (high - low) / slope, low, high)
        here = falling(point) - wanted
        right = here > 0
        at_high = np.where(right, np.where(moved_low, at_high / 2, at_high), here)
        at_low = np.where(right, here, np.where(moved_high, at_low / 2, at_low))
        low, high = np.where(right, point, low), np.where(right, high, point)
        moved_low, moved_high = right, ~right
    return point
