"""The reporter: takes events in without waiting and without ever raising."""

import asyncio
import atexit
import logging
import ssl
import time
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from exporter.client.arguments import check_positive
from exporter.client.delivery import Exporter
from exporter.client.event import signal_event, usage_event
from exporter.client.outbox import Outbox

log = logging.getLogger("exporter.client")


class Reporter:
    """Reports usage and provider signals to an exporter.

    Its methods may be called from any thread, from coroutines and after a fork. Only `close` waits
    for the network, and nothing raises once the reporter is built. Events are sent about
    `interval` seconds after they were recorded, in batches that are retried until the exporter
    has them. Use it as a context manager, or leave the last batch to the interpreter's exit;
    workers that end by `os._exit` (multiprocessing) have to call `close`.

    Args:
        url: where the exporter listens, `http://host:10042`.
        token: bearer token, where the exporter asks for one.
        interval: seconds to gather a batch.
        max_queue: events kept while the exporter is away. Beyond it the oldest are dropped: what
            is decided now depends on the newest.
        timeout: seconds for each wait on the network.
        close_timeout: seconds that `close` and the interpreter's exit wait at most.
        tls: for a private certificate authority or a client certificate.

    Attributes:
        invalid: calls whose arguments could not be used.
        uncounted: answers whose tokens are unknown: `instrument` saw streams without usage.

    Raises:
        ValueError: an argument of the constructor is unusable.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        interval: float = 1.0,
        max_queue: int = 10_000,
        timeout: float = 10.0,
        close_timeout: float = 5.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check_positive(
            interval=interval,
            max_queue=max_queue,
            timeout=timeout,
            close_timeout=close_timeout,
        )
        self.invalid = 0
        self.uncounted = 0
        self._outbox = Outbox(
            Exporter(url, token, tls),
            interval=interval,
            max_queue=max_queue,
            timeout=timeout,
            close_timeout=close_timeout,
        )
        atexit.register(self.close)

    @property
    def dropped(self) -> int:
        """Events given up: queue full, refused as a batch, or unsent at close."""
        return self._outbox.dropped

    @property
    def rejected(self) -> int:
        """Events the exporter turned down one by one."""
        return self._outbox.rejected

    def record(
        self,
        provider: str,
        *,
        model: str = "",
        consumer: str = "",
        tokens: int | None = None,
        input_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_tokens: int | None = None,
        output_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        usage: Any = None,
        cost_usd: float | None = None,
        id: str | None = None,
        timestamp: datetime | float | None = None,
    ) -> None:
        """Takes in one event: `tokens`, or disjoint kinds, or a provider's own `usage` object.

        Args:
            consumer: who asked: a team, a key, an application.
            usage: a mapping or an SDK's object; only its token counts are sent.
            cost_usd: what it cost; where nobody says, the exporter's prices do.
            id: makes the event count once however often it is reported: the response's own,
                or one is generated.
            timestamp: Unix seconds, or a datetime with a zone; default now.
        """
        try:
            event = usage_event(
                provider,
                time.time() if timestamp is None else timestamp,
                model=model,
                consumer=consumer,
                tokens=tokens,
                kinds={
                    "input_tokens": input_tokens,
                    "cache_read_tokens": cache_read_tokens,
                    "cache_write_tokens": cache_write_tokens,
                    "output_tokens": output_tokens,
                    "reasoning_tokens": reasoning_tokens,
                },
                usage=usage,
                cost_usd=cost_usd,
                id=id,
            )
            self._outbox.add_event(event)
        except Exception as error:  # reporting must not break what it reports on
            self._note_misuse("record", error)

    def record_uncounted(self, provider: str, model: str, id: str) -> None:
        """Takes in a request that was answered without saying how many tokens it took.

        It counts as a request of no tokens, and in `uncounted`.
        """
        self.uncounted += 1
        if self.uncounted == 1:
            log.warning(
                "a streamed answer carried no usage, so that its tokens are not counted (later ones"
                ' go unmentioned): ask with stream_options={"include_usage": True}, or by'
                " instrument(..., include_usage=True)"
            )
        self.record(provider, model=model, tokens=0, id=id)

    def signal(
        self,
        provider: str,
        status: int,
        headers: Mapping[str, str],
        body: Any = None,
        *,
        model: str = "",
    ) -> None:
        """Takes in what a provider's response said about its limits.

        Only rate-limit headers and, from status 400 on, the machine-readable part of an error are
        sent. Of several responses within an interval that say the same, the newest is.

        Args:
            body: the response's, as bytes, text or decoded JSON.
            model: what the request asked for, where a limit is one of a model.
        """
        try:
            key, document = signal_event(provider, status, headers, body, time.time(), model)
            self._outbox.add_signal(key, document)
        except Exception as error:  # reporting must not break what it reports on
            self._note_misuse("signal", error)

    def close(self) -> None:
        """Sends what is left, for `close_timeout` seconds at most; later events are dropped."""
        atexit.unregister(self.close)
        self._outbox.close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _note_misuse(self, method: str, error: Exception) -> None:
        self.invalid += 1
        if self.invalid == 1:
            # Our own messages show no text; another error's message might.
            reason = str(error) if type(error) is ValueError else type(error).__name__
            log.warning("%s ignored, later ones silently: %s", method, reason)
