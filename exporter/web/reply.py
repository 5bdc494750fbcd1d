"""Answers, and how they go over the wire."""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from starlette.responses import Response

from exporter.intake.format import JSON_TYPES, Format
from exporter.intake.outcome import Outcome, Status

_NO_WEIGHT = re.compile(r"q *= *0(\.0*)?")

RETRY_AFTER = "1"
"""Seconds to wait after a 429 or 503: a commit takes milliseconds, a full disk longer."""


class Reply(NamedTuple):
    """An answer.

    Attributes:
        status: HTTP status.
        body: its bytes.
        retry_after: seconds for the header of that name; empty when a retry will not help.
        media_type: of the body; empty where there is none.
        etag: entity tag with its quotes; empty for none.
        headers: further ones.
    """

    status: int
    body: bytes
    retry_after: str = ""
    media_type: str = JSON_TYPES[0]
    etag: str = ""
    headers: Mapping[str, str] = {}


_STATUS = {
    Status.STORED: 200,
    Status.MALFORMED: 400,
    Status.OVERLOADED: 429,
    Status.UNAVAILABLE: 503,
}
_LATER = (Status.OVERLOADED, Status.UNAVAILABLE)


def code_of(outcome: Outcome) -> int:
    """The status of the answer to a push in a format without partial success."""
    return _STATUS[outcome.status]


def reply_to(form: Format, outcome: Outcome, media_type: str) -> Reply:
    """The answer to a push of a format, in what its request came in if the format says so."""
    status, encoding, answer = _STATUS[outcome.status], form.encoding, outcome.answer
    if answer is None:
        body = encoding.error(outcome.error, media_type)
    else:
        body = encoding.answer(answer, media_type)
        if encoding.partial_success:
            status = 200
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        status = encoding.later
    retry_after = RETRY_AFTER if outcome.status in _LATER else ""
    kind = media_type if encoding.echoes else JSON_TYPES[0]
    headers = encoding.headers(outcome.items) if encoding.headers else {}
    return Reply(status, body, retry_after, kind, headers=headers)


def failure(status: int, error: str, retry_after: str = "") -> Reply:
    """An answer that says why not."""
    return Reply(status, msgspec.json.encode({"error": error}), retry_after)


def encode_reply(reply: Reply, extra: bytes, *, head_only: bool = False) -> bytes:
    """An answer as it goes over the wire; `extra` are further header lines."""
    status = HTTPStatus(reply.status)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers_of(reply))
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}".encode()
    return head + extra + b"\r\n" + (b"" if head_only else reply.body)


def headers_of(reply: Reply) -> Iterator[tuple[str, str]]:
    """The headers of an answer, in order."""
    if reply.status != HTTPStatus.NOT_MODIFIED:
        if reply.media_type:
            yield "content-type", reply.media_type
        yield "content-length", str(len(reply.body))
    if reply.etag:
        yield "etag", reply.etag
    if reply.retry_after:
        yield "retry-after", reply.retry_after
    yield from reply.headers.items()


def response_of(reply: Reply) -> Response:
    """An answer for the ordinary way, which sends the same bytes."""
    response = Response(reply.body, reply.status)
    response.raw_headers = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers_of(reply)
    ]
    return response


def unless_known(reply: Reply, if_none_match: bytes | None) -> Reply:
    """304 without a body when the client has what `reply` would give it (RFC 9110, 13.1.2)."""
    if if_none_match is None or not reply.etag or reply.status != HTTPStatus.OK:
        return reply
    mine = reply.etag.removeprefix("W/").encode()
    known = if_none_match == b"*" or mine in (
        tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")
    )
    return reply._replace(status=HTTPStatus.NOT_MODIFIED, body=b"") if known else reply


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client wants gzip, by its header of that name (RFC 9110, 12.5.3)."""
    for one in accept_encoding.lower().split(","):
        coding, _, weight = one.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not _NO_WEIGHT.fullmatch(weight.strip())
    return False
