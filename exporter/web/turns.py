"""Turns at what keeps the event loop busy: a little for everybody who waits."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

TURN_SECONDS = 0.002
"""Spent on what waits here in one turn of the event loop; then all others have theirs."""


class Turns:
    """Work that waits, in the order in which it came."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = False

    def wait(self, work: Callable[[], None]) -> None:
        """Do a piece of work, of a millisecond or so, when its turn comes."""
        self._waiting.append(work)
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        end = monotonic() + TURN_SECONDS
        try:
            while self._waiting:
                self._waiting.popleft()()
                if monotonic() >= end:
                    break
        finally:
            self._running = bool(self._waiting)
            if self._running:
                asyncio.get_running_loop().call_soon(self._run)
