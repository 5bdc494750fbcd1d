"""A distribution of token amounts: nothing at all, or one of several log-logistic amounts."""

from dataclasses import dataclass

import numpy as np

from exporter.core.forecast.history import Floats

_STEPS = 30
"""Halvings of the bracket around a quantile: to a billionth of its width on the log axis."""


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

    def quantile(self, level: Floats) -> Floats:
        """Return the amounts not exceeded with probability `level`, one per case."""
        low = (self.location - 12 * self.spread).min(axis=1)
        high = (self.location + 12 * self.spread).max(axis=1)
        nothing = self.weight.sum(axis=1) <= 1 - level
        for _ in range(_STEPS):
            middle = (low + high) / 2
            above = self._above(middle) > 1 - level
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return np.where(nothing, 0.0, np.exp((low + high) / 2))

    def _above(self, log_amount: Floats) -> Floats:
        steps = (self.location - log_amount[:, None]) / self.spread
        total: Floats = (self.weight / (1 + np.exp(np.clip(-steps, -50, 50)))).sum(axis=1)
        return total
