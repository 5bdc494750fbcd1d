"""Ask a provider whose quota should be back, where nobody else does.

A probe is one HTTP request from the configuration. It has to spend what the quota counts (one
token of a completion, say): an answer from a free endpoint proves nothing.

The standard library sends it, in a thread: at a request every half minute, an HTTP client would
be one more dependency of every installation. Redirects are not followed, since they would carry
the key in the headers to another host.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from http.client import HTTPException
from typing import NamedTuple, Protocol
from urllib.request import (
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from exporter.core.signal import Signal, Verdict
from exporter.intake.signals import SHORTEST_QUOTA, read_response
from exporter.storage.contract import StorageError

log = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds for a connection and each read. A stop of the process waits no longer than this."""

LOOK_EVERY = 5.0
"""Seconds between looks at who is pending."""

_MAX_BYTES = 65_536
_MAX_DOUBLINGS = 32


class Target(Protocol):
    """What to ask.

    Attributes:
        url: http or https.
        headers: sent as they are, the key among them.
        interval: seconds before the first probe, doubled with each.
        max_interval: seconds that the doubling stops at.
    """

    @property
    def url(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def interval(self) -> float: ...
    @property
    def max_interval(self) -> float: ...


class Answer(NamedTuple):
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
    doubled = math.ldexp(target.interval, min(probes, _MAX_DOUBLINGS))
    delay = min(doubled, target.max_interval)
    return last + delay * (1 - jitter / 2)


def fetch(target: Target) -> Answer:
    """Send the request; any status is an answer.

    Raises:
        OSError, HTTPException: there was none.
        ValueError: the URL or a header cannot be sent.
    """
    request = Request(target.url, headers=dict(target.headers), method=target.method)  # noqa: S310 - the opener below speaks HTTP only
    # Without the usual error and redirect handlers every response comes back as it is.
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler(), UnknownHandler()):
        opener.add_handler(handler)
    with opener.open(request, timeout=TIMEOUT) as response:
        return Answer(response.status, dict(response.headers.items()), response.read(_MAX_BYTES))


class Prober:
    """Probes every pending provider that has a target, backing off while it gets no success.

    Args:
        targets: the targets by provider, as the configuration has them at the moment.
        pending: at a moment, the providers whose recovery is pending, and since when.
        report: takes what an answer said; after a `StorageError` the next probe tries again.
        clock: Unix seconds.
        jitter: a random number from 0 to 1.
        exhausted_from: seconds; who asks to wait at least so long means a quota.
    """

    def __init__(
        self,
        targets: Callable[[], Mapping[str, Target]],
        pending: Callable[[float], Mapping[str, float]],
        report: Callable[[Signal], Awaitable[object]],
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        jitter: Callable[[], float],
        exhausted_from: Callable[[], float] = lambda: SHORTEST_QUOTA,
    ) -> None:
        self._targets = targets
        self._pending = pending
        self._report = report
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._exhausted_from = exhausted_from
        self._episodes: dict[str, _Episode] = {}

    async def run(self) -> None:
        """Look for pending providers until cancelled."""
        while True:
            await self.look()
            await self._sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Probe whoever is due, all at once."""
        now = self._clock()
        targets, pending = self._targets(), self._pending(now)
        self._episodes = {
            provider: self._episode(provider, since, targets[provider])
            for provider, since in pending.items()
            if provider in targets
        }
        due = [name for name, episode in self._episodes.items() if episode.due <= now]
        await asyncio.gather(*(self._probe(name, targets[name], now) for name in due))

    def _episode(self, provider: str, since: float, target: Target) -> _Episode:
        known = self._episodes.get(provider)
        if known and known.since == since:
            return known
        return _Episode(since, 0, next_probe_at(since, 0, target, self._jitter()))

    async def _probe(self, provider: str, target: Target, now: float) -> None:
        since, probes, _ = self._episodes[provider]
        due = next_probe_at(now, probes + 1, target, self._jitter())
        self._episodes[provider] = _Episode(since, probes + 1, due)
        try:
            answer = await asyncio.to_thread(fetch, target)
        except (OSError, HTTPException, ValueError) as error:
            # A message may quote the header or the URL that the key is in; an errno cannot.
            reason = getattr(error, "reason", None) or type(error).__name__
            log.warning("probe failed: provider=%s error=%s", provider, reason)
            return
        patience = self._exhausted_from()
        signal = read_response(provider, *answer, self._clock(), exhausted_from=patience)
        if signal.verdict is Verdict.UNKNOWN:
            log.warning("probe says nothing: provider=%s status=%d", provider, answer.status)
        if signal.retry_at is not None and signal.retry_at > due:
            self._episodes[provider] = _Episode(since, probes + 1, signal.retry_at)
        try:
            await self._report(signal)
        except StorageError as error:
            log.warning("probe not stored: provider=%s error=%s", provider, error)
