"""The thread that keeps a copy of the exporter's states."""

import contextlib
import http.client
import logging
import os
import random
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.error import HTTPError

from exporter.client.delivery import Exporter
from exporter.client.event_stream import MAX_EVENT, EventStream, ServerEvent
from exporter.client.scopes import Entry, ScopeTable, decode_entry, decode_whole

_WATCH = "/v1/watch"
_STATES = "/v1/availability"
_HEARTBEATS_WITHIN = 45.0
"""Seconds without a byte after which a stream counts as dead: three heartbeats' worth."""
_POLL_FOR = 60.0
"""Seconds to poll before the stream is tried again."""
_MAX_PAUSE = 5.0
_FIRST_PAUSE = 0.2
_random = random.SystemRandom()  # forked children must not draw the same jitter

log = logging.getLogger("exporter.client")

Listener = Callable[[], None]


class _NoStream(Exception):
    """The exporter, or something before it, does not serve events."""


class Watcher:
    """Keeps `table` like the exporter's, by its event stream, else by polling.

    Safe to use from any thread. After a fork the child starts empty, with a thread of its own from
    its first question on.

    Args:
        poll_interval: seconds between two polls.
        timeout: seconds for each wait on the network.
        max_age: seconds for which the table may be used after the exporter was last heard.

    Attributes:
        table: the scopes as they are known.
        usable_until: `time.monotonic()` after which `table` must not be used; -inf before the
            first was had.
        mode: `watch` or `poll`, whichever brought the table; empty while neither works.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        tls: ssl.SSLContext | None,
        *,
        poll_interval: float,
        timeout: float,
        max_age: float,
    ) -> None:
        self._exporter = Exporter(url, token, tls, self._connected)
        self._poll_interval = poll_interval
        self._timeout = timeout
        self._max_age = max_age
        self._start_empty()
        _watchers.add(self)

    def _start_empty(self) -> None:
        self.table = ScopeTable()
        self.usable_until = float("-inf")
        self.mode = ""
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self._listeners: list[Listener] = []
        self._etag = ""
        self._failing = False

    def ensure_started(self) -> None:
        """Start the thread, where there is none yet."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="quota-watch", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread; the table is dropped."""
        self._closing.set()
        with self._lock:
            thread, connection = self._thread, self._socket
            if connection is not None:
                with contextlib.suppress(OSError):
                    # Ends a read that is under way. A TLS socket's own method would first take
                    # away what that read uses.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._timeout)
        self._forget()

    @property
    def age(self) -> float | None:
        """Seconds since the exporter was last heard; None when there is no table."""
        heard_at = self.usable_until - self._max_age
        return None if heard_at == float("-inf") else time.monotonic() - heard_at

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Call `listener`, which must not block, after every change of the table."""
        with self._lock:
            self._listeners.append(listener)
        try:
            yield
        finally:
            with self._lock:
                self._listeners.remove(listener)

    # -- the thread --

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            before = self.usable_until
            self._follow()
            self.mode = ""
            failures = 0 if self.usable_until > before else failures + 1
            self._pause(failures)

    def _follow(self) -> None:
        """Watch, or poll where that does not work, until it fails."""
        try:
            try:
                self._watch()
            except _NoStream as reason:
                log.debug("polling, as the exporter cannot be watched: %s", reason)
                self._poll_for_a_while()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self._failing and not self._closing.is_set():
                self._failing = True
                log.warning(
                    "no states from the exporter, all providers count as available %g s after the"
                    " last: %s: %s",
                    self._max_age,
                    type(error).__name__,
                    error,
                )

    def _watch(self) -> None:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        try:
            response = self._exporter.get(_WATCH, headers, self._timeout)
        except HTTPError as refusal:
            with refusal:
                if refusal.code in (401, 403):
                    raise
                raise _NoStream(f"{refusal.code} {refusal.reason}") from None
        with response:
            if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                raise _NoStream("it answers with something else")
            stream, table = EventStream(), None
            try:
                piece = response.read1(65536)  # the whole state comes at once
            except TimeoutError:
                raise _NoStream("something before it holds events back") from None
            self._wait_for_heartbeats()
            while piece and not self._closing.is_set():
                table = _after(list(stream.feed(piece)), table)
                if table is not None:
                    self._heard("watch", table)
                piece = response.read1(65536)

    def _poll_for_a_while(self) -> None:
        self._etag = ""
        end = time.monotonic() + _POLL_FOR
        while not self._closing.is_set() and time.monotonic() < end:
            self._poll()
            self._closing.wait(self._poll_interval)

    def _poll(self) -> None:
        headers = {"Accept": "application/json"}
        if self._etag:
            headers["If-None-Match"] = self._etag
        try:
            with self._exporter.get(_STATES, headers, self._timeout) as response:
                body = response.read(MAX_EVENT + 1)
                if len(body) > MAX_EVENT:
                    raise ValueError(f"an answer of more than {MAX_EVENT} bytes")
                table = ScopeTable(decode_whole(body))
                self._etag = response.headers.get("ETag", "")
        except HTTPError as answer:
            with answer:
                if answer.code != 304:
                    raise
            table = self.table
        self._heard("poll", table)

    def _heard(self, mode: str, table: ScopeTable) -> None:
        if self._closing.is_set():
            return
        if self._failing:
            self._failing = False
            log.info("states from the exporter again")
        self.mode = mode
        changed = table is not self.table or time.monotonic() > self.usable_until
        self.table = table
        self.usable_until = time.monotonic() + self._max_age
        if changed:
            with self._lock:
                listeners = list(self._listeners)
            for listener in listeners:
                listener()

    def _pause(self, failures: int) -> None:
        """Exponential with full jitter, so that watchers do not return all at once."""
        longest = min(_MAX_PAUSE, _FIRST_PAUSE * 2.0 ** min(failures, 16))
        self._closing.wait(_random.uniform(0.0, longest))

    def _connected(self, connection: socket.socket) -> None:
        with self._lock:
            if self._closing.is_set():
                raise OSError("closed")
            self._socket = connection

    def _wait_for_heartbeats(self) -> None:
        with self._lock:
            if self._socket is not None:
                self._socket.settimeout(_HEARTBEATS_WITHIN)

    def _forget(self) -> None:
        self.table, self.usable_until = ScopeTable(), float("-inf")


def _after(events: list[ServerEvent], table: ScopeTable | None) -> ScopeTable | None:
    """The table after `events`; None until the whole state has come."""
    changes: list[Entry] = []
    for event in events:
        if event.name == "state":
            table = ScopeTable(decode_whole(event.data))
            changes.clear()
        elif event.name == "change":
            changes.append(decode_entry(event.data))
    return table.with_changes(changes) if table is not None and changes else table


_watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()


def _after_fork() -> None:
    for watcher in _watchers:
        watcher._start_empty()


os.register_at_fork(after_in_child=_after_fork)
