"""uvicorn's HTTP protocol, one request of a connection at a time.

uvicorn parses whatever has arrived, and a single read can carry ten thousand pipelined requests.
Here the next request is given to the parser once the one before it is answered and the answer is
on its way, and until then it is bytes, which are counted and bounded. A client that does not read
its answers is not read from either.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.web.reply import RETRY_AFTER, encode_reply, failure
from exporter.web.request_metrics import NO_ROUTE
from exporter.web.stream import STREAM
from exporter.web.turns import Turns

if TYPE_CHECKING:
    from exporter.web.site import Site

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body, or between two pieces of one in chunks."""

MAX_PIECE = 64 * 1024
"""Bytes that the parser is given at a time."""

MAX_FRAMING = 2 * 1024
"""The same of a head, or of a body in chunks, of which every few bytes take a call."""

MAX_PIECES = 64
"""Pieces parsed before the other connections have their turn."""

MIN_PROGRESS = 64 * 1024
"""Bytes of an answer that a client must take within `limits.request_timeout`."""

BLANK_LINE = b"\r\n\r\n"
_HTTP_2 = "PRI/Upgrade"
"""What the parser says of how a client begins that takes HTTP/2 for granted, such as gRPC's."""
CLOSE = b"connection: close\r\n"
_HEAD_TOO_LARGE = encode_reply(failure(431, "expected a shorter head"), CLOSE)
_NOT_HTTP = encode_reply(failure(400, "Invalid HTTP request received."), CLOSE)
_OVERLOADED = encode_reply(failure(429, "other requests hold too many bytes", RETRY_AFTER), CLOSE)


class _Flow(FlowControl):
    """uvicorn's flow control, where a pause is the protocol's affair and not the transport's."""

    def __init__(self, protocol: "ServerProtocol") -> None:
        super().__init__(protocol.transport)
        self._protocol = protocol

    def pause_reading(self) -> None:
        """The application has enough of the body for now."""
        self.read_paused = True

    def resume_reading(self) -> None:
        """The application wants more of it."""
        if self.read_paused:
            self.read_paused = False
            self._protocol.read_on_soon()


class ServerProtocol(HttpToolsProtocol):
    """Serves one request of a connection at a time, and never waits for ever for its client.

    Attributes:
        site: what serves the requests; set by `serving`.
        turns: where connections wait that have much to be parsed; set by `serving`.
        opened: called when the connection is made, after TLS is agreed on.
        answered: whether a request was answered on this connection.
        idle_since: event-loop time of the last answer, None once more came.
        reading_since: event-loop time since which a request is awaited or read, None meanwhile.
        blocked_since: event-loop time since which the client does not take its answer, or None.
    """

    site: ClassVar["Site"]
    turns: ClassVar[Turns]
    opened: Callable[["ServerProtocol"], None] = staticmethod(lambda _: None)
    answered = False
    reading_since: float | None = None
    idle_since: float | None = None
    blocked_since: float | None = None
    _closing_since: float | None = None
    _unsent = 0  # bytes the client had still to take when `blocked_since` was set
    _boundary = True  # the parser awaits the first byte of a request
    _head = 0  # bytes that came since a head was complete, those of bodies left out
    _length = 0  # bytes of the body, as the head says
    _left = 0  # bytes to come of a body of known size
    _unparsed_body = False  # after an upgrade the parser takes a body for the next request
    _tail = b""  # what the parser was given last, up to the beginning of a blank line
    _unread = b""  # what came and is not parsed yet: from `_at` on
    _at = 0
    _held = 0  # bytes that `site.outstanding` holds for this connection
    _paused = False  # the transport does not read
    _eof = False  # the client sends no more
    _scheduled = False  # `_read_on` will be called

    def connection_made(self, transport: Any) -> None:
        """A client has connected, and owes a request."""
        super().connection_made(transport)
        self.opened(self)
        self.flow = _Flow(self)
        self.reading_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        self._unread, self._at = b"", 0
        self.site.outstanding.release(self._held)
        self._held = 0

    def data_received(self, data: bytes) -> None:
        """Something came."""
        if self._unread:
            self._unread, self._at = self._unread[self._at :] + data, 0
        else:
            self._unread = data
        if self.idle_since is not None:
            self.idle_since, self.reading_since = None, self.loop.time()
        if self._in_framing():
            self.read_on_soon()
            self._settle()
        else:
            self._read_on()

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn never keeps it open
        """The client sends no more; whether to keep the connection, to answer what has come."""
        self._eof = True
        if self.scheme == "https":  # Python's TLS cannot end one direction alone
            return False
        if self._answering():  # a stream of events ends with its reader
            return not getattr(self.cycle, "chunked_encoding", False)
        return bool(self._unread)

    def _answering(self) -> bool:
        """Whether a whole request is in hand."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _ready(self) -> bool:
        """Whether more may be parsed."""
        flow, cycle = self.flow, self.cycle
        if flow.write_paused or flow.read_paused:
            return False
        return cycle is None or cycle.response_complete or cycle.more_body

    # -- parsing --

    def read_on_soon(self) -> None:
        """Parse what is unread in the next turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self.turns.wait(self._read_on)

    def _read_on(self, *, unknown: bool = False) -> None:
        """Parse what is unread as far as it may be; `unknown` is what cannot be recognised."""
        self._scheduled = False
        if self.parser is None:  # the connection was lost meanwhile
            return
        if self.transport.is_closing():
            self._unread, self._at = b"", 0
        for _ in range(MAX_PIECES):
            if self._at == len(self._unread) or not self._ready():
                break
            if self._boundary and not unknown:
                taken = self._recognise(self._unread, self._at)
                if taken:
                    self._at += taken
                    continue
            unknown = False
            end = self._piece_end()
            piece, self._at = self._unread[self._at : end], end
            self._parse(piece)
            if self._in_framing() and self._at < len(self._unread):
                self.read_on_soon()
                break
        else:
            self.read_on_soon()
        if self._at == len(self._unread):
            self._unread, self._at = b"", 0
            if self._eof and not self._answering():
                self.transport.close()
        self._settle()

    def _in_framing(self) -> bool:
        """Whether a head, or a body in chunks, is read."""
        return not self._boundary and not self._left

    def _settle(self) -> None:
        """Account for what is in hand, and read no more while something is unread."""
        cycle, size = self.cycle, len(self._unread)
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            size += len(cycle.body)
        if size > self._held:
            if not self.site.outstanding.hold(size - self._held, self._held):
                self._refuse(_OVERLOADED)
                return
            self._held = size
        elif size < self._held:
            self.site.outstanding.release(self._held - size)
            self._held = size
        if bool(self._unread) != self._paused and not self.transport.is_closing():
            self._paused = not self._paused
            if self._paused:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _recognise(self, data: bytes, at: int) -> int:
        """Serve the request that begins at `at` without the parser, and return its size; 0 when
        that cannot be done."""
        return 0

    def _piece_end(self) -> int:
        """Where to stop, so that no more than one request is parsed.

        A head ends with a blank line, and so does a body in chunks: with or without trailers.
        """
        data, at = self._unread, self._at
        if self._left:
            return min(len(data), at + MAX_PIECE, at + self._left)
        most = min(len(data), at + MAX_FRAMING)
        if self._tail:
            before = len(self._tail)
            found = (self._tail + data[at : at + 3]).find(BLANK_LINE)
            if found >= 0:
                return at + found + len(BLANK_LINE) - before
        found = data.find(BLANK_LINE, at, most)
        return most if found < 0 else found + len(BLANK_LINE)

    def _parse(self, piece: bytes) -> None:
        if self._left:
            self._left -= len(piece)
            if self._unparsed_body:
                self.on_body(piece)
                if not self._left:
                    self._unparsed_body = False
                    self.on_message_complete()
                return
        else:
            self._head += len(piece)
            self._tail = b"" if piece.endswith(BLANK_LINE) else (self._tail + piece)[-3:]
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # to what nobody offers
            pass
        except httptools.HttpParserError as error:
            if _HTTP_2 in str(error):
                self.site.refuse_http_2(self.client[0] if self.client else "")
            self._refuse(_NOT_HTTP)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse(_HEAD_TOO_LARGE)

    def _refuse(self, answer: bytes) -> None:
        """Close the connection, once the answer to a whole request is given."""
        self._unread, self._at = b"", 0
        cycle = self.cycle
        if self._answering():
            cycle.keep_alive = False
            return
        if cycle is None or cycle.response_complete or not getattr(cycle, "response_started", 0):
            self.transport.write(answer)
            self.site.requests.of(NO_ROUTE, int(answer[9:12])).observe(0.0)
        self.transport.close()

    def on_message_begin(self) -> None:
        """The first line of a request is there."""
        self._boundary = False
        self.idle_since, self.reading_since = None, self.loop.time()
        self._length = 0
        self._prepare()

    def _prepare(self) -> None:
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, which the parser found to be well-formed."""
        name = name.lower()
        if name == b"content-length":
            self._length = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head of a request is there."""
        self._head, self._left = 0, self._length
        # As ASGI has it, the name of an extension leads to whatever the extension says.
        self.scope["extensions"] = {STREAM: cast(Any, self)}
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._head = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is read."""
        if self._left and self.parser.should_upgrade():
            self._unparsed_body = True  # nothing is upgraded here, so there is one
            return
        self._boundary = True
        self.reading_since = None
        if self.cycle.response_complete:  # refused before its body had come
            self.idle_since = self.loop.time()
        super().on_message_complete()

    # -- answering --

    def on_response_complete(self) -> None:
        """A request is answered."""
        self.server_state.total_requests += 1
        self.answered = True
        if self.transport.is_closing():
            return
        if self.cycle.more_body and self.expect_100_continue:
            # Refused, the client need not send the body: what comes next could be either.
            self.transport.close()
            return
        self.flow.resume_reading()
        if self._boundary:
            self.reading_since, self.idle_since = None, self.loop.time()
        if self._unread or self._eof:
            self.read_on_soon()

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        self.blocked_since = self.loop.time()
        self._unsent = self.transport.get_write_buffer_size()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client has taken most of it."""
        self.blocked_since = None
        super().resume_writing()
        self.read_on_soon()

    def write_part(self, framed: bytes) -> bool:
        """See `exporter.web.stream.Stream`."""
        if self.flow.write_paused or self.transport.is_closing():
            return False
        self.transport.write(framed)
        return True

    async def drained(self) -> None:
        """See `exporter.web.stream.Stream`."""
        await self.flow.drain()

    # -- patience --

    def waiting_since(self) -> float | None:
        """Event-loop time since which the client is awaited; None while it waits for us."""
        if self._closing_since is not None:
            return self._closing_since
        if self.blocked_since is not None:
            return self.blocked_since
        return self.reading_since if self.idle_since is None else self.idle_since

    @property
    def holds_bytes(self) -> bool:
        """Whether a part of a request is in hand, or of an answer."""
        return bool(self._held) or self.blocked_since is not None or not self._boundary

    def close_if_slow(self, now: float, patience: float) -> None:
        """Close the connection when its client is awaited for too long.

        It has `patience` seconds to send a request, and as many for every MIN_PROGRESS bytes of
        an answer; after an answer the next request has `timeout_keep_alive`.
        """
        transport = self.transport
        if transport.is_closing():  # it may wait for its answers to be taken, for ever
            if self._closing_since is None:
                self._closing_since = now
            elif now - self._closing_since > patience:
                transport.abort()
        elif self.blocked_since is not None:
            if now - self.blocked_since > patience:
                unsent = transport.get_write_buffer_size()
                if self._unsent - unsent < MIN_PROGRESS:
                    transport.abort()
                self.blocked_since, self._unsent = now, unsent
        elif self.idle_since is not None:
            if now - self.idle_since > self.timeout_keep_alive:
                transport.close()
        elif self.reading_since is not None and now - self.reading_since > patience:
            transport.close()

    def shutdown(self) -> None:
        """The server ends: answer what is in hand, and hang up."""
        self._unread, self._at = b"", 0
        if self.flow.write_paused and not self._answering():
            self.transport.abort()
        else:
            super().shutdown()


def serving(site: "Site") -> type[ServerProtocol]:
    """The protocol that serves `site`."""
    return type("SiteProtocol", (ServerProtocol,), {"site": site, "turns": Turns()})
