"""Many requests, one sync: a thread that commits whatever has arrived since it last did."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple, TypeVar

from exporter.core.histogram import SECONDS, Distribution, Histogram
from exporter.core.slots import Increments, total
from exporter.storage.contract import Batch, Committed, CorruptStorage, StorageError, Store
from exporter.storage.health import StoreHealth
from exporter.storage.stepped_call import SteppedCall, Work

log = logging.getLogger("exporter")

T = TypeVar("T")
V = TypeVar("V")
Done = Callable[[Committed | StorageError], None]

_CLOSED = "the store is closed"
_GROUPS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)


class CommitStats(NamedTuple):
    """How a store fared, since the start of the process.

    Attributes:
        durations: seconds that commits took.
        group_sizes: batches that were committed together.
        tidied: seconds that each step of work took that the store had put off.
        failures: callbacks that raised.
    """

    durations: Distribution
    group_sizes: Distribution
    tidied: Distribution
    failures: int


class GroupCommit:
    """Owns a store: everything that touches it goes through here, in order.

    Call from the event loop's thread; callbacks run there too, in the order of submission. Each
    is called exactly once, also after `close`. One that raises is logged and counted, and keeps
    nobody else from being answered.

    Attributes:
        health: whether the store does what it is asked.
        outstanding: batches submitted and not answered yet.
        counted: gets what each group added, before its callbacks are called.
    """

    def __init__(
        self, store: Store, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._clock = clock
        self._loop = loop
        self._waiting: deque[tuple[Batch, Done]] = deque()
        self._work: deque[Callable[[], None]] = deque()
        self._turns: SimpleQueue[bool] = SimpleQueue()  # false is the end
        self._busy = False
        self._closing = False
        self._closed = False
        self._stepping = 0  # works in steps that have not ended
        self._complaint = ""
        self._damage: CorruptStorage | None = None
        self.health = StoreHealth()
        self.counted: Callable[[Increments], None] = lambda added: None
        self.outstanding = 0
        self._failures = 0
        self._durations = Histogram(SECONDS)
        self._group_sizes = Histogram(_GROUPS)
        self._tidied = Histogram(SECONDS)  # by the store's thread
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def stats(self) -> CommitStats:
        """How the store fared so far."""
        return CommitStats(
            self._durations.read(), self._group_sizes.read(), self._tidied.read(), self._failures
        )

    def on_commit(self, notify: Callable[[], None]) -> None:
        """Call `notify` on the loop soon after somebody committed: see `Store.on_commit`."""

        def pass_on() -> None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(notify)

        self._store.on_commit(pass_on)

    def submit(self, batch: Batch, done: Done) -> None:
        """Commit `batch` with the next group; `done` gets the outcome once it is durable."""
        self.outstanding += 1
        if self._closed:
            closed = [StorageError(_CLOSED)]
            self._loop.call_soon(self._finish, [(batch, done)], closed, {}, 0.0)
            return
        self._waiting.append((batch, done))
        self._wake()

    def call(
        self, work: Callable[[Store], T], then: Callable[[T], None] | None = None
    ) -> "asyncio.Future[T]":
        """Run `work` on the store after everything submitted so far.

        `then` gets the result on the loop before the outcome of any later group is told. What
        either of them raises, the future raises.
        """
        future: asyncio.Future[T] = self._loop.create_future()

        def settle(result: T) -> None:
            try:
                if then is not None:
                    then(result)
            except Exception as error:
                fail(error)
            else:
                if not future.done():  # who asked may have been cancelled
                    future.set_result(result)

        def fail(error: Exception) -> None:
            if not future.done():
                future.set_exception(error)

        def run() -> None:
            try:
                result = work(self._store)
            except Exception as error:
                self._loop.call_soon_threadsafe(fail, error)
            else:
                self._loop.call_soon_threadsafe(settle, result)

        if self._closed:
            fail(StorageError(_CLOSED))
        else:
            self._work.append(run)
            self._wake()
        return future

    def backup(self) -> Path:
        """Copy the store beside everything else; in a thread of the caller's. See `Store.backup`.

        Raises:
            StorageError: that cannot be done.
        """
        return self._store.backup()

    def call_in_steps(
        self,
        work: Work,
        then: Callable[[], None] = lambda: None,
        begun: Callable[[], None] = lambda: None,
    ) -> "asyncio.Future[None]":
        """Run `work` on the store in steps, between groups, so that no commit waits for all of it.

        What the store has put off stays so meanwhile. `begun` is called on the loop after the
        first step, `then` after the last, both before the outcome of any later group is told.
        When the future is cancelled, `work` is closed, and `then` is not called.
        """
        call = SteppedCall(self._loop, work, then, begun)
        self._stepping += 1

        def run() -> None:
            more = call.advance(self._store, self._waiting)
            self._loop.call_soon_threadsafe(resume if more else over)

        def resume() -> None:
            if self._closed:
                call.fail(StorageError(_CLOSED))
                over()
            else:
                self._work.append(run)
                self._wake()

        def over() -> None:
            self._stepping -= 1

        resume()
        return call.future

    async def close(self) -> None:
        """Commit what was submitted, close the store, end the thread."""
        self._closing = True

        def close(store: Store) -> None:
            try:
                store.close()
            finally:
                self._turns.put(False)

        closing = self.call(close)
        self._closed = True
        await closing
        self._thread.join()  # it only has to return

    def _wake(self) -> None:
        if not self._busy:
            self._busy = True
            # Requests read in the same turn of the loop join this group.
            self._loop.call_soon(self._turns.put, True)

    def _run(self) -> None:
        while self._turns.get():
            # The work first: what was submitted before it is then in the group or in one before.
            work = [self._work.popleft() for _ in range(len(self._work))]
            group = [self._waiting.popleft() for _ in range(len(self._waiting))]
            began = time.monotonic()
            outcomes = self._commit([batch for batch, _ in group])
            added = total([one.increments for one in outcomes if isinstance(one, Committed)])
            seconds = time.monotonic() - began
            self._loop.call_soon_threadsafe(self._finish, group, outcomes, added, seconds)
            for run in work:
                run()
            if group and not self._closing and not self._damage and not self._stepping:
                self._tidy()

    def _commit(self, batches: Sequence[Batch]) -> list[Committed | StorageError]:
        """What becomes of each batch. One that cannot be stored for its own sake fails alone."""
        if not batches:
            return []
        try:
            if self._damage:  # what is added to a damaged store may never be read
                raise self._damage
            return list(self._store.commit(batches, self._clock()))
        except StorageError as error:
            return [error] * len(batches)
        except Exception as error:  # the thread must live on, and the requests be answered
            if len(batches) > 1:
                return [outcome for batch in batches for outcome in self._commit([batch])]
            log.exception("cannot store", exc_info=error)
            return [StorageError(f"cannot store: {error!r}")]

    def _tidy(self) -> None:
        """Let the store do what it has put off: a little, or all while nothing waits."""
        try:
            more = True
            while more:
                began = time.monotonic()
                more = self._store.tidy(self._clock()) and self._turns.empty()
                self._tidied.observe(time.monotonic() - began)
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
        outcomes: Sequence[Committed | StorageError],
        added: Increments,
        seconds: float,
    ) -> None:
        self.outstanding -= len(group)
        if self._waiting or self._work:
            self._turns.put(True)
        else:
            self._busy = False
        if group:
            self._durations.observe(seconds)
            self._group_sizes.observe(len(group))
            failures = [one for one in outcomes if isinstance(one, StorageError)]
            self.health.note("write", failures[0] if len(failures) == len(group) else None)
        if added:
            self._isolated(self.counted, added)
        for (_, done), outcome in zip(group, outcomes, strict=True):
            self._isolated(done, outcome)

    def _isolated(self, callback: Callable[[V], None], value: V) -> None:
        """Call back; what one raises must not keep the others from their answers."""
        try:
            callback(value)
        except Exception:
            self._failures += 1
            log.exception("callback of a commit failed")
