"""A distribution of token amounts: nothing at all, or one of several log-logistic amounts."""

from dataclasses import dataclass

import numpy as np

from exporter.core.forecast.history import Floats

_STEPS = 20
"""Halvings of the bracket around a quantile: to a millionth of its width on the log axis."""


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
        return self._above(np.log(amount))

    def quantile(self, level: float) -> Floats:
        """Return the amounts not exceeded with probability `level`."""
        whole = self.weight.sum(axis=1)
        nothing = whole <= 1 - level
        # A mixture's quantile lies between those of its components.
        above = np.where(nothing, 0.5, (1 - level) / np.maximum(whole, 1 - level))
        above = np.clip(above, 1e-9, 1 - 1e-9)
        each = self.location + self.spread * np.log((1 - above) / above)[:, None]
        low, high = each.min(axis=1), each.max(axis=1)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            more = self._above(middle) > 1 - level
            low, high = np.where(more, middle, low), np.where(more, high, middle)
        return np.where(nothing, 0.0, np.exp((low + high) / 2))

    def _above(self, log_amount: Floats) -> Floats:
        steps = (self.location - log_amount[:, None]) / self.spread
        total: Floats = (self.weight / (1 + np.exp(np.clip(-steps, -50, 50)))).sum(axis=1)
        return total
