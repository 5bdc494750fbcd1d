"""The parent of the background tasks: none dies in silence, none outlives the process's stop."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

FIRST_WAIT, MAX_WAIT = 1.0, 60.0
"""Seconds before a failed task is started again: the first time, and what that doubles up to."""

STEADY = 30.0
"""Seconds that a task has to run before its last failure is over."""

STOP_WITHIN = 5.0
"""Seconds that tasks have to end when they are cancelled."""

log = logging.getLogger("exporter")


class Supervisor:
    """Keeps tasks running until `stop`.

    One that fails is logged with its trace, counted, and started again after a wait that doubles
    with every failure. To be used on one event loop.

    Attributes:
        failures: task -> how often it failed.
    """

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter(event_loop=0)
        self._last: dict[str, tuple[str, float | None]] = {}  # error, and when started again
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def failing(self) -> dict[str, str]:
        """Task -> the type of its last error, of those that are down or not steady yet."""
        now = _now() if self._last else 0.0
        return {
            name: error
            for name, (error, since) in self._last.items()
            if since is None or now - since < STEADY
        }

    def keep(self, name: str, work: Callable[[], Coroutine[Any, Any, NoReturn]]) -> None:
        """Run `work` for good."""
        self.failures.setdefault(name, 0)
        self._add(name, self._keep(name, work))

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Run `work` once."""
        self.failures.setdefault(name, 0)
        self._add(name, self._once(name, work))

    def failed(self, name: str, error: BaseException) -> None:
        """Log and count an error of a task that goes on all the same."""
        self.failures[name] += 1
        fields = {"task": name, "error": repr(error)}
        log.error("background task failed", extra={"fields": fields}, exc_info=error)

    def loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What an event loop calls with errors that nobody caught."""
        self.failures["event_loop"] += 1
        fields = {"what": context.get("message")}
        log.error("unexpected", extra={"fields": fields}, exc_info=context.get("exception"))

    async def stop(self) -> None:
        """Cancel all tasks, and wait for them as long as they may take."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            _, still = await asyncio.wait(tasks, timeout=STOP_WITHIN)
            for task in still:
                fields = {"task": task.get_name()}
                log.error("background task does not end", extra={"fields": fields})

    def _add(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, name: str, work: Callable[[], Coroutine[Any, Any, NoReturn]]) -> None:
        wait = FIRST_WAIT
        while True:
            begun = _now()
            try:
                await work()
                raise RuntimeError("ended")
            except Exception as error:
                self.failed(name, error)
                self._last[name] = (type(error).__name__, None)
            if _now() - begun >= STEADY:
                wait = FIRST_WAIT
            await asyncio.sleep(wait)
            wait = min(2 * wait, MAX_WAIT)
            self._last[name] = (self._last[name][0], _now())

    async def _once(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as error:
            self.failed(name, error)


def _now() -> float:
    return asyncio.get_running_loop().time()
