"""Whether a store does what it is asked."""

import logging
import time

from exporter.storage.contract import StorageError

_VITAL = {"write", "read", "keep"}

log = logging.getLogger("exporter")


class StoreHealth:
    """What of a store fails, and since when: `write`, `read`, `keep` or `prune`."""

    def __init__(self) -> None:
        self._failing: dict[str, float] = {}

    @property
    def up(self) -> bool:
        """The store takes what is pushed, keeps it, and tells what others pushed."""
        return not self._failing.keys() & _VITAL

    def note(self, doing: str, error: StorageError | None) -> None:
        """Whether the store can do something; logs when it begins to fail, and when it is over."""
        if error is None:
            since = self._failing.pop(doing, None)
            if since is not None:
                seconds = round(time.monotonic() - since, 1)
                log.info("store works again", extra={"fields": {"doing": doing, "after": seconds}})
        elif doing not in self._failing:
            self._failing[doing] = time.monotonic()
            log.error("store fails", extra={"fields": {"doing": doing, "error": str(error)}})
