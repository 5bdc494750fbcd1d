"""A limit on the requests of all clients together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One request per `interval` seconds (positive) on average, up to `burst` (>= 1) at once."""

    interval: float
    burst: int


class RateLimiter:
    """A token bucket. Not safe for use by several threads."""

    def __init__(self, limit: RateLimit, now: float) -> None:
        self._limit = limit
        self._left = float(limit.burst)
        self._at = now

    def allow(self, now: float) -> bool:
        """Takes one request's share if there is one."""
        elapsed = max(now - self._at, 0.0)  # clocks are set back
        refilled = self._left + elapsed / self._limit.interval
        self._left = min(refilled, self._limit.burst)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
