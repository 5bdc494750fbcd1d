"""Work on a store that is done in steps, so that commits need not wait for all of it."""

import asyncio
import time
from collections.abc import Callable, Generator, Sized

from exporter.storage.contract import Store

TOGETHER_SECONDS = 0.01
"""That steps may take together before it is seen whether somebody waits."""

Work = Callable[[Store], Generator[None, None, None]]


class SteppedCall:
    """Work that is under way, and what becomes of it.

    Attributes:
        future: done when the work is; what the work or `then` raises, it raises.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        work: Work,
        then: Callable[[], None],
        begun: Callable[[], None],
    ) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self._loop = loop
        self._work = work
        self._then = then
        self._begun = begun
        self._steps: Generator[None, None, None] | None = None

    def advance(self, store: Store, waiting: Sized) -> bool:
        """On the store's thread: the first step, or as many as are quick while nobody waits.
        Whether there are more."""
        try:
            if self._steps is None:
                self._steps = self._work(store)
                next(self._steps)
                self._loop.call_soon_threadsafe(self._begun)
                return True
            if self.future.cancelled():
                self._steps.close()
                return False
            until = time.monotonic() + TOGETHER_SECONDS
            next(self._steps)
            while not waiting and time.monotonic() < until:
                next(self._steps)
        except StopIteration:
            self._loop.call_soon_threadsafe(self._end)
            return False
        except Exception as error:
            self._loop.call_soon_threadsafe(self.fail, error)
            return False
        return True

    def _end(self) -> None:
        if self.future.cancelled():
            return
        try:
            self._then()
        except Exception as error:
            self.fail(error)
        else:
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        """On the loop: give up."""
        if not self.future.done():
            self.future.set_exception(error)
