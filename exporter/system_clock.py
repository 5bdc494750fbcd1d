"""The system's clock, with the jumps that it made."""

import logging
from collections import Counter
from collections.abc import Callable

from exporter.core.clock import ClockWatch
from exporter.core.moment import rfc3339

log = logging.getLogger("exporter")


class SystemClock:
    """Tells the time, and notices when the clock is set.

    Attributes:
        now: Unix seconds.
        steady: seconds of a clock that is never set.
        jumps: times that the clock was set, `ahead` or `back`.
        last_jump: seconds that it was last set by, 0 when it never was.
    """

    def __init__(self, now: Callable[[], float], steady: Callable[[], float]) -> None:
        self.now = now
        self.steady = steady
        self.jumps: Counter[str] = Counter(ahead=0, back=0)
        self.last_jump = 0.0
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
