"""How late it certainly is, by a clock that may be set wrong at any time."""

STEP_SECONDS = 2 * 3600.0
"""Between two observations; more did not pass under our eyes."""

BELIEVED_AFTER = 86_400.0
"""Seconds for a person, or NTP, to set right a clock that was set wrong."""


class TrustedTime:
    """Follows a wall clock only as far as time was seen to pass, until a day has passed so.

    What is dropped because it is too old is dropped by this: a clock that is a year ahead drops
    nothing on its first day, and after a pause of a month the month is kept for a day more.

    Attributes:
        at: Unix seconds; never later than the last observation.
    """

    def __init__(self, at: float, now: float) -> None:
        self.at = min(at, now)
        self._last = now
        self._steady = 0.0  # seconds since the clock was set, or observed for the first time

    def observe(self, now: float) -> float:
        """What time it certainly is when the clock says `now` (Unix seconds)."""
        step, self._last = now - self._last, now
        if 0.0 <= step <= STEP_SECONDS:
            self._steady += step
            self.at += step
        else:
            self._steady = 0.0
        self.at = now if self._steady >= BELIEVED_AFTER else min(self.at, now)
        return self.at
