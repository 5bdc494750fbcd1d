"""What waits to be sent, and the thread that sends it."""

import logging
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from exporter.client.delivery import Exporter, PushResponse, backoff

_BATCH = 500
_MAX_SIGNALS = 256
_RETRY_FOR = 24 * 3600.0
"""Seconds a batch is retried: for so long the exporter recognises an event it has seen."""
_GRACE = 0.5
"""Seconds the thread has, after the deadline, to count what it gives up."""

log = logging.getLogger("exporter.client")


@dataclass(frozen=True, slots=True)
class _Post:
    """One request, the same in every attempt."""

    path: str
    content_type: str
    body: bytes
    events: int
    key: str = field(default_factory=lambda: str(uuid.uuid4()))
    made_at: float = field(default_factory=time.monotonic)


class _Answered(msgspec.Struct):
    rejected: list[Any] = []


class Outbox:
    """A bounded queue of encoded documents, emptied by a daemon thread.

    Safe to use from any thread, and after a fork: the parent sends what was waiting, the child
    starts empty with a thread of its own.

    Attributes:
        dropped: events given up: queue full, refused as a batch, or unsent at close.
        rejected: events the exporter turned down one by one.
    """

    def __init__(
        self,
        exporter: Exporter,
        *,
        interval: float,
        max_queue: int,
        timeout: float,
        close_timeout: float,
    ) -> None:
        self._exporter = exporter
        self._interval = interval
        self._max_queue = max_queue
        self._timeout = timeout
        self._close_timeout = close_timeout
        self.dropped = 0
        self.rejected = 0
        self._deadline: float | None = None
        self._start_empty()
        _outboxes.add(self)

    def add_event(self, document: bytes) -> None:
        with self._changed:
            if self._deadline is not None:
                self.dropped += 1
                return
            if len(self._events) >= self._max_queue:
                self._events.popleft()
                self.dropped += 1
            self._events.append(document)
            self._wake_locked()

    def add_signal(self, key: bytes, document: bytes) -> None:
        """Keeps the newest signal of each key."""
        with self._changed:
            if self._deadline is not None:
                return
            self._signals.pop(key, None)
            if len(self._signals) >= _MAX_SIGNALS:
                del self._signals[next(iter(self._signals))]
            self._signals[key] = document
            self._wake_locked()

    def close(self) -> None:
        """Sends what is left, for `close_timeout` seconds at most; later events are dropped."""
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + self._close_timeout
                self._changed.notify_all()
            worker, left = self._worker, self._deadline - time.monotonic()
        if worker is None or not worker.is_alive():
            self._run()  # a program that is shutting down may not be able to start a thread
            return
        worker.join(max(left, 0.0) + _GRACE)
        if worker.is_alive():
            log.warning("closed before the exporter had confirmed the last events")

    def _start_empty(self) -> None:
        # Re-entrant, because a signal handler or a finaliser may report in the midst of a report.
        self._changed = threading.Condition(threading.RLock())
        self._events: deque[bytes] = deque()
        self._signals: dict[bytes, bytes] = {}
        self._worker: threading.Thread | None = None
        self._failing = False

    def _wake_locked(self) -> None:
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._run, name="quota-reporter", daemon=True)
            self._worker.start()
        elif len(self._events) + len(self._signals) == 1 or len(self._events) == _BATCH:
            self._changed.notify_all()

    def _run(self) -> None:
        while self._gather():
            for post in self._posts():
                self._deliver(post)

    def _gather(self) -> bool:
        """Waits until there is something and a batch had time to grow; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._signals or self._closed)
            self._changed.wait_for(
                lambda: len(self._events) >= _BATCH or self._closed, self._interval
            )
            return bool(self._events or self._signals)

    def _posts(self) -> Iterator[_Post]:
        """What waits now. Later arrivals are left for the next round, to become a full batch."""
        with self._changed:
            batches = -(-len(self._events) // _BATCH)
            signals, self._signals = self._signals, {}
        for _ in range(batches):
            with self._changed:
                batch = [self._events.popleft() for _ in range(min(_BATCH, len(self._events)))]
            lines = b"\n".join(batch) + b"\n"
            yield _Post("/v1/usage", "application/x-ndjson", lines, len(batch))
        for document in signals.values():
            yield _Post("/v1/signals", "application/json", document, 0)

    def _deliver(self, post: _Post) -> None:
        for attempt in count():
            timeout = min(self._timeout, self._time_left())
            if timeout <= 0:
                self._give_up(post, "closed before it could be sent")
                return
            answer = self._exporter.post(post.path, post.body, post.content_type, post.key, timeout)
            if answer.accepted:
                self._delivered(answer)
                return
            if answer.final:
                self._give_up(post, f"refused with {answer.status} {answer.text}")
                return
            if not self._failing:
                self._failing = True
                log.warning("exporter unavailable, retrying: %s %s", answer.status, answer.text)
            if not self._pause(post, backoff(attempt, answer.retry_after)):
                self._give_up(post, f"still failing with {answer.status} {answer.text}")
                return

    def _pause(self, post: _Post, seconds: float) -> bool:
        """Waits before the next attempt; False when there will be none."""
        with self._changed:
            if not self._closed:
                # Closing cuts the wait short for one more attempt at once.
                self._changed.wait_for(lambda: self._closed, seconds)
                return time.monotonic() - post.made_at < _RETRY_FOR
        if seconds >= self._time_left():
            return False
        time.sleep(seconds)
        return True

    @property
    def _closed(self) -> bool:
        return self._deadline is not None

    def _time_left(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def _delivered(self, answer: PushResponse) -> None:
        if self._failing:
            self._failing = False
            log.info("exporter available again")
        try:
            rejected = len(msgspec.json.decode(answer.text, type=_Answered).rejected)
        except msgspec.DecodeError:
            return
        if rejected:
            with self._changed:
                self.rejected += rejected
            log.warning("exporter rejected %d events of a batch", rejected)

    def _give_up(self, post: _Post, why: str) -> None:
        with self._changed:
            self.dropped += post.events
        log.warning("dropped %d events for %s: %s", post.events, post.path, why)


_outboxes: weakref.WeakSet[Outbox] = weakref.WeakSet()


def _after_fork() -> None:
    for outbox in _outboxes:
        outbox._start_empty()


os.register_at_fork(after_in_child=_after_fork)
