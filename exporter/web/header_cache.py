"""What the head of an ordinary push says, and the header_cache that need not be parsed again."""

from collections.abc import Iterable

import msgspec

from exporter.intake.ingest import MAX_KEY

MAX_HEADS, MAX_HEAD = 1_000, 1024
"""HeaderCache that are lookup at a time, and their bytes."""

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
"""Headers under which a push is an ordinary one."""

_TYPES = (b"application/json", b"application/x-ndjson")
_END = b"\r\n\r\n"


class PushHeaders(msgspec.Struct, frozen=True, gc=False):
    """What the head of a push said.

    Attributes:
        size: bytes of the body.
        key: the idempotency key, empty without one.
        authorization: the header of that name.
    """

    size: int
    key: str
    authorization: bytes | None


def read_push_headers(headers: Iterable[tuple[bytes, bytes]]) -> PushHeaders | None:
    """What these headers, with names in lower case, say; None unless they are an ordinary push's:
    a body of known size and type, a key that is short enough, and no header that asks for more."""
    size, kind, key, authorization = -1, b"", "", None
    for name, value in headers:
        if name not in _PLAIN:
            return None
        if name == b"content-length":
            size = int(value)
        elif name == b"content-type":
            kind = value
        elif name == b"idempotency-key":
            key = value.decode("latin-1")
        elif name == b"authorization":
            authorization = value
    if size < 0 or len(key) > MAX_KEY or kind.partition(b";")[0] not in _TYPES:
        return None
    return PushHeaders(size, key, authorization)


class HeaderCache:
    """The header_cache that clients send again and again, by their bytes.

    Equal bytes say the same whenever they come, and on whichever connection. Whether a push may
    enter is for the caller to ask each time: that can change while its head stays the same.

    Only a push that comes by itself, head and whole body, is remembered or lookup: of other
    bytes it is not certain where a head begins and ends.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, PushHeaders] = {}

    def lookup(self, data: bytes) -> PushHeaders | None:
        """The head of the push that `data` is, if it is remembered; the body is the last
        `size` bytes."""
        end = data.find(_END) + len(_END)
        head = self._known.get(data[:end])
        return head if head is not None and len(data) - end == head.size else None

    def remember(self, data: bytes, head: PushHeaders) -> None:
        """Recognise from now on what `data` begins with, which was read as `head`.

        Long ones are left out, and those with a key, which do not come again. When there are
        too many all are forgotten: those in use are soon back.
        """
        end = data.find(_END) + len(_END)
        if not head.key and end <= MAX_HEAD and len(data) - end == head.size:
            if len(self._known) >= MAX_HEADS:
                self._known.clear()
            self._known[data[:end]] = head
