"""Accepts connections, never more than are allowed, and closes those whose clients dawdle."""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable

from uvicorn.server import ServerState

from exporter.web.protocol import CLOSE, ServerProtocol
from exporter.web.reply import RETRY_AFTER, encode_reply, failure
from exporter.web.request_metrics import NO_ROUTE
from exporter.web.site import Site

log = logging.getLogger("exporter")

MIN_TURN = 5.0
"""Seconds a client has to itself even when others need the bytes that it holds."""

_ACCEPTED_AT_ONCE = 64
_PAUSE = 1.0  # seconds without accepting, when the process or the system has no file left
_NO_ROOM = encode_reply(failure(503, "too many connections are open", RETRY_AFTER), CLOSE)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Waiting = tuple[float, int, ServerProtocol]
"""Since when it waits for its client, a number, the connection."""


class Connections:
    """The listening sockets and every connection, from the moment it is accepted.

    TLS handshakes count, and so do requests that go on although their client has left. When no
    more fit, a newcomer takes the place of the connection that has waited longest for its client,
    those that were never answered first. When all are being answered the newcomer is refused.

    To uvicorn this is one of its servers.
    """

    def __init__(
        self,
        site: Site,
        sockets: Iterable[socket.socket],
        make: Callable[[], ServerProtocol],
        state: ServerState,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._site = site
        self._sockets = list(sockets)
        self._make = make
        self._state = state
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._opening: dict[ServerProtocol, tuple[float, asyncio.Task[None]]] = {}
        self._waiting: deque[Waiting] = deque()
        site.outstanding.reclaim = self.reclaim
        self._listen()

    def _listen(self) -> None:
        for listener in self._sockets:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Accept no more."""
        for listener in self._sockets:
            self._loop.remove_reader(listener)
        self._sockets = []
        for _, opening in self._opening.values():
            opening.cancel()

    async def wait_closed(self) -> None:
        """Wait until no handshake is under way."""
        await asyncio.gather(*(task for _, task in self._opening.values()), return_exceptions=True)

    def __len__(self) -> int:
        state = self._state
        return len(self._opening) + max(len(state.connections), len(state.tasks))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(error)
                return
            accepted.setblocking(False)
            if len(self) < self._site.connections or self._make_room():
                self._open(accepted)
            else:
                self._refuse(accepted)

    def _pause(self, error: OSError) -> None:
        """Leave newcomers to the system until there are files again."""
        log.error("cannot accept connections", extra={"fields": {"error": error.strerror}})
        self._make_room()
        for listener in self._sockets:
            self._loop.remove_reader(listener)
        self._loop.call_later(_PAUSE, self._listen)

    def _open(self, accepted: socket.socket) -> None:
        protocol = self._make()
        protocol.opened = self._opened
        opening = self._loop.create_task(self._handshake(protocol, accepted))
        self._opening[protocol] = self._loop.time(), opening

    def _opened(self, protocol: ServerProtocol) -> None:
        self._opening.pop(protocol, None)

    async def _handshake(self, protocol: ServerProtocol, accepted: socket.socket) -> None:
        patience = self._site.request_timeout if self._tls else None
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=patience,
            )
        except (OSError, asyncio.CancelledError):  # it left, has no certificate, or was too slow
            # A transport that has not begun its handshake yet would begin it, unless this ends it.
            with contextlib.suppress(OSError):
                accepted.shutdown(socket.SHUT_RDWR)
            accepted.close()
        finally:
            self._opened(protocol)

    def _refuse(self, accepted: socket.socket) -> None:
        self._site.requests.of(NO_ROUTE, 503).observe(0.0)
        with contextlib.suppress(OSError):
            if self._tls is None:
                accepted.send(_NO_ROOM)
        accepted.close()

    # -- making room --

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for its client; False if none waits."""
        return self._close_first() or self._close_first()

    def _close_first(self) -> bool:
        """Close the first of the queue that still waits; False when it comes to its end."""
        if not self._waiting:
            self._waiting.extend(self._longest_waiting())
        while self._waiting:
            since, _, protocol = self._waiting.popleft()
            if protocol in self._opening:
                self._opening.pop(protocol)[1].cancel()
                return True
            # It may have gone, or sent something, since it was put into the queue.
            if protocol in self._state.connections and protocol.waiting_since() == since:
                self._state.connections.discard(protocol)
                protocol.transport.abort()
                return True
        return False

    def _longest_waiting(self) -> list[Waiting]:
        """Those that were never answered, or all others when there are none."""
        new = [(since, protocol) for protocol, (since, _) in self._opening.items()]
        old: list[tuple[float, ServerProtocol]] = []
        for protocol in self._established():
            since = protocol.waiting_since()
            if since is not None:
                (old if protocol.answered else new).append((since, protocol))
        # The number keeps sorting from comparing connections.
        return sorted(
            (since, number, protocol) for number, (since, protocol) in enumerate(new or old)
        )

    def _established(self) -> list[ServerProtocol]:
        return [one for one in self._state.connections if isinstance(one, ServerProtocol)]

    def reclaim(self) -> None:
        """Close the connection that has waited longest for a client in the middle of a request or
        an answer, so that its bytes are free."""
        since, slowest = self._loop.time() - MIN_TURN, None
        for protocol in self._established():
            waiting = protocol.waiting_since()
            if protocol.holds_bytes and waiting is not None and waiting < since:
                since, slowest = waiting, protocol
        if slowest is not None:
            slowest.transport.abort()

    def close_slow(self) -> None:
        """Close connections whose clients are too slow; to be called every few seconds."""
        now, patience = self._loop.time(), self._site.request_timeout
        for protocol in self._established():
            protocol.close_if_slow(now, patience)
