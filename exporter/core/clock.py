"""Jumps of the wall clock, seen beside a clock that cannot be set."""

TOLERANCE = 2.0
"""Seconds that the wall clock may differ from the steady one between two readings. NTP slews by at
most 0.5 ms a second, a leap second is one; what is more was set."""

MAX_AHEAD = 60.0
"""Seconds by which a stamp may be later than now, as clocks of replicas differ. What is stamped
later than that was stamped by a clock that was set ahead, and is older than whatever comes now."""


def stamped_ahead(at: float, now: float) -> bool:
    """Whether only a clock that was set ahead can have stamped something with `at`."""
    return at > now + MAX_AHEAD


class ClockWatch:
    """Compares a wall clock with a steady one, each time since the last.

    Args:
        wall: Unix seconds now.
        steady: seconds of a clock that goes on through suspension and is never set.
    """

    def __init__(self, wall: float, steady: float) -> None:
        self._offset = wall - steady

    def observe(self, wall: float, steady: float) -> float:
        """By how many seconds the wall clock was set since the last call, ahead or (less than
        zero) back; 0 when it was not."""
        before, self._offset = self._offset, wall - steady
        jump = self._offset - before
        return jump if abs(jump) > TOLERANCE else 0.0
