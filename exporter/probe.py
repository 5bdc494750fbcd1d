"""Ask a provider whose quota should be back, where nobody else does.

A probe is one HTTP request from the configuration. It has to spend what the quota counts (one
token of a completion, say): an answer from a free endpoint proves nothing.

Probes run on the event loop, bounded in number and in time altogether, so that no endpoint, however
slow, holds up anything else. Redirects are not followed, since they would carry the key in the
headers to another host.
"""

import asyncio
import logging
import math
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, NoReturn, Protocol

import httpx2

from exporter import __version__
from exporter.core.signal import Signal, Verdict
from exporter.intake.signals import MIN_QUOTA_SECONDS, read_response
from exporter.storage.contract import StorageError

log = logging.getLogger("exporter")

TIMEOUT = 10.0
"""Seconds for a whole probe, from the look-up of the name to the end of the answer."""

MAX_PROBES = 64
"""Probes under way at a time; further ones wait."""

CHECK_SECONDS = 5.0
"""Seconds between checks of who is pending."""

_MAX_BYTES = 65_536
_MAX_DOUBLINGS = 32
_HEADERS = {
    "user-agent": f"llm-quota-exporter/{__version__}",
    "accept-encoding": "identity",  # a small answer may unpack to a large one
}


class Request(Protocol):
    """What to ask.

    Attributes:
        url: http or https.
        headers: sent as they are, the key among them.
    """

    @property
    def url(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...


class Target(Request, Protocol):
    """What to ask, and how often.

    Attributes:
        interval: seconds before the first probe, doubled with each.
        max_interval: seconds that the doubling stops at.
    """

    @property
    def interval(self) -> float: ...
    @property
    def max_interval(self) -> float: ...


class ProbeResponse(NamedTuple):
    """A response as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Episode(NamedTuple):
    since: float
    probes: int
    due: float


def next_probe_at(last: float, probes: int, target: Target, jitter: float) -> float:
    """Unix seconds of the next probe, `probes` having been sent since recovery is pending.

    The delay after `last` doubles from the interval up to its maximum; `jitter` (0 to 1) takes
    up to half of it away, so that replicas and providers do not ask in step.
    """
    return last + doubled(target.interval, probes, target.max_interval) * (1 - jitter / 2)


def doubled(interval: float, times: int, most: float) -> float:
    """Seconds: the interval doubled so many times, but no more than `most`."""
    return min(math.ldexp(interval, min(times, _MAX_DOUBLINGS)), most)


async def fetch(client: httpx2.AsyncClient, asked: Request) -> ProbeResponse:
    """Send the request; any status is an answer, of which the beginning is read.

    Raises:
        OSError, httpx2.HTTPError: there was none; TimeoutError within `TIMEOUT` seconds.
        ValueError, httpx2.InvalidURL: the URL or a header cannot be sent.
    """
    body = b""
    async with (
        asyncio.timeout(TIMEOUT),
        client.stream(asked.method, asked.url, headers=asked.headers) as response,
    ):
        async for piece in response.aiter_raw():
            body += piece
            if len(body) >= _MAX_BYTES:
                break
    packed = "content-encoding" in response.headers
    return ProbeResponse(
        response.status_code, dict(response.headers), b"" if packed else body[:_MAX_BYTES]
    )


def http_client() -> httpx2.AsyncClient:
    """A client for `fetch`; it takes proxies and certificates from the environment."""
    # Half a minute lies between two probes at least: no connection is worth keeping.
    limits = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.AsyncClient(headers=_HEADERS, timeout=TIMEOUT, limits=limits)


class Prober:
    """Probes every pending provider that has a target, backing off while it gets no success.

    Args:
        targets: the targets by provider, as the configuration has them at the moment.
        pending: at a moment, the providers whose recovery is pending, and since when.
        report: takes what an answer said; after a `StorageError` the next probe tries again.
        failed: gets an error that nobody expected; the other probes go on.
        clock: Unix seconds.
        jitter: a random number from 0 to 1.
        exhausted_from: seconds; who asks to wait at least so long means a quota.
    """

    def __init__(
        self,
        targets: Callable[[], Mapping[str, Target]],
        pending: Callable[[float], Mapping[str, float]],
        report: Callable[[Signal], Awaitable[object]],
        failed: Callable[[Exception], None],
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        jitter: Callable[[], float],
        exhausted_from: Callable[[], float] = lambda: MIN_QUOTA_SECONDS,
    ) -> None:
        self._targets = targets
        self._pending = pending
        self._report = report
        self._failed = failed
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._exhausted_from = exhausted_from
        self._episodes: dict[str, _Episode] = {}
        self._turn = asyncio.Semaphore(MAX_PROBES)

    async def run(self) -> NoReturn:
        """Probe pending providers until cancelled."""
        # In a thread: reading the certificates takes a tenth of a second.
        async with await asyncio.to_thread(http_client) as client:
            while True:
                await self.probe_due(client)
                await self._sleep(CHECK_SECONDS)

    async def probe_due(self, client: httpx2.AsyncClient) -> None:
        """Probe whoever is due, many at once."""
        now = self._clock()
        targets, pending = self._targets(), self._pending(now)
        self._episodes = {
            provider: self._episode(provider, since, targets[provider])
            for provider, since in pending.items()
            if provider in targets
        }
        due = [name for name, episode in self._episodes.items() if episode.due <= now]
        async with asyncio.TaskGroup() as probes:
            for name in due:
                work = self._isolated(client, name, targets[name], now)
                probes.create_task(work, name="probe")

    def _episode(self, provider: str, since: float, target: Target) -> _Episode:
        known = self._episodes.get(provider)
        if known and known.since == since:
            return known
        return _Episode(since, 0, next_probe_at(since, 0, target, self._jitter()))

    async def _isolated(
        self, client: httpx2.AsyncClient, provider: str, target: Target, now: float
    ) -> None:
        try:
            async with self._turn:
                await self._probe(client, provider, target, now)
        except Exception as error:
            self._failed(error)

    async def _probe(
        self, client: httpx2.AsyncClient, provider: str, target: Target, now: float
    ) -> None:
        since, probes, _ = self._episodes[provider]
        due = next_probe_at(now, probes + 1, target, self._jitter())
        self._episodes[provider] = _Episode(since, probes + 1, due)
        try:
            answer = await fetch(client, target)
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            warn("probe failed", provider, error=reason_of(error))
            return
        try:
            patience = self._exhausted_from()
            signal = read_response(provider, *answer, self._clock(), exhausted_from=patience)
        except ValueError as error:  # a status that HTTP does not have
            warn("probe says nothing", provider, error=str(error))
            return
        if signal.verdict is Verdict.UNKNOWN:
            warn("probe says nothing", provider, status=answer.status)
        if signal.retry_at is not None and signal.retry_at > due:
            self._episodes[provider] = _Episode(since, probes + 1, signal.retry_at)
        try:
            await self._report(signal)
        except StorageError as error:
            warn("probe not stored", provider, error=str(error))


def reason_of(error: BaseException) -> str:
    """What may be logged: a message may quote the header or the URL that the key is in."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            # Those of name look-ups are not the system's.
            return str(cause.strerror) if cause.errno < 0 else os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def warn(message: str, provider: str, **fields: object) -> None:
    """Log what went wrong with a provider."""
    log.warning(message, extra={"fields": {"provider": provider, **fields}})
