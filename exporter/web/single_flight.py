"""Work that many ask for at once is done once, for all who asked before it began."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs work of each key one after another; whoever comes while it runs shares the next run.

    So a result is never older than the question, and however many wait, one result is made at a
    time, and one at most waits to be made.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[T]] = {}
        self._waiting: dict[Hashable, asyncio.Task[T]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """What `work`, or that of somebody else with the same key, returns or raises."""
        task = self._waiting.get(key)
        if task is None:
            task = asyncio.create_task(self._run(key, self._running.get(key), work))
            self._waiting[key] = task
        return await asyncio.shield(task)  # others want it, whoever leaves

    async def _run(
        self, key: Hashable, before: asyncio.Task[T] | None, work: Callable[[], Awaitable[T]]
    ) -> T:
        if before is not None:
            await asyncio.wait([before])
        task = self._running[key] = self._waiting.pop(key)
        try:
            return await work()
        finally:
            if self._running.get(key) is task:
                del self._running[key]
