"""Turns the HTTP client inside an SDK into a reporter.

A response hook sees a response before its body is read. It puts a tee in the body's place: what
the application reads passes through it untouched, and a copy is searched for usage on the way.
httpx and its successor httpx2 share this interface and may both be installed, so the classes come
from whichever library the given client belongs to.
"""

import logging
import sys
from types import ModuleType
from typing import Any, TypeVar

from exporter.client import allowed
from exporter.client.body import DocumentReader, Reader, Sighting, StreamReader
from exporter.client.hosts import provider_at
from exporter.client.reporter import Reporter
from exporter.client.tee import AsyncTee, Encoded, Observer, Tee

_LIBRARIES = ("httpx", "httpx2")
_MAX_ERROR = 65536
_OVERLOADED = (503, 529)

C = TypeVar("C")

log = logging.getLogger("exporter.client")


def instrument(client: C, reporter: Reporter, provider: str | None = None) -> C:
    """Makes `client` report usage and rate limits of every response, streamed ones included.

    Args:
        client: an httpx or httpx2 client, or an SDK client built on one (openai, anthropic, groq,
            sync and async). Copies (`with_options`) report too; a second call replaces the first.
        provider: the name to report under; by default guessed from each request's host.

    Returns:
        The same client.

    Raises:
        TypeError: no HTTP client was found in `client`.
    """
    inner = _http_client(client)
    library = _library_of(inner)
    if library is None:
        raise TypeError(f"client: expected an httpx client or an SDK's, got {type(client)!r}")
    is_async = isinstance(inner, library.AsyncClient)
    hook = (_AsyncHook if is_async else _Hook)(reporter, provider, library)
    hooks = inner.event_hooks
    others = [other for other in hooks["response"] if not isinstance(other, _Watch)]
    inner.event_hooks = {**hooks, "response": [*others, hook]}
    return client


def _http_client(client: Any) -> Any:
    return client if hasattr(client, "event_hooks") else getattr(client, "_client", None)


def _library_of(client: Any) -> ModuleType | None:
    roots = (base.__module__.partition(".")[0] for base in type(client).__mro__)
    return next((sys.modules[root] for root in roots if root in _LIBRARIES), None)


class _Watch:
    """Watches the responses of one client. Whatever fails in here, they stay as they are."""

    def __init__(self, reporter: Reporter, provider: str | None, library: ModuleType) -> None:
        self._reporter = reporter
        self._provider = provider
        # httpx insists on instances of its own stream classes.
        self._tee = type("Tee", (Tee, library.SyncByteStream), {})
        self._async_tee = type("AsyncTee", (AsyncTee, library.AsyncByteStream), {})

    def _watch(self, response: Any, tee: type) -> None:
        try:
            provider = self._provider or provider_at(response.request.url.host)
            exchange = _Exchange(self._reporter, provider, response)
            if response.is_stream_consumed:  # by a cache or a test transport: decoded already
                exchange.feed(response.content)
                exchange.finish()
            elif exchange.reads_body:
                encoded = response.headers.get("content-encoding", "identity") != "identity"
                observer: Observer = Encoded(exchange, response) if encoded else exchange
                response.stream = tee(response.stream, observer)
        except Exception as error:  # a monitor must not break what it watches
            log.debug("a response went unwatched: %s", type(error).__name__)


class _Hook(_Watch):
    def __call__(self, response: Any) -> None:
        self._watch(response, self._tee)


class _AsyncHook(_Watch):
    async def __call__(self, response: Any) -> None:
        self._watch(response, self._async_tee)


class _Exchange:
    """One response, reported once: when its body ends, fails or is abandoned."""

    def __init__(self, reporter: Reporter, provider: str, response: Any) -> None:
        self._reporter = reporter
        self._provider = provider
        self._status: int = response.status_code
        self._headers = allowed.headers(response.headers)
        self._seen = Sighting()
        self._error = b""
        self._reader = self._reader_for(response.headers.get("content-type", ""))
        if self._headers and not self._failed:
            self._signal()  # at once: a stream may take minutes

    @property
    def reads_body(self) -> bool:
        return self._reader is not None

    def feed(self, piece: bytes) -> None:
        if self._reader is not None:
            self._reader.feed(piece)

    def finish(self) -> None:
        if self._reader is not None:
            self._reader.end()
        if self._failed:
            # A spent balance or quota may come as any 4xx; the exporter tells it from the rest.
            if self._headers or self._status < 500 or self._status in _OVERLOADED:
                self._signal(self._error)
            return
        if allowed.any_tokens(self._seen.usage):
            self._reporter.record(
                self._provider,
                model=self._seen.model,
                usage=self._seen.usage,
                id=self._seen.id or None,
            )
            if not self._headers:
                self._signal()  # a provider without such headers has answered all the same
        elif self._seen.error is not None:
            self._refused_within_success(self._seen.error)

    @property
    def _failed(self) -> bool:
        return self._status >= 400

    def _reader_for(self, content_type: str) -> Reader | None:
        if self._failed:
            return DocumentReader(self._keep_error, _MAX_ERROR)
        if content_type.startswith("text/event-stream"):
            return StreamReader(self._seen.look_into)
        return DocumentReader(self._seen.look_into) if "json" in content_type else None

    def _keep_error(self, document: bytes) -> None:
        self._error = document

    def _signal(self, body: Any = None) -> None:
        self._reporter.signal(self._provider, self._status, self._headers, body)

    def _refused_within_success(self, error: dict[str, Any]) -> None:
        status = error.get("code")
        if isinstance(status, int) and 400 <= status < 500:
            self._reporter.signal(self._provider, status, self._headers, {"error": error})
