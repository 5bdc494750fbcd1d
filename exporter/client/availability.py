"""Who is available, answered from a local copy: no request waits for the exporter."""

import asyncio
import contextlib
import ssl
import threading
import time
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from exporter.client.arguments import check_positive
from exporter.client.scopes import Outlook
from exporter.client.watcher import Watcher

Candidate = str | tuple[str, str]
"""A provider, or a provider and a model."""


class Availability:
    """A copy of an exporter's states, kept current in the background.

    Questions are answered in memory, from any thread or coroutine and after a fork, exactly at the
    moment: a scope whose `retry_after` has passed is available. It **fails open**: before the
    first copy, and once the exporter has not been heard for `max_age` seconds, everything is
    allowed. Nothing but the constructor raises.

    Args:
        url: where the exporter listens, `http://host:10042`.
        token: bearer token with the right to read, where the exporter asks for one.
        max_age: seconds for which a copy is used after the exporter was last heard; it sends a
            heartbeat every 15 s.
        poll_interval: seconds between two polls where events do not get through.
        timeout: seconds for each wait on the network.
        tls: for a private certificate authority or a client certificate.

    Attributes:
        max_age: as given.

    Raises:
        ValueError: an argument of the constructor is unusable.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        max_age: float = 60.0,
        poll_interval: float = 0.5,
        timeout: float = 5.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        check_positive(
            max_age=max_age,
            poll_interval=poll_interval,
            timeout=timeout,
        )
        self.max_age = max_age
        self._watcher = Watcher(
            url, token, tls, poll_interval=poll_interval, timeout=timeout, max_age=max_age
        )
        # The thread holds on to the watcher alone: it ends with this object, or at exit.
        self._close = weakref.finalize(self, self._watcher.close)
        self._watcher.ensure_started()

    # -- questions --

    def allows(self, provider: str, model: str = "", consumer: str = "") -> bool:
        """Whether the exporter knows of nothing that such a request would be refused for."""
        watcher = self._watcher
        table = watcher.table
        outlook = table.answers.get((provider, model, consumer))
        if outlook is None:
            outlook = self._work_out(provider, model, consumer)
        return outlook[0] <= time.time() or time.monotonic() > watcher.usable_until

    def choose(self, candidates: Sequence[Candidate], consumer: str = "") -> Candidate:
        """The best of `candidates`; of equals the first.

        Available before throttled before exhausted, then the less likely to run out, then the one
        that comes back sooner. Where all are exhausted it is still one of them: ask `allows`.

        Args:
            candidates: providers, or pairs of provider and model, in order of preference.

        Raises:
            ValueError: there are none.
        """
        if not candidates:
            raise ValueError("candidates: expected at least one")
        if time.monotonic() > self._watcher.usable_until:
            self._watcher.ensure_started()
            return candidates[0]
        now = time.time()
        return min(candidates, key=lambda one: _rank(self._outlook(one, consumer), now))

    async def until_allowed(
        self, provider: str, model: str = "", consumer: str = "", *, timeout: float | None = None
    ) -> bool:
        """Waits until `allows` says yes; False when that takes longer than `timeout` seconds."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(changed.set)

        with self._watcher.listening(wake):
            while not self.allows(provider, model, consumer):
                left = end - time.monotonic()
                if left <= 0:
                    return False
                out_until = self._outlook((provider, model), consumer).out_until
                usable_for = self._watcher.usable_until - time.monotonic()
                await _wait(changed, min(left, out_until - time.time(), usable_for))
                changed.clear()
        return True

    # -- the copy --

    @property
    def age(self) -> float | None:
        """Seconds since the exporter was last heard; None before the first copy."""
        return self._watcher.age

    @property
    def fresh(self) -> bool:
        """Whether there is a copy young enough to be used; while not, everything is allowed."""
        return time.monotonic() <= self._watcher.usable_until

    @property
    def mode(self) -> str:
        """`watch` or `poll`, whichever keeps the copy; empty while the exporter is away."""
        return self._watcher.mode

    def wait(self, timeout: float = 1.0) -> bool:
        """Waits for a copy, for `timeout` seconds at most; whether there is one.

        For the start of a program: nothing else here waits.
        """
        arrived = threading.Event()
        with self._watcher.listening(arrived.set):
            return self.fresh or arrived.wait(timeout)

    # -- its end --

    def close(self) -> None:
        """Ends the thread; from now on everything is allowed."""
        self._close()

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
        """Waits for a copy as `wait` does, without blocking the event loop."""
        await asyncio.to_thread(self.wait)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _work_out(self, provider: str, model: str, consumer: str) -> Outlook:
        self._watcher.ensure_started()
        return self._watcher.table.outlook(provider, model or "", consumer or "")

    def _outlook(self, candidate: Candidate, consumer: str) -> Outlook:
        provider, model = (candidate, "") if isinstance(candidate, str) else candidate
        known = self._watcher.table.answers.get((provider, model, consumer))
        return known or self._work_out(provider, model, consumer)


def _rank(outlook: Outlook, now: float) -> tuple[bool, bool, float, float]:
    out, throttled = outlook.out_until > now, outlook.throttled_until > now
    back_at = max(outlook.out_until if out else now, outlook.throttled_until if throttled else now)
    return out, throttled, outlook.probability, back_at


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(seconds, 0.0)):
            await event.wait()
