"""Bodies of requests: bounded each and all together, and unpacked without trusting their claims."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager

import cramjam
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from exporter.config import Limits
from exporter.web.outstanding import Outstanding
from exporter.web.reply import RETRY_AFTER

_GZIP = 16 + zlib.MAX_WBITS
_STEP = 256 * 1024  # bytes unpacked at a time

_Hold = Callable[[int], object]


class Bodies:
    """The bodies that are being worked on."""

    def __init__(self, outstanding: Outstanding) -> None:
        self._outstanding = outstanding

    @asynccontextmanager
    async def read(
        self, request: Request, limits: Limits, compression: Sequence[str] = ("gzip",)
    ) -> AsyncIterator[bytes]:
        """Read a body, unpacked, and hold its bytes until it is done with.

        Raises:
            HTTPException: 413 more than `body_bytes`, packed or not; 415 an encoding other than
                those of `compression`; 400 damaged; 429 more than `outstanding_bytes` together
                with others.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if not self._outstanding.hold(size, held):
                others = self._outstanding.held - held
                detail = f"other requests hold {others} of {self._outstanding.limit} bytes"
                raise HTTPException(429, detail, {"retry-after": RETRY_AFTER})
            held += size

        try:
            yield await _read(request, limits.body_bytes, compression, hold)
        finally:
            self._outstanding.release(held)


async def _read(request: Request, limit: int, compression: Sequence[str], hold: _Hold) -> bytes:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in (*compression, "identity"):
        expected = " or ".join((*compression, "none"))
        raise HTTPException(415, f"content-encoding: expected {expected}, got {encoding[:64]!r}")
    packed = bytearray()
    try:
        async for piece in request.stream():
            hold(len(piece))
            packed += piece
            if len(packed) > limit:
                raise _too_large(limit)
    except ClientDisconnect as error:
        raise HTTPException(400, "body: expected all of it, got a part and no more") from error
    if encoding == "snappy":
        return _unsnap(bytes(packed), limit, hold)
    if encoding == "identity":
        return bytes(packed)
    return await unpacked(packed, limit, hold)


async def unpacked(packed: bytearray, limit: int, hold: _Hold) -> bytes:
    """Unpack a gzip body, and let others have their turn between the steps: one takes a
    millisecond.

    Raises:
        HTTPException: see `unpacking`.
    """
    steps = unpacking(packed, limit, hold)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            body: bytes = end.value
            return body
        await asyncio.sleep(0)


def _unsnap(packed: bytes, limit: int, hold: _Hold) -> bytes:
    """Unpack a snappy block, which says how long it is before anything is made of it."""
    try:
        length = cramjam.snappy.decompress_raw_len(packed)
        if length > limit:
            raise _too_large(limit)
        hold(length)
        return bytes(cramjam.snappy.decompress_raw(packed))
    except cramjam.DecompressionError as error:
        raise HTTPException(400, f"body: expected snappy, got something else ({error})") from error


def unpacking(packed: bytearray, limit: int, hold: _Hold) -> Generator[None, None, bytes]:
    """Unpack a gzip body step by step; `hold` hears of every piece before the next is made.

    Raises:
        HTTPException: 413 more than `limit`, 400 damaged, and what `hold` raises.
    """
    stream = zlib.decompressobj(_GZIP)
    body = bytearray()
    rest: bytes | bytearray = packed
    try:
        while rest and not stream.eof:
            piece = stream.decompress(rest, _STEP)
            hold(len(piece))
            body += piece
            rest = stream.unconsumed_tail
            if len(body) > limit:
                raise _too_large(limit)
            if rest:
                yield
    except zlib.error as error:
        raise HTTPException(400, f"body: expected gzip, got something else ({error})") from error
    if not stream.eof:
        raise HTTPException(400, "body: expected a whole gzip stream, got a part of one")
    if stream.unused_data:
        raise HTTPException(400, "body: expected one gzip stream, got more after its end")
    return bytes(body)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"body: expected at most {limit} bytes, got more")
