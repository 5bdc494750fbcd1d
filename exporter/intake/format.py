"""What a format of pushes is: where it is posted, who reads it, how it is answered."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from exporter.config import Right, Webhook
from exporter.intake import rejections
from exporter.intake.naming import Naming
from exporter.intake.reading import Reading
from exporter.storage.contract import Answer

if TYPE_CHECKING:
    from exporter.intake.batching import Batcher
    from exporter.intake.otlp_reports import Reports

JSON_TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "text/plain",
    "application/x-www-form-urlencoded",  # what curl says unless told otherwise
)
"""The first is what a push without a `Content-Type` is taken for."""


class Push(NamedTuple):
    """One request.

    Attributes:
        body: as it came, unpacked.
        media_type: one of its format's, in lower case and without parameters.
        client: who sent it.
        key: its `Idempotency-Key`; empty without one.
        consumer: its `X-Consumer`: whom its items are counted for that do not say; or empty.
        name: what stands for `{name}` in the path of its format; or empty.
    """

    body: bytes
    media_type: str
    client: "Client"
    key: str = ""
    consumer: str = ""
    name: str = ""


class Client(NamedTuple):
    """Who sends a push.

    Attributes:
        address: its IP address, for the log.
        name: by which it was let in; what one client's `Idempotency-Key`s are unique in.
    """

    address: str = ""
    name: str = ""


class Context(NamedTuple):
    """What a reader may use.

    Attributes:
        now: Unix seconds of the request.
        naming: which name a provider shows under.
        max_items: items that a request may have.
        batcher: for readers that sum up what they read.
        reports: where reports of OTLP services go that may have several sources.
        key: 16 bytes that identify the request, or empty.
        exhausted_from: seconds; who asks to wait at least so long means a quota.
        webhooks: how to read what gateways post, by name.
    """

    now: float
    naming: Naming
    max_items: int
    batcher: "Batcher"
    reports: "Reports"
    key: bytes
    exhausted_from: float
    webhooks: Mapping[str, Webhook]


class Encoding(NamedTuple):
    """How answers are written.

    Attributes:
        answer: what became of a push, given the media type of its request.
        error: why nothing became of it, likewise.
        echoes: whether answers have the media type of the request; otherwise they are JSON.
        partial_success: whether a push of which nothing could be used is a success still, its
            rejections told in the answer.
        headers: of an answer, given how many items the push had.
        later: the HTTP status that makes a client come again when too much is going on.
    """

    answer: Callable[[Answer, str], bytes]
    error: Callable[[str, str], bytes]
    echoes: bool = False
    partial_success: bool = False
    headers: Callable[[int], Mapping[str, str]] | None = None
    later: int = 429


class Format(NamedTuple):
    """A format of pushes; all there is to know of it.

    Attributes:
        path: where it is posted; may end in `/{name}`.
        source: the label it is counted under.
        summary: one sentence for the description of the interface.
        read: reads a body of one of the media types.
        media_types: the first is the default.
        encoding: how it is answered.
        item: the type of one item, where the description of the interface shows it.
        right: what a client needs.
        compression: values of `Content-Encoding`, beside none.
    """

    path: str
    source: str
    summary: str
    read: Callable[[Push, Context], Reading]
    media_types: tuple[str, ...]
    encoding: Encoding
    item: type[msgspec.Struct] | None = None
    right: Right = Right.PUSH
    compression: tuple[str, ...] = ("gzip",)


def _answer(answer: Answer, media_type: str) -> bytes:
    rejected, more = answer.rejected, b""
    if not rejected.startswith(b"["):
        beyond = rejections.decode(rejected)
        rejected, more = msgspec.json.encode(beyond.listed), b',"more_rejected":%d' % beyond.more
    body = b'{"accepted":%d,"duplicates":%d,"rejected":%s%s}'
    return body % (answer.accepted, answer.duplicates, rejected, more)


def _error(error: str, media_type: str) -> bytes:
    body: Mapping[str, Any] = {"error": error}
    return msgspec.json.encode(body)


JSON_ANSWERS = Encoding(_answer, _error)
"""`{"accepted": …, "duplicates": …, "rejected": […]}` or `{"error": …}`. Where more was rejected
than is listed, `"more_rejected"` says how many more."""
