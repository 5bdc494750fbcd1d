"""Questions to a forecaster, and its answers."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.history import Floats, Ints


@dataclass(frozen=True, slots=True)
class Cases:
    """Budget windows to forecast, one element of every array per case.

    Attributes:
        series: which row of the history is used up in this window.
        start: Unix seconds at which the window began; for a rolling one `now` less its length.
        end: Unix seconds at which it ends; for a rolling one `now` plus its length.
        used: tokens used in the window so far.
        budget: tokens allowed in it, positive.
        rolling: whether the window rolls.
        utc_offset: seconds the window's zone is ahead of UTC at `now`.
    """

    series: Ints
    start: Floats
    end: Floats
    used: Floats
    budget: Floats
    rolling: NDArray[np.bool_]
    utc_offset: Floats

    def take(self, which: NDArray[np.bool_] | Ints) -> "Cases":
        """Return only the cases that `which` marks or numbers."""
        return Cases(
            self.series[which],
            self.start[which],
            self.end[which],
            self.used[which],
            self.budget[which],
            self.rolling[which],
            self.utc_offset[which],
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of each case.

    Attributes:
        probability: that a calendar window ends at or over its budget; that a rolling one reaches
            it within one length from now.
        lower, median, upper: 10, 50 and 90 % quantiles of the use at the window's end; of a
            rolling window one length from now, which is the use between now and then.
        exhaustion_at: Unix seconds; `now` when the budget is used up, nan where exhaustion is
            not more likely than not.
    """

    probability: Floats
    lower: Floats
    median: Floats
    upper: Floats
    exhaustion_at: Floats

    def take(self, which: Ints) -> "Forecast":
        """Return only what is expected of the numbered cases."""
        return Forecast(
            self.probability[which],
            self.lower[which],
            self.median[which],
            self.upper[which],
            self.exhaustion_at[which],
        )

    @property
    def columns(self) -> tuple[Floats, ...]:
        """All of it, in the order in which a forecast is made of them."""
        return self.probability, self.lower, self.median, self.upper, self.exhaustion_at

    def over(self, scale: Floats) -> "Forecast":
        """Return the same with use in units of `scale`."""
        return replace(
            self, lower=self.lower / scale, median=self.median / scale, upper=self.upper / scale
        )

    def held_down(self, before: "Forecast", unused: NDArray[np.bool_]) -> "Forecast":
        """Return the same, but no more than `before` where nothing was used since.

        `unused` marks the calendar windows in which that is so: time that passes without use is
        no sign of more. (A rolling window is another one at every moment.)
        """

        def least(now: Floats, then: Floats) -> Floats:
            return np.where(unused, np.minimum(now, then), now)

        return self.blended(before, least)

    def blended(self, other: "Forecast", blend: Callable[[Floats, Floats], Floats]) -> "Forecast":
        """Return the probability and the quantiles blended with those of another; the moment is
        this one's, where it is still more likely than not to come."""
        probability = blend(self.probability, other.probability)
        return Forecast(
            probability,
            blend(self.lower, other.lower),
            blend(self.median, other.median),
            blend(self.upper, other.upper),
            np.where(probability > 0.5, self.exhaustion_at, np.nan),
        )
