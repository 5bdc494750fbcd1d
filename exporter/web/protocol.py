"""uvicorn's HTTP protocol with a short way in for small pushes.

Going through ASGI costs a task, an event and several dictionaries per request, three times what
the push itself costs. `POST /v1/usage` with a plain body of known, small size skips that: its
answer is written when the store's callback comes. Everything else takes the ordinary way.

A client sends the same head again and again. One that took the short way is recognised from then
on and not parsed, which saves half of what reading a small push costs.
"""

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.web.door import MAX_KEY
from exporter.web.reply import Reply, failure, written

if TYPE_CHECKING:
    from exporter.web.site import Site

SMALL = 256 * 1024
"""Bytes of body that are taken the short way."""

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body; a little more may pass where they come all at once."""

MOST_HEADS, LONGEST_HEAD = 1_000, 1024
"""Heads that are recognised at a time, and their bytes."""

_HEAD_TOO_LARGE = written(failure(431, "expected a shorter head"), b"connection: close\r\n")

_PLAIN = frozenset(
    {
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"connection",
        b"content-length",
        b"content-type",
        b"authorization",
        b"idempotency-key",
        b"date",
        b"traceparent",
        b"tracestate",
    }
)
"""Headers under which a push is an ordinary one; with any other it goes the ordinary way."""

_TYPES = (b"application/json", b"application/x-ndjson")
_ROUTE = b"/v1/usage"
_END = b"\r\n\r\n"


class _Head(NamedTuple):
    """What the head of a push said.

    Attributes:
        size: bytes of the body.
        authorization: the header of that name.
    """

    size: int
    authorization: bytes | None


class _ShortCycle:
    """Stands where uvicorn keeps the request being answered, so that its order of answers, its
    keep-alive timer and its shutdown hold for the short way too."""

    __slots__ = (
        "authorization",
        "body",
        "disconnected",
        "keep_alive",
        "key",
        "message_event",
        "more_body",
        "response_complete",
    )

    def __init__(self, key: str, authorization: bytes | None) -> None:
        self.body = b""
        self.authorization = authorization
        self.key = key
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False
        self.message_event = _NoEvent
        self.more_body = True


class _NoEvent:
    """Nobody waits for the body of a short request."""

    @staticmethod
    def set() -> None:
        """Do nothing."""


class PushProtocol(HttpToolsProtocol):
    """Takes the short way where it can; closes connections that are slow to send a request.

    Attributes:
        site: what serves the requests; set by `serving`.
        heads: those that are recognised, whichever connection they come on.
        idle_since: event-loop time of the last answer on the short way, None once more came.
        reading_since: event-loop time since which a request is awaited or read, None meanwhile.
    """

    site: ClassVar["Site"]
    heads: ClassVar[dict[bytes, _Head]]
    reading_since: float | None
    idle_since: float | None = None
    _short: _ShortCycle | None = None
    _boundary = True  # the parser awaits the first byte of a request
    _head = 0  # bytes that came since a head was complete, those of bodies left out

    def connection_made(self, transport: Any) -> None:
        """A client has connected, and owes a request."""
        super().connection_made(transport)
        self.limit_concurrency = self.site.connections + 1  # uvicorn refuses from there on
        self.reading_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self.idle_since = None
        boundary = self._boundary
        if boundary:
            if self._recognises(data):
                return
            self._short = None  # a blank line may come before the next, and is nobody's head
        if self.reading_since is None and (self.cycle is None or self.cycle.response_complete):
            self.reading_since = self.loop.time()
        self._head += len(data)
        super().data_received(data)
        if boundary and self._boundary:
            self._learn(data)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse(_HEAD_TOO_LARGE)

    def _recognises(self, data: bytes) -> bool:
        """Take a push whose head has been read before, if it is just that."""
        end = data.find(_END) + len(_END)
        head = self.heads.get(data[:end])
        if head is None or len(data) - end != head.size or not self._may_be_short(*head):
            return False
        self.reading_since = None
        self._head = 0
        short = self.cycle = _ShortCycle("", head.authorization)  # type: ignore[assignment] # see _ShortCycle
        short.body = data[end:]
        self._enter(short)
        return True

    def _learn(self, data: bytes) -> None:
        """Keep the head of a push that came as a whole; one with a key does not come again."""
        short, end = self._short, data.find(_END) + len(_END)
        if short is not None and not short.key and end <= LONGEST_HEAD and data[end:] == short.body:
            if len(self.heads) >= MOST_HEADS:
                self.heads.clear()
            self.heads[data[:end]] = _Head(len(short.body), short.authorization)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(written(failure(400, msg), b"connection: close\r\n"))

    def _refuse(self, answer: bytes) -> None:
        """Close the connection, once the answers to all whole requests are given."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
        else:
            self.transport.write(answer)
            self.transport.close()

    def on_message_begin(self) -> None:
        """The first line of a request is there."""
        self._boundary = False
        # What uvicorn prepares for ASGI waits until it is needed.
        self.reading_since = self.loop.time()
        self._short = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Choose the way."""
        self._head = 0
        if self.url == _ROUTE and self._is_short():
            return
        url, headers, expected = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expected
        self.headers.extend(headers)
        super().on_headers_complete()

    def _is_short(self) -> bool:
        if (
            self.parser.get_method() != b"POST"
            or self.parser.get_http_version() != "1.1"
            or not self.parser.should_keep_alive()
        ):
            return False
        size, kind, key, authorization = -1, b"", "", None
        for name, value in self.headers:
            if name not in _PLAIN:
                return False
            if name == b"content-length":
                size = int(value)
            elif name == b"content-type":
                kind = value
            elif name == b"idempotency-key":
                key = value.decode("latin-1")
            elif name == b"authorization":
                authorization = value
        if len(key) > MAX_KEY or kind.partition(b";")[0] not in _TYPES:
            return False
        if not self._may_be_short(size, authorization):
            return False
        self._short = _ShortCycle(key, authorization)
        self.cycle = self._short  # type: ignore[assignment] # see _ShortCycle
        return True

    def _may_be_short(self, size: int, authorization: bytes | None) -> bool:
        """Whether a push may be taken here and now, whatever else its head says."""
        cycle, site = self.cycle, self.site
        return (
            (cycle is None or cycle.response_complete)
            and 0 <= size <= min(SMALL, site.body_bytes)
            and len(self.connections) <= site.connections
            and not self.flow.write_paused  # the client takes its answers
            and site.admits(authorization)
        )

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._head = 0
        if self._short is not None:
            self._short.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is read."""
        self.reading_since = None
        short = self._short
        if short is None:
            super().on_message_complete()
            return

        # After any other request the parser may want something else, such as an upgrade.
        self._boundary = True
        self._enter(short)

    def _enter(self, short: _ShortCycle) -> None:
        """Pass on a push that is read."""
        short.more_body = False

        def send(reply: Reply) -> None:
            short.response_complete = True
            if not short.disconnected:
                self.transport.write(self.site.written(reply))
                if not short.keep_alive:
                    self.transport.close()
                elif self.pipeline:
                    self.on_response_complete()
                else:
                    # A timer for every answer, as uvicorn sets it, costs more than the answer.
                    self.idle_since = self.loop.time()

        if short.key:
            self.site.door.usage(short.body, short.key, send)
        else:
            self.site.door.single(short.body, send)

    def close_if_slow(self, now: float, patience: float) -> None:
        """Close the connection when a request has been awaited for more than `patience` seconds,
        or after an answer nothing more has come for as long as connections are kept alive."""
        slow = self.reading_since is not None and now - self.reading_since > patience
        idle = self.idle_since is not None and now - self.idle_since > self.timeout_keep_alive
        if slow or idle:
            self.transport.close()


def serving(site: "Site") -> type[PushProtocol]:
    """The protocol that serves `site`."""
    return type("SitePushProtocol", (PushProtocol,), {"site": site, "heads": {}})
