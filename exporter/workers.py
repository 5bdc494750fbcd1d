"""The one place that runs slow work: threads beside the event loop, some for each kind of it."""

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Kind(StrEnum):
    """What takes longer than a few milliseconds."""

    MEASURE = "measure"  # budgets and forecasts
    RENDER = "render"  # expositions, pages, long answers
    INTAKE = "intake"  # bodies of pushes
    RELOAD = "reload"  # configuration files
    BACKUP = "backup"  # copies of the store


_THREADS = {Kind.MEASURE: 1, Kind.RENDER: 2, Kind.INTAKE: 1, Kind.RELOAD: 1, Kind.BACKUP: 1}


class Workers:
    """Runs each kind of work in threads of its own, so that no kind waits for another.

    More threads would be no faster: they take turns in one interpreter, and only numpy, zlib and
    the like let others run beside them.

    Attributes:
        outstanding: work by kind that waits or runs.
    """

    def __init__(self) -> None:
        self.outstanding: Counter[Kind] = Counter(dict.fromkeys(Kind, 0))
        self._pools = {
            kind: ThreadPoolExecutor(threads, thread_name_prefix=kind.value)
            for kind, threads in _THREADS.items()
        }

    async def run(
        self, kind: Kind, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What `work` returns, or raises; when cancelled, work that runs already goes on."""
        loop = asyncio.get_running_loop()
        self.outstanding[kind] += 1
        running = loop.run_in_executor(self._pools[kind], partial(work, *args, **kwargs))
        running.add_done_callback(lambda _: self._finished(kind))
        return await running

    def _finished(self, kind: Kind) -> None:
        self.outstanding[kind] -= 1

    def close(self) -> None:
        """Take no more work, and drop what has not begun."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
