"""What replicas have in common: when the store began, how long it remembers, what time it is."""

import logging
import math

from exporter.storage.contract import StorageError
from exporter.storage.redis_link import Link, Script

_CREATED, _DEDUPLICATION, _CLOCK = "llmq:created", "llmq:deduplication", "llmq:clock"

AGREED_SECONDS = 3600.0
"""By which the clock of whoever begins a store may differ from the server's and is taken for it."""

_STEP_SECONDS = 7200.0  # between two observations; what is more did not pass under our eyes

_LIFE, _REMEMBER = Script("life.lua"), Script("remember.lua")

log = logging.getLogger("exporter")


class Life:
    """A store that was opened, as long as it is the same one.

    Attributes:
        new: nobody had opened it before.
        created: Unix seconds at which it began.
        period: seconds of use that share a set of identities.
        remembered: seconds for which an identity is remembered at the least, by all replicas.
        clock_ahead: seconds by which our clock was ahead of the server's when it was last asked.
        warnings: what differs from the configuration, for the operator.
    """

    _ahead = 0.0  # of the server's clock, what time it is for the store

    def __init__(self, link: Link, deduplication: float, now: float) -> None:
        """Open it, or begin it at `now`.

        Args:
            deduplication: seconds for which this replica wants identities to be remembered.
        """
        self._link = link
        self._deduplication = deduplication
        self.new = bool(link.client.set(_CREATED, now, nx=True))
        self._mark: bytes | None = link.client.get(_CREATED)
        # A clock that was ahead may have written it.
        self.created = min(float(self._mark or now), now)
        self.remembered = deduplication
        self._lost = False
        self._time, self._seen = 0.0, now
        self.check(now)
        # Whoever comes first decides, for all: whatever it is, it has to be the same for them.
        ahead = 0.0 if abs(self.clock_ahead) <= AGREED_SECONDS else self.clock_ahead
        link.client.set(_CLOCK, ahead, nx=True)
        self._ahead = float(link.client.get(_CLOCK))
        self._time = now - self.clock_ahead + self._ahead
        self.warnings: tuple[str, ...] = ()
        if self.remembered > deduplication:
            self.warnings = (
                f"{link.where}: deduplication: identities are remembered for {self.remembered:g} "
                f"s, as another replica is or was configured, not for {deduplication:g} s: "
                "configure all alike; to shorten it, stop all, delete the key "
                f"{_DEDUPLICATION}, and start them",
            )

    def check(self, now: float) -> None:
        """Hear of what other replicas and the server's operator did.

        Raises:
            StorageError: it is not the store that was opened.
        """
        (mark, seconds, microseconds), (period, longest) = self._link.run(
            [_LIFE.call([_CREATED]), _REMEMBER.call([_DEDUPLICATION], self._deduplication)]
        )
        self._lost = mark != self._mark
        self.require()
        server = int(seconds) + int(microseconds) / 1e6
        self.clock_ahead = now - server
        self._time = max(self.time(now), server + self._ahead)
        self.period = float(period)
        if float(longest) > self.remembered:
            self.remembered = float(longest)
            fields = {"seconds": self.remembered, "configured": self._deduplication}
            log.warning(
                "deduplication: another replica is configured to remember for longer",
                extra={"fields": fields},
            )

    def require(self) -> None:
        """Raise `StorageError` when the last check found another store."""
        if self._lost:
            raise StorageError(
                f"{self._link.where}: the data under llmq:* was flushed, or replaced by another "
                "store's, while in use, and what is stored now would not be added to it; restore "
                "it, or restart all exporters to begin anew"
            )

    def time(self, now: float) -> float:
        """Unix seconds that it is for the store, when a clock here says `now`.

        That is the server's time, which all replicas share. One whose clock was set by days would
        look for identities in other periods than the others, and count once more what they have
        counted. Between two checks the clock here is followed, by as much as can have passed.
        """
        step, self._seen = now - self._seen, now
        if 0.0 < step <= _STEP_SECONDS:
            self._time += step
        return self._time

    def period_of(self, now: float) -> tuple[int, int, int]:
        """The number of the present period, of how many before it identities still matter, and
        seconds until they may be forgotten."""
        number, before = int(now // self.period), math.ceil(self.remembered / self.period)
        return number, before, int((number + 1 + before) * self.period - now)
