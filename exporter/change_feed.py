"""What changed, in order, for any number of readers, each at its own pace.

The last changes are kept once for all of them: whoever falls further behind takes the whole state
anew, so that a slow reader costs nothing.
"""

import secrets
from collections import deque
from collections.abc import Callable
from itertools import islice

MAX_KEPT = 4096
"""Changes that are kept: a reader may be behind by so many."""

MAX_KEPT_BYTES = 4 * 2**20
"""Bytes of all changes that are kept."""

_MAX_ID = 64  # characters; ours have 30 at most


class ChangeFeed:
    """Changes with numbers that rise by one. Not for concurrent use.

    Attributes:
        position: the number of the last change.
        added: is called after every change.
    """

    def __init__(self) -> None:
        self.position = 0
        self.added: Callable[[], None] = lambda: None
        # Numbers begin anew with every process, and each replica has its own.
        self._epoch = secrets.token_hex(6)
        self._kept: deque[bytes] = deque()
        self._bytes = 0

    def add(self, change: bytes) -> None:
        """Tell a change."""
        self.position += 1
        self._kept.append(change)
        self._bytes += len(change)
        while len(self._kept) > MAX_KEPT or self._bytes > MAX_KEPT_BYTES:
            self._bytes -= len(self._kept.popleft())
        self.added()

    def restart(self) -> None:
        """From now on nobody is to go on from before: what changes were about is another thing."""
        self.position += 1
        self._kept.clear()
        self._bytes = 0
        self.added()

    def since(self, position: int) -> list[tuple[int, bytes]] | None:
        """The changes after a position, with their numbers; None when they are not kept."""
        behind = self.position - position
        if not 0 <= behind <= len(self._kept):
            return None
        first = len(self._kept) - behind
        return list(enumerate(islice(self._kept, first, None), position + 1))

    def id_of(self, position: int) -> str:
        """A position as a reader may say it later."""
        return f"{self._epoch}-{position}"

    def position_of(self, text: str) -> int | None:
        """The position that `id_of` gave out; None when it is of another process, or nonsense."""
        epoch, _, number = text[:_MAX_ID].partition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdecimal()):
            return None
        return int(number)
