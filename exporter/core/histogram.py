"""Counts of observations by size: what Prometheus' classic histograms are made of.

Native histograms exist in Prometheus' protobuf format only, which is not served here.
"""

from bisect import bisect_left
from typing import NamedTuple

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of durations: from a push that shares its commit to a store that does not answer."""


class Distribution(NamedTuple):
    """A histogram at one moment.

    Attributes:
        bounds: upper bound of each bucket, inclusive; one more bucket has none.
        counts: observations by bucket, not cumulative.
        total: sum of everything observed.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class Histogram:
    """Observations by size; costs one addition each.

    Attributes:
        total: sum of everything observed.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def read(self) -> Distribution:
        """A copy that stays as it is."""
        return Distribution(self._bounds, tuple(self._counts), self.total)
