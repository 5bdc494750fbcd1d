"""Turns the HTTP client inside an SDK into a reporter.

A response hook sees a response before its body is read. It puts an observed stream in the body's
place: what the application reads passes through it untouched, and a copy is searched for usage.
httpx and its successor httpx2 share this interface and may both be installed, so the classes come
from whichever library the given client belongs to.
"""

import logging
import sys
from types import ModuleType
from typing import Any, TypeVar

from exporter.client.exchange import Asked, Exchange, with_stream_usage
from exporter.client.observed_stream import AsyncObservedStream, Encoded, ObservedStream, Observer
from exporter.client.providers import provider_at, provider_behind
from exporter.client.reporter import Reporter

_LIBRARIES = ("httpx", "httpx2")
_MAX_GUESSES = 64

C = TypeVar("C")

log = logging.getLogger("exporter.client")


def instrument(
    client: C, reporter: Reporter, provider: str | None = None, *, include_usage: bool = False
) -> C:
    """Makes `client` report usage and rate limits of every response, streamed ones included.

    Args:
        client: an httpx or httpx2 client, or an SDK client built on one (openai, anthropic, groq,
            sync and async). Copies (`with_options`) report too; a second call replaces the first.
        provider: the name to report under. By default that of each request's host; behind a
            gateway, whose host is none, what LiteLLM's headers, the model's prefix or the API say.
        include_usage: ask for the usage of streamed chat completions, which OpenAI's API sends on
            request only. The stream then ends with a chunk that has usage and no choices. Without
            it, and where the program does not ask, such an answer counts as a request without
            tokens, and in `Reporter.uncounted`.

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
    hook = (_AsyncHook if is_async else _SyncHook)(reporter, provider, library)
    before = {
        name: [other for other in hooks if not isinstance(other, _OurHook)]
        for name, hooks in inner.event_hooks.items()
    }
    if include_usage:
        before["request"].append((_AsyncAsk if is_async else _SyncAsk)(library))
    inner.event_hooks = {**before, "response": [*before["response"], hook]}
    return client


def _http_client(client: Any) -> Any:
    return client if hasattr(client, "event_hooks") else getattr(client, "_client", None)


def _library_of(client: Any) -> ModuleType | None:
    roots = (base.__module__.partition(".")[0] for base in type(client).__mro__)
    return next((sys.modules[root] for root in roots if root in _LIBRARIES), None)


class _OurHook:
    """What a second call of `instrument` replaces."""


class _SyncAsk(_OurHook):
    """Asks for the usage of streams."""

    def __init__(self, library: ModuleType) -> None:
        self._library = library

    def __call__(self, request: Any) -> None:
        body = with_stream_usage(request)
        if body is not None:
            request.stream = self._library.ByteStream(body)
            request.headers["content-length"] = str(len(body))


class _AsyncAsk(_SyncAsk):
    async def __call__(self, request: Any) -> None:  # type: ignore[override]  # httpx awaits these
        super().__call__(request)


class _ResponseHook(_OurHook):
    """Reports the responses of one client. Whatever fails in here, they stay as they are."""

    def __init__(self, reporter: Reporter, provider: str | None, library: ModuleType) -> None:
        self._reporter = reporter
        self._provider = provider
        self._guessed = set[str]()
        # httpx insists on instances of its own stream classes.
        self._stream = type("ObservedStream", (ObservedStream, library.SyncByteStream), {})
        self._async_stream = type(
            "AsyncObservedStream", (AsyncObservedStream, library.AsyncByteStream), {}
        )

    def _observe(self, response: Any, stream: type) -> None:
        try:
            asked = Asked(response.request)
            exchange = Exchange(self._reporter, self._provider_of(asked, response), asked, response)
            if response.is_stream_consumed:  # by a cache or a test transport: decoded already
                exchange.feed(response.content)
                exchange.finish()
            elif exchange.reads_body:
                encoded = response.headers.get("content-encoding", "identity") != "identity"
                observer: Observer = Encoded(exchange, response) if encoded else exchange
                response.stream = stream(response.stream, observer)
        except Exception as error:  # a monitor must not break what it watches
            log.debug("a response went unreported: %s", type(error).__name__)

    def _provider_of(self, asked: Asked, response: Any) -> str:
        known = self._provider or provider_at(asked.host)
        if known:
            return known
        behind = provider_behind(asked.host, asked.path, response.headers, asked.model)
        if behind not in self._guessed and len(self._guessed) < _MAX_GUESSES:
            self._guessed.add(behind)
            log.info("%s is no provider's host: counting as %s", asked.host, behind)
        return behind


class _SyncHook(_ResponseHook):
    def __call__(self, response: Any) -> None:
        self._observe(response, self._stream)


class _AsyncHook(_ResponseHook):
    async def __call__(self, response: Any) -> None:
        self._observe(response, self._async_stream)
