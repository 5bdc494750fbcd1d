"""Answers to pushes."""

from http import HTTPStatus
from typing import NamedTuple

import msgspec

from exporter.intake.format import JSON_TYPES, Format
from exporter.intake.ingest import Outcome, Status

RETRY_AFTER = "1"
"""Seconds to wait after a 429 or 503: a commit takes milliseconds, a full disk longer."""


class Reply(NamedTuple):
    """An answer to a push.

    Attributes:
        status: HTTP status.
        body: its bytes.
        retry_after: seconds for the header of that name; empty when a retry will not help.
        media_type: of the body.
    """

    status: int
    body: bytes
    retry_after: str = ""
    media_type: str = JSON_TYPES[0]


_STATUS = {
    Status.STORED: 200,
    Status.MALFORMED: 400,
    Status.OVERLOADED: 429,
    Status.UNAVAILABLE: 503,
}
_LATER = (Status.OVERLOADED, Status.UNAVAILABLE)


def reply_to(form: Format, outcome: Outcome, media_type: str) -> Reply:
    """The answer to a push of a format, in what its request came in if the format says so."""
    status, encoding, answer = _STATUS[outcome.status], form.encoding, outcome.answer
    if answer is None:
        body = encoding.error(outcome.error, media_type)
    else:
        body = encoding.answer(answer, media_type)
        if encoding.partial_success:
            status = 200
    retry_after = RETRY_AFTER if outcome.status in _LATER else ""
    kind = media_type if encoding.echoes else JSON_TYPES[0]
    return Reply(status, body, retry_after, kind)


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
