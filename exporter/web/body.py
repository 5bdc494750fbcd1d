"""Bodies of requests: bounded, and unpacked without trusting what they claim."""

import zlib

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

_GZIP = 16 + zlib.MAX_WBITS
_STEP = 256 * 1024  # bytes unpacked at a time


async def read_body(request: Request, limit: int) -> bytes:
    """The body, unpacked, of at most `limit` bytes before and after the unpacking.

    Raises:
        HTTPException: 413 too large, 415 an encoding other than gzip, 400 damaged.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("gzip", "identity"):
        raise HTTPException(415, f"content-encoding: expected gzip or none, got {encoding[:64]!r}")
    packed = bytearray()
    try:
        async for piece in request.stream():
            packed += piece
            if len(packed) > limit:
                raise _too_large(limit)
    except ClientDisconnect as error:
        raise HTTPException(400, "body: expected all of it, got a part and no more") from error
    return _unpack(packed, limit) if encoding == "gzip" else bytes(packed)


def _unpack(packed: bytearray, limit: int) -> bytes:
    stream = zlib.decompressobj(_GZIP)
    body = bytearray()
    rest: bytes | bytearray = packed
    try:
        while rest and not stream.eof:
            body += stream.decompress(rest, _STEP)
            rest = stream.unconsumed_tail
            if len(body) > limit:
                raise _too_large(limit)
    except zlib.error as error:
        raise HTTPException(400, f"body: expected gzip, got something else ({error})") from error
    if not stream.eof:
        raise HTTPException(400, "body: expected a whole gzip stream, got a part of one")
    if stream.unused_data:
        raise HTTPException(400, "body: expected one gzip stream, got more after its end")
    return bytes(body)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"body: expected at most {limit} bytes, got more")
