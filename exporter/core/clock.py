"""Jumps of the wall clock, seen beside a clock that cannot be set."""

TOLERANCE = 2.0
"""Seconds that the wall clock may differ from the steady one between two readings. NTP slews by at
most 0.5 ms a second, a leap second is one; what is more was set."""


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
