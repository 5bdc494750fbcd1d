"""Answers to pushes."""

from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple

import msgspec

RETRY_AFTER = "1"
"""Seconds to wait after a 429 or 503: a commit takes milliseconds, a full disk longer."""


class Reply(NamedTuple):
    """An answer to a push.

    Attributes:
        status: HTTP status.
        body: JSON.
        retry_after: seconds for the header of that name; empty when a retry will not help.
    """

    status: int
    body: bytes
    retry_after: str = ""


Send = Callable[[Reply], None]

ONE = Reply(200, b'{"accepted":1,"duplicates":0,"rejected":[]}')
OVERLOADED = Reply(429, b'{"error":"too many requests are waiting to be stored"}', RETRY_AFTER)


def failure(status: int, error: str, retry_after: str = "") -> Reply:
    """An answer that says why not."""
    return Reply(status, msgspec.json.encode({"error": error}), retry_after)


def encode_reply(reply: Reply, extra: bytes) -> bytes:
    """An answer in JSON as it goes over the wire; `extra` are further header lines."""
    status = HTTPStatus(reply.status)
    retry = f"retry-after: {reply.retry_after}\r\n" if reply.retry_after else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(reply.body)}\r\n{retry}"
    )
    return head.encode() + extra + b"\r\n" + reply.body
