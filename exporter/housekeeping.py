"""What a store needs now and then: to be checked, and to forget what is too old."""

from exporter.config import Config
from exporter.counted_usage import CountedUsage
from exporter.names import Names
from exporter.quota_states import QuotaStates
from exporter.storage.contract import StorageError
from exporter.storage.group_commit import GroupCommit
from exporter.system_clock import SystemClock
from exporter.unmatched import UnmatchedBudgets

PRUNE_SECONDS = 3600.0
PRUNE_AFTER_JUMP = 86400.0  # seconds for a person, or NTP, to set right a clock that was set wrong


class Housekeeping:
    """Checks and prunes. Runs on the event loop's thread."""

    def __init__(
        self,
        usage: CountedUsage,
        states: QuotaStates,
        names: Names,
        commits: GroupCommit,
        clock: SystemClock,
    ) -> None:
        self._usage = usage
        self._states = states
        self._names = names
        self._commits = commits
        self._clock = clock
        self._unmatched = UnmatchedBudgets()
        # By the steady clock. Not at once: a machine may start with a wrong clock.
        self._prune_from = clock.steady() + PRUNE_SECONDS

    async def check(self) -> None:
        """See whether the store still keeps what is committed, and agrees about the time.

        Raises:
            StorageError: it does not keep it.
        """
        try:
            ahead = await self._commits.call(lambda store: store.check(self._clock.now()))
        except StorageError as error:
            self._commits.health.note("keep", error)
            raise
        self._commits.health.note("keep", None)
        self._clock.compare(ahead)

    def clock_was_set(self) -> None:
        """Drop nothing for a while: the clock may be wrong now."""
        self._prune_from = self._clock.steady() + PRUNE_AFTER_JUMP

    @property
    def prune_due(self) -> bool:
        """It is time to forget what is too old."""
        return self._clock.steady() >= self._prune_from

    async def prune(self, config: Config, now: float) -> None:
        """Forget what is too old, and log budgets that are for nothing that is seen.

        Raises:
            StorageError: the store cannot.
        """
        try:
            await self._commits.call(lambda store: store.prune(now))
        except StorageError as error:
            self._commits.health.note("prune", error)
            raise
        self._commits.health.note("prune", None)
        self._names.forget_unused(now - config.retention)
        self._states.reported.forget_old(now)
        # Of whoever has been used for less than a day, a day's names are not known yet.
        meter = self._usage.meter
        history = {name: meter.history_days(name, now) for name in config.budgets}
        known = {name: those for name, those in config.budgets.items() if (history[name] or 0) >= 1}
        self._unmatched.check(known, self._names.used_since, now)
        self._prune_from = self._clock.steady() + PRUNE_SECONDS
