"""What the head of an ordinary push or lookup says, and the heads that need not be parsed again."""

from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from exporter.intake.ingest import MAX_KEY
from exporter.web import authorize
from exporter.web.lookups import LookupHeaders

MAX_HEAD = 1024
"""Bytes of the longest head that is remembered."""

MAX_BYTES = 4 * 2**20
"""Bytes of all heads that are remembered, what is said about them included."""

_ENTRY = 512  # bytes that an entry takes beside its head

_HARMLESS = frozenset(
    {
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"connection",
        b"authorization",
    }
)
_CHANGING = frozenset({b"date", b"traceparent", b"tracestate", b"x-request-id"})
"""Headers that say nothing here either, but another thing each time."""

_ONCE = frozenset({b"content-type", b"idempotency-key", b"authorization", b"if-none-match"})
"""Headers of which a second one would say something else."""

_PUSH = _HARMLESS | _CHANGING | {b"content-length", b"content-type", b"idempotency-key"}

_ASKED = tuple(name.encode() for name in authorize.HEADERS)
_LOOKUP = _HARMLESS | {b"if-none-match", b"content-length", b"content-type", *_ASKED}
"""Headers of lookups that come again. Others say nothing, and another thing each time."""

_MORE = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
"""Headers of requests that are more than a lookup."""

_TYPES = (b"application/json", b"application/x-ndjson")

Headers = Iterable[tuple[bytes, bytes]]
Head = TypeVar("Head", bound="PushHeaders | LookupHeaders")


class PushHeaders(msgspec.Struct, frozen=True, gc=False):
    """What the head of a push said.

    Attributes:
        size: bytes of the body.
        key: the idempotency key, empty without one.
        authorization: the header of that name.
        lasting: whether the same head may come again.
    """

    size: int
    key: str
    authorization: bytes | None
    lasting: bool


def read_push_headers(headers: Headers) -> PushHeaders | None:
    """What these headers, with names in lower case, say; None unless they are an ordinary push's:
    a body of known size and type, a key that is short enough, and no header that asks for more."""
    size, kind, key, authorization, lasting = -1, b"", "", None, True
    given = []
    for name, value in headers:
        if name not in _PUSH:
            return None
        if name in _ONCE:
            given.append(name)
        if name == b"content-length":
            size = int(value)
        elif name == b"content-type":
            kind = value
        elif name == b"idempotency-key":
            key = value.decode("latin-1")
            lasting = False
        elif name == b"authorization":
            authorization = value
        elif name in _CHANGING:
            lasting = False
    if len(given) != len(set(given)):
        return None
    if size < 0 or len(key) > MAX_KEY or kind.partition(b";")[0] not in _TYPES:
        return None
    return PushHeaders(size, key, authorization, lasting)


def read_lookup_headers(headers: Headers) -> LookupHeaders | None:
    """What these headers, with names in lower case, say; None when there is a body, or one of them
    asks for more than an answer."""
    said: dict[bytes, bytes] = {}
    lasting = True
    for name, value in headers:
        if name in _MORE or (name == b"content-length" and value != b"0"):
            return None
        if name in said and name in _ONCE:
            return None
        said.setdefault(name, value)  # as the ordinary way has it
        lasting = lasting and name in _LOOKUP
    provider, model, consumer = (said.get(name, b"").decode("latin-1") for name in _ASKED)
    return LookupHeaders(
        said.get(b"if-none-match"),
        said.get(b"authorization"),
        (provider, model, consumer),
        lasting,
    )


class HeaderCache(Generic[Head]):
    """The heads that clients send again and again, by their bytes.

    Equal bytes say the same whenever they come, and on whichever connection. Whether a request
    may enter is for the caller to ask each time: that can change while its head stays the same.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self._bytes = 0
        self.get = self._known.get
        """What `head` said, up to its blank line, if it is remembered."""

    def remember(self, head: bytes, said: Head) -> None:
        """Recognise `head` from now on, which was read as `said`.

        Long ones are left out, and those that do not come again. When there are too many all are
        forgotten: those in use are soon back.
        """
        if not said.lasting or len(head) > MAX_HEAD:
            return
        if self._bytes + len(head) + _ENTRY > MAX_BYTES:
            self._known.clear()
            self._bytes = 0
        self._known[head] = said
        self._bytes += len(head) + _ENTRY
