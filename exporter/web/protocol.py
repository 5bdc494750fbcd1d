"""uvicorn's HTTP protocol with a short way in for small pushes.

Going through ASGI costs a task, an event and several dictionaries per request, three times what
the push itself costs. `POST /v1/usage` with a plain body of known, small size skips that: its
answer is encode_reply when the store's callback comes. Everything else takes the ordinary way.

A client sends the same head again and again. One that took the short way is lookup from then
on and not parsed, which saves half of what reading a small push costs.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.web.header_cache import HeaderCache, PushHeaders, read_push_headers
from exporter.web.reply import encode_reply, failure

if TYPE_CHECKING:
    from exporter.intake.ingest import Outcome
    from exporter.web.site import Site

SMALL = 256 * 1024
"""Bytes of body that are taken the short way."""

MAX_HEAD = 64 * 1024
"""Bytes of a request before its body; a little more may pass where they come all at once."""

_HEAD_TOO_LARGE = encode_reply(failure(431, "expected a shorter head"), b"connection: close\r\n")

_ROUTE = b"/v1/usage"


class _ShortCycle:
    """Stands where uvicorn keeps the request being answered, so that its order of answers, its
    keep-alive timer and its shutdown hold for the short way too."""

    __slots__ = (
        "body",
        "disconnected",
        "head",
        "keep_alive",
        "message_event",
        "more_body",
        "response_complete",
    )

    def __init__(self, head: PushHeaders) -> None:
        self.body = b""
        self.head = head
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
        header_cache: those that are lookup, whichever connection they come on.
        idle_since: event-loop time of the last answer on the short way, None once more came.
        reading_since: event-loop time since which a request is awaited or read, None meanwhile.
    """

    site: ClassVar["Site"]
    header_cache: ClassVar[HeaderCache]
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
            head = self.header_cache.lookup(data)
            if head is not None and self._may_be_short(head):
                self._head = 0
                self.reading_since = None
                short = self.cycle = _ShortCycle(head)  # type: ignore[assignment] # see _ShortCycle
                short.body = data[len(data) - head.size :]
                self._enter(short)
                return
            self._short = None  # a blank line may come before the next, and is nobody's head
        if self.reading_since is None and (self.cycle is None or self.cycle.response_complete):
            self.reading_since = self.loop.time()
        self._head += len(data)
        super().data_received(data)
        if boundary and self._boundary and self._short is not None:
            self.header_cache.remember(data, self._short.head)
        if self._head > MAX_HEAD and not self.transport.is_closing():
            self._refuse(_HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(encode_reply(failure(400, msg), b"connection: close\r\n"))

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
        head = read_push_headers(self.headers)
        if head is None or not self._may_be_short(head):
            return False
        self._short = self.cycle = _ShortCycle(head)  # type: ignore[assignment] # see _ShortCycle
        return True

    def _may_be_short(self, head: PushHeaders) -> bool:
        """Whether a push may be taken here and now, whatever else its head says."""
        cycle, site = self.cycle, self.site
        return (
            (cycle is None or cycle.response_complete)
            and head.size <= min(SMALL, site.body_bytes)
            and len(self.connections) <= site.connections
            and not self.flow.write_paused  # the client takes its answers
            and site.admits(head.authorization)
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

        def send(outcome: "Outcome") -> None:
            short.response_complete = True
            if not short.disconnected:
                self.transport.write(self.site.encode_outcome(outcome))
                if not short.keep_alive:
                    self.transport.close()
                elif self.pipeline:
                    self.on_response_complete()
                else:
                    # A timer for every answer, as uvicorn sets it, costs more than the answer.
                    self.idle_since = self.loop.time()

        head, address = short.head, self.client[0] if self.client else ""
        # Only keys need to know whose they are, and finding out takes its time.
        client = self.site.client(address, head.authorization if head.key else None)
        self.site.small_pushes.push(short.body, client, head.key, send)

    def close_if_slow(self, now: float, patience: float) -> None:
        """Close the connection when a request has been awaited for more than `patience` seconds,
        or after an answer nothing more has come for as long as connections are kept alive."""
        slow = self.reading_since is not None and now - self.reading_since > patience
        idle = self.idle_since is not None and now - self.idle_since > self.timeout_keep_alive
        if slow or idle:
            self.transport.close()


def serving(site: "Site") -> type[PushProtocol]:
    """The protocol that serves `site`."""
    return type("SitePushProtocol", (PushProtocol,), {"site": site, "header_cache": HeaderCache()})
