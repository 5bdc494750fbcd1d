"""The quota state machine as a library: one state per provider, kept in memory.

Everything here takes aware datetimes and gives them back in UTC. Naive ones and empty provider
names raise ValueError and change nothing.
"""

from datetime import UTC, datetime
from threading import Lock

from exporter.core.quota_state import State

__all__ = ["State", "StateStore", "in_utc", "named"]


class StateStore:
    """Which providers are out of quota, and until when. Safe for concurrent use.

    Every provider is available until it is marked; of two marks the later call wins.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._retry_after: dict[str, datetime] = {}

    def mark_quota_exhausted(self, provider: str, retry_after: datetime | None) -> None:
        """Keep `provider` out until `retry_after`; with None it is available."""
        if retry_after is None:
            self.mark_available(provider)
            return
        provider, retry_after = named(provider), in_utc("retry_after", retry_after)
        with self._lock:
            self._retry_after[provider] = retry_after

    def mark_available(self, provider: str) -> None:
        """Make `provider` available at once, whatever was said before."""
        with self._lock:
            self._retry_after.pop(named(provider), None)

    def state(self, provider: str, now: datetime) -> tuple[State, datetime | None]:
        """Return the state, and when it ends; from that moment on it is available, None."""
        provider, now = named(provider), in_utc("now", now)
        with self._lock:
            retry_after = self._retry_after.get(provider)
        if retry_after is None or now >= retry_after:
            return State.AVAILABLE, None
        return State.QUOTA_EXHAUSTED, retry_after

    def all_exhausted(self) -> dict[str, datetime]:
        """Return retry_after by provider for all that were marked, elapsed ones included.

        Who probes for recovery needs to see those: nothing has shown yet that they work again.
        """
        with self._lock:
            return dict(self._retry_after)

    def exhausted_at(self, now: datetime) -> dict[str, datetime]:
        """Return retry_after by provider for those that are out at `now`."""
        now = in_utc("now", now)
        return {
            provider: retry_after
            for provider, retry_after in self.all_exhausted().items()
            if retry_after > now
        }


def named(provider: str) -> str:
    """Return a provider's name. Raises ValueError when it is empty or no text."""
    if not isinstance(provider, str) or not provider:
        raise ValueError(f"provider: expected a name, got {provider!r}")
    return provider


def in_utc(what: str, moment: datetime) -> datetime:
    """Return an aware datetime in UTC, where comparing and subtracting are exact.

    In other zones Python compares wall clocks, which show some hours twice.

    Raises:
        ValueError: naive, or out of the range of years 1 to 9999 when in UTC.
    """
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ValueError(f"{what}: expected a datetime with a time zone, got {moment!r}")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{what}: expected a year from 1 to 9999, got {moment!r}") from None
