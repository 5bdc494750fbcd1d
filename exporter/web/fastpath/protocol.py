"""The HTTP protocol with a short way for small pushes and for lookups.

`POST /v1/usage` with a plain body of known, small size goes to `Ingest` at once, and its answer is
written when the store's callback comes. A request without a body that `Site.lookup` knows the
answer of is answered at once. Everything else takes the ordinary way.

A client sends the same head again and again. One that took the short way is recognised from then
on and not parsed, which saves half of what reading a small push costs.
"""

from time import monotonic
from typing import Any, ClassVar

from exporter.intake.format import Client
from exporter.intake.outcome import Outcome
from exporter.web.fastpath.header_cache import (
    HeaderCache,
    PushHeaders,
    read_lookup_headers,
    read_push_headers,
)
from exporter.web.fastpath.pushes import SmallPushes
from exporter.web.lookups import Found, LookupHeaders
from exporter.web.protocol import BLANK_LINE, ServerProtocol
from exporter.web.site import Site
from exporter.web.turns import Turns

SMALL = 256 * 1024
"""Bytes of body that are taken the short way."""

_PUSH = "/v1/usage"
_VERSION = b" HTTP/1.1"
_END = len(BLANK_LINE)


class _NoEvent:
    """Nobody waits for the body of a short request."""

    @staticmethod
    def set() -> None:
        """Do nothing."""


class _ShortCycle:
    """Stands where uvicorn keeps the request being answered, so that its order of answers and
    its shutdown hold for the short way too."""

    __slots__ = ("body", "disconnected", "keep_alive", "more_body", "response_complete")
    message_event = _NoEvent

    def __init__(self) -> None:
        self.body = b""
        self.disconnected = False
        self.keep_alive = True
        self.more_body = True
        self.response_complete = False


class FastProtocol(ServerProtocol):
    """Takes the short way where it can.

    Attributes:
        pushes: where they are taken in.
        push_target: the path that they are sent to.
        push_line: the first line of their requests.
        push_headers: heads of pushes that are recognised, whichever connection they come on.
        lookup_headers: those of requests without a body, from the end of their first line on.
    """

    pushes: ClassVar[SmallPushes]
    push_target: ClassVar[bytes]
    push_line: ClassVar[bytes]
    push_headers: ClassVar[HeaderCache[PushHeaders]]
    lookup_headers: ClassVar[HeaderCache[LookupHeaders]]
    _push: PushHeaders | None = None  # the request that is read, where it is a push
    _found: Found | None = None  # its answer, where it is a lookup
    _piece = b""  # what the parser is given, where a request begins in it
    _sender = Client()  # who sends pushes without a key

    def connection_made(self, transport: Any) -> None:
        """A client has connected, and owes a request."""
        super().connection_made(transport)
        self._sender = self.site.client(self.client[0] if self.client else "", None)

    def data_received(self, data: bytes) -> None:
        """Something came: most likely one whole request of a kind that came before."""
        cycle = self.cycle
        if (
            self._boundary
            and not self._unread
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
        ):
            taken = self._recognise(data, 0)
            if taken == len(data):
                return
            if not taken and self.idle_since is not None:
                self.idle_since, self.reading_since = None, self.loop.time()
            self._unread, self._at = data, taken
            self._read_on(unknown=not taken)
        else:
            super().data_received(data)

    def _recognise(self, data: bytes, at: int) -> int:
        end = data.find(BLANK_LINE, at) + _END
        if end < _END:
            return 0
        if data.startswith(self.push_line, at):
            push = self.push_headers.get(data[at:end])
            if push is None or len(data) - end < push.size or not self._admits(push):
                return 0
            cycle = self.cycle = _ShortCycle()  # type: ignore[assignment] # see _ShortCycle
            self._enter(cycle, push, data[end : end + push.size])
            return end + push.size - at
        line = data.find(b"\r\n", at, end)
        said = self.lookup_headers.get(data[line:end])
        if said is None:
            return 0
        method, _, rest = data[at:line].partition(b" ")
        if not rest.endswith(_VERSION):
            return 0
        found = self.site.lookup(method, rest[: -len(_VERSION)], said)
        if found is None:
            return 0
        self._answer(found, head_only=method == b"HEAD")
        return end - at

    def _parse(self, piece: bytes) -> None:
        self._piece = piece if self._boundary else b""
        super()._parse(piece)

    def _prepare(self) -> None:
        # What uvicorn prepares for ASGI waits until it is needed.
        self._push = self._found = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Choose the way."""
        if self._is_short():
            self._head, self._left = 0, self._length
            return
        url, headers, expected = self.url, self.headers, self.expect_100_continue
        super()._prepare()
        self.url, self.expect_100_continue = url, expected
        self.headers.extend(headers)
        super().on_headers_complete()

    def _is_short(self) -> bool:
        method = self.parser.get_method()
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return False
        if method == b"POST" and self.url == self.push_target:
            push = read_push_headers(self.headers)
            if push is None or not self._admits(push):
                return False
            if self._piece:
                self.push_headers.remember(self._piece, push)
            self._push = push
            self.cycle = _ShortCycle()  # type: ignore[assignment] # see _ShortCycle
            return True
        said = read_lookup_headers(self.headers)
        found = None if said is None else self.site.lookup(method, self.url, said)
        if said is not None and found is not None and self._piece.startswith(method):
            self.lookup_headers.remember(self._piece[self._piece.index(b"\r\n") :], said)
        self._found = found
        return found is not None

    def _admits(self, push: PushHeaders) -> bool:
        """Whether a push may be taken here and now, whatever else its head says."""
        site = self.site
        return push.size <= min(SMALL, site.body_bytes) and site.admits(push.authorization)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._push is not None:
            self.cycle.body += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is read."""
        if self._push is not None:
            self._boundary = True
            cycle: Any = self.cycle
            self._enter(cycle, self._push, cycle.body)
        elif self._found is not None:
            self._boundary = True
            self._answer(self._found, head_only=self.parser.get_method() == b"HEAD")
        else:
            super().on_message_complete()

    def _enter(self, cycle: _ShortCycle, push: PushHeaders, body: bytes) -> None:
        """Pass on a push that is read."""
        self._head, self._tail = 0, b""
        self.idle_since = self.reading_since = None
        cycle.more_body = False
        began = monotonic()

        def send(outcome: Outcome) -> None:
            answer = self.site.answer_push(outcome, monotonic() - began)
            cycle.response_complete = True
            if not cycle.disconnected:
                self._write(answer)
                if not cycle.keep_alive:
                    self.transport.close()

        # Only keys need to know whose they are, and finding out takes its time.
        client = self._sender
        if push.key:
            client = self.site.client(client.address, push.authorization)
        self.pushes.push(body, client, push.key, send)

    def _answer(self, found: Found, *, head_only: bool) -> None:
        # Without a duration: what is looked up takes microseconds, as the clock would.
        found.observed.observe(0.0)
        self._head, self._tail = 0, b""
        self.reading_since = None
        self._write(found.head if head_only else found.whole)

    def _write(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.answered = True
        # A timer for every answer, as uvicorn sets it, costs more than the answer.
        self.idle_since = self.loop.time()
        if self._unread or self._eof:
            self.read_on_soon()


def serving(site: Site) -> type[FastProtocol]:
    """The protocol that serves `site`."""
    target = (site.address.prefix + _PUSH).encode()
    return type(
        "SiteFastProtocol",
        (FastProtocol,),
        {
            "site": site,
            "turns": Turns(),
            "pushes": SmallPushes(site),
            "push_target": target,
            "push_line": b"POST " + target + b" HTTP/1.1\r\n",
            "push_headers": HeaderCache(),
            "lookup_headers": HeaderCache(),
        },
    )
