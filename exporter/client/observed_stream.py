"""A response body that is also seen by an observer, while the application reads it."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

_MAX_ENCODED = 8 * 2**20

log = logging.getLogger("exporter.client")


class Observer(Protocol):
    """Fed the body as far as the application reads it, then finished."""

    def feed(self, piece: bytes) -> None: ...

    def finish(self) -> None: ...


class Encoded:
    """Observes an encoded body (gzip, br, zstd) for an observer of decoded ones.

    Which codings may arrive depends on what the HTTP library found installed when it asked for
    them, so that library decodes the copy. It can do so only at the end: until then the encoded
    pieces are kept, `_MAX_ENCODED` bytes of them at most.
    """

    def __init__(self, observer: Observer, response: Any) -> None:
        self._observer = observer
        self._response_type: type[Any] = type(response)
        self._headers = {"content-encoding": response.headers["content-encoding"]}
        self._pieces: list[bytes] = []
        self._room = _MAX_ENCODED

    def feed(self, piece: bytes) -> None:
        self._room -= len(piece)
        if self._room >= 0:
            self._pieces.append(piece)

    def finish(self) -> None:
        copy = self._response_type(200, headers=self._headers, content=iter(self._pieces))
        try:
            for decoded in copy.iter_bytes():
                self._observer.feed(decoded)
        finally:
            self._observer.finish()


class _Observed:
    """Shared by both tees: the copy, which may fail without the original noticing."""

    def __init__(self, stream: Any, observer: Observer) -> None:
        self._stream = stream
        self._observer: Observer | None = observer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # httpx2 asks its stream for `elapsed`

    def _copy(self, chunk: bytes) -> None:
        if self._observer is not None:
            try:
                self._observer.feed(chunk)
            except Exception as error:  # a monitor must not break what it watches
                log.debug("a response went unwatched: %s", type(error).__name__)
                self._observer = None

    def _finish(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            try:
                observer.finish()
            except Exception as error:  # a monitor must not break what it watches
                log.debug("a response went unwatched: %s", type(error).__name__)


class ObservedStream(_Observed):
    """For `httpx.SyncByteStream`."""

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._stream:
                self._copy(chunk)
                yield chunk
        finally:
            self._finish()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._finish()


class AsyncObservedStream(_Observed):
    """For `httpx.AsyncByteStream`."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self._stream.__aiter__()
        try:
            async for chunk in chunks:
                self._copy(chunk)
                yield chunk
        finally:
            if hasattr(chunks, "aclose"):
                await chunks.aclose()
            self._finish()

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._finish()
