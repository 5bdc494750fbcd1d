"""The system's clock, with the jumps that it made."""

import logging
from collections import Counter
from collections.abc import Callable

from exporter.core.clock import ClockWatch
from exporter.core.moment import rfc3339

APART = 5.0
"""Seconds between two clocks that are too much: slots are 10 s, an answer may take 2 s."""

log = logging.getLogger("exporter")


class SystemClock:
    """Tells the time, and notices when the clock is set.

    Attributes:
        now: Unix seconds.
        steady: seconds of a clock that is never set.
        jumps: times that the clock was set, `ahead` or `back`.
        last_jump: seconds that it was last set by, 0 when it never was.
        ahead: seconds by which it is ahead of the store's clock, less than 0 when behind; None
            where the store has no clock.
    """

    def __init__(self, now: Callable[[], float], steady: Callable[[], float]) -> None:
        self.now = now
        self.steady = steady
        self.jumps: Counter[str] = Counter(ahead=0, back=0)
        self.last_jump = 0.0
        self.ahead: float | None = None
        self._apart = False
        self._watch = ClockWatch(now(), steady())

    def was_set(self) -> bool:
        """Whether the clock was set since the last call; then it is logged."""
        present = self.now()
        jump = self._watch.observe(present, self.steady())
        if not jump:
            return False
        direction = "ahead" if jump > 0 else "back"
        self.jumps[direction] += 1
        self.last_jump = jump
        fields = {"seconds": round(jump, 1), "direction": direction, "now": rfc3339(present)}
        log.warning("the system's clock was set", extra={"fields": fields})
        return True

    def compare(self, ahead: float | None) -> None:
        """Know by how many seconds it is ahead of the store's clock; log when that is too much."""
        self.ahead = ahead
        apart = ahead is not None and abs(ahead) > APART
        if ahead is not None and apart and not self._apart:
            log.warning(
                "the system's clock differs from that of the store, and so do windows and times "
                "of arrival from those of other replicas; synchronise them",
                extra={"fields": {"ahead_seconds": round(ahead, 1)}},
            )
        elif self._apart and not apart:
            log.info("the system's clock agrees with that of the store again")
        self._apart = apart
