"""How late it certainly is, by a clock that may be set wrong at any time."""

STEP_SECONDS = 2 * 3600.0
"""Between two observations; more did not pass under our eyes."""

CATCH_UP = 3.0
"""Times as fast as time passes it is made up for what passed while nobody observed."""


class TrustedTime:
    """Follows a wall clock, but only as far as time was seen to pass.

    What is dropped because it is too old is dropped by this: a clock that is a year ahead drops
    nothing in its first hours, and after a pause of a month the month is kept that much longer.

    Attributes:
        at: Unix seconds; never later than the last observation.
    """

    def __init__(self, at: float, now: float) -> None:
        self.at = min(at, now)
        self._last = now

    def observe(self, now: float) -> float:
        """What time it certainly is when the clock says `now` (Unix seconds)."""
        step, self._last = now - self._last, now
        if 0.0 < step <= STEP_SECONDS:
            self.at += CATCH_UP * step
        self.at = min(self.at, now)
        return self.at
