"""Many requests, one sync: a thread that commits whatever has arrived since it last did."""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

from exporter.core.slots import Increments, total
from exporter.storage.contract import Batch, Committed, CorruptStorage, StorageError, Store

log = logging.getLogger("exporter")

T = TypeVar("T")
Done = Callable[[Committed | StorageError], None]


class GroupCommit:
    """Owns a store: everything that touches it goes through here, in order.

    Call from the event loop's thread; callbacks run there too, in the order of submission.

    Attributes:
        outstanding: batches submitted and not answered yet.
        counted: gets what each group added, before its callbacks are called.
    """

    def __init__(
        self, store: Store, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop
        self._waiting: list[tuple[Batch, Done]] = []
        self._work: list[Callable[[], None]] = []
        self._turns: SimpleQueue[bool] = SimpleQueue()  # false is the end
        self._busy = False
        self._closing = False
        self._complaint = ""
        self._damage: CorruptStorage | None = None
        self.counted: Callable[[Increments], None] = lambda added: None
        self.outstanding = 0
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch, done: Done) -> None:
        """Commit `batch` with the next group; `done` gets the outcome once it is durable."""
        self._waiting.append((batch, done))
        self.outstanding += 1
        self._wake()

    def call(
        self, work: Callable[[Store], T], then: Callable[[T], None] | None = None
    ) -> "asyncio.Future[T]":
        """Run `work` on the store between two groups, after everything submitted so far.

        `then` gets the result on the loop before the outcome of any later group is told.
        """
        future: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T) -> None:
            if then is not None:
                then(result)
            if not future.cancelled():
                future.set_result(result)

        def fail(error: Exception) -> None:
            if not future.cancelled():
                future.set_exception(error)

        def run() -> None:
            try:
                result = work(self._store)
            except Exception as error:
                self._loop.call_soon_threadsafe(fail, error)
            else:
                self._loop.call_soon_threadsafe(settle, result)

        self._work.append(run)
        self._wake()
        return future

    async def close(self) -> None:
        """Commit what was submitted, close the store, end the thread."""
        self._closing = True
        await self.call(lambda store: store.close())
        self._turns.put(False)
        await asyncio.to_thread(self._thread.join)

    def _wake(self) -> None:
        if not self._busy:
            self._busy = True
            # Requests read in the same turn of the loop join this group.
            self._loop.call_soon(self._turns.put, True)

    def _run(self) -> None:
        while self._turns.get():
            group, self._waiting = self._waiting, []
            work, self._work = self._work, []
            outcomes: list[Committed] | StorageError = []
            added: Increments = {}
            if group:
                try:
                    if self._damage:  # what is added to a damaged store may never be read
                        raise self._damage
                    outcomes = self._store.commit([batch for batch, _ in group], self._clock())
                    added = total([outcome.increments for outcome in outcomes])
                except StorageError as error:
                    outcomes = error
                except Exception as error:  # the thread must live on, and the requests be answered
                    log.exception("cannot store", exc_info=error)
                    outcomes = StorageError(f"cannot store: {error!r}")
            self._loop.call_soon_threadsafe(self._finish, group, outcomes, added)
            for run in work:
                run()
            if group and not self._closing and not self._damage:
                self._tidy()

    def _tidy(self) -> None:
        """Let the store do what it has put off: a little, or all while nothing waits."""
        try:
            while self._store.tidy(self._clock()) and self._turns.empty():
                pass
            self._complaint = ""
        except Exception as error:  # nothing is lost by it: the store tries again the next time
            if str(error) != self._complaint:
                self._complaint = str(error)
                fields = {"error": str(error)}
                trace = None if isinstance(error, StorageError) else error
                log.error("cannot tidy the store", extra={"fields": fields}, exc_info=trace)
            if isinstance(error, CorruptStorage):
                self._damage = error

    def _finish(
        self,
        group: list[tuple[Batch, Done]],
        outcomes: list[Committed] | StorageError,
        added: Increments,
    ) -> None:
        self.outstanding -= len(group)
        if self._waiting or self._work:
            self._turns.put(True)
        else:
            self._busy = False
        if isinstance(outcomes, StorageError):
            for _, done in group:
                done(outcomes)
        else:
            if added:
                self.counted(added)
            for (_, done), outcome in zip(group, outcomes, strict=True):
                done(outcome)
