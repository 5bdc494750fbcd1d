"""The states as server-sent events: the whole first, then every change.

https://html.spec.whatwg.org/multipage/server-sent-events.html

A watcher that keeps up is written to directly, the same bytes to all of them: going through ASGI
for each would take ten times as long. One that does not keep up holds no queue: it reads on in
the feed when its client has taken what it was given, or takes the whole state anew.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import NoReturn

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from exporter.availability import CachedAnswer
from exporter.service import Service
from exporter.web.exposition import Family, counter, gauge
from exporter.web.reply import RETRY_AFTER
from exporter.web.stream import STREAM, Stream, frame
from exporter.web.toolkit.auth import Authoriser, Decision, Right

PATH = "/v1/watch"

HEARTBEAT_SECONDS = 15.0
AT_ONCE = 100  # watchers that are written to before others have their turn: about a millisecond
LOOK_SECONDS = 1.0  # the clock may be set, and then nothing ends when it was expected to
SHARE = 2  # times as long as telling all watchers took, others have the processor to themselves

_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]
_HEARTBEAT = b": heartbeat\n\n"


class _Watcher:
    """One who watches.

    Attributes:
        stream: where it is written to.
        authorization: what it may watch by.
        granted_by: who found that it may.
        position: in the feed, up to which it was told; None before the whole state.
    """

    def __init__(
        self,
        stream: Stream,
        authorization: bytes | None,
        granted_by: Authoriser,
        position: int | None,
    ) -> None:
        self.stream = stream
        self.authorization = authorization
        self.granted_by = granted_by
        self.position = position
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Let it look whether it is behind, or to end."""
        self._woken.set()

    async def woken(self) -> None:
        """Wait for `wake`."""
        await self._woken.wait()
        self._woken.clear()


class Watchers:
    """All who watch; `run` has to run meanwhile.

    Args:
        service: whose states.
        clock: Unix seconds.
        names: other name of a provider -> the names that scopes have.
    """

    def __init__(
        self,
        service: Service,
        clock: Callable[[], float],
        names: Callable[[], Mapping[str, Collection[str]]],
    ) -> None:
        self._service = service
        self._clock = clock
        self._names = names
        self._open: set[_Watcher] = set()
        self._current: dict[_Watcher, None] = {}  # those that are told by `run`
        self._closing = False
        self._authoriser = Authoriser()
        self._verifying = asyncio.Lock()
        self._changed = asyncio.Event()
        self._framed: dict[int, bytes | None] = {}  # from a position to the present one
        self._whole: tuple[CachedAnswer, int, bytes] | None = None
        self._resyncs = 0
        service.availability.feed.added = self._notice

    def __len__(self) -> int:
        return len(self._open)

    def collect(self) -> Iterator[Family]:
        """Yield what is counted of them; on the event loop's thread."""
        watching = gauge("exporter_watchers", "Streams of changes that are open.")
        watching.samples[()] = len(self._open)
        yield watching
        resyncs = counter(
            "exporter_watch_resyncs",
            "Whole states sent to watchers that did not keep up, or after a reload.",
        )
        resyncs.samples[()] = self._resyncs
        yield resyncs

    def _notice(self) -> None:
        self._framed.clear()
        self._changed.set()

    def restart(self, authoriser: Authoriser) -> None:
        """Send the whole state to everybody who may watch by now; the streams of others end."""
        self._whole = None
        self._authoriser = authoriser
        self._service.availability.feed.restart()
        for watcher in list(self._current):
            if watcher.granted_by is not self._authoriser:
                del self._current[watcher]  # nothing more is told before it is asked again
                watcher.wake()

    def close(self) -> None:
        """End all streams, and take no more."""
        self._closing = True
        for watcher in self._open:
            watcher.wake()

    # -- one watcher --

    async def watch(self, request: Request) -> Response:
        """Answer `GET /v1/watch`."""
        limit = self._service.config.limits.watchers
        if self._closing or len(self._open) >= limit:
            raise HTTPException(
                503,
                f"expected at most {limit} watchers, poll /v1/availability instead",
                {"retry-after": RETRY_AFTER},
            )
        return _Events(self, request.headers.get("last-event-id", ""))

    async def serve(self, scope: Scope, receive: Receive, send: Send, last_id: str) -> None:
        """Serve one who was told up to the event of that id."""
        feed = self._service.availability.feed
        given = dict(scope["headers"]).get(b"authorization")
        watcher = _Watcher(
            scope["extensions"][STREAM], given, self._authoriser, feed.position_of(last_id)
        )
        leaving = asyncio.create_task(_disconnected(receive))
        leaving.add_done_callback(lambda _: watcher.wake())
        self._open.add(watcher)
        try:
            await self._serve(watcher, send, leaving)
        finally:
            self._open.discard(watcher)
            leaving.cancel()

    async def _serve(self, watcher: _Watcher, send: Send, leaving: "asyncio.Task[None]") -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        part = self._behind(watcher) or _HEARTBEAT  # the head leaves with the first part
        while not leaving.done() and not self._closing and await self._may_watch(watcher):
            if part:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            else:
                await self._follow(watcher)
            part = self._behind(watcher)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _may_watch(self, watcher: _Watcher) -> bool:
        """Whether a watcher still may, after a reload."""
        while watcher.granted_by is not (authoriser := self._authoriser):
            async with self._verifying:  # or a few hundred would be too many passwords at once
                decision = authoriser.allowed(watcher.authorization, Right.READ)
                if decision is Decision.UNVERIFIED and watcher.authorization is not None:
                    decision = await authoriser.verify(watcher.authorization, Right.READ)
            if decision is not Decision.GRANTED:
                return False
            watcher.granted_by = authoriser
        return True

    async def _follow(self, watcher: _Watcher) -> None:
        """Leave a watcher to `run`, until it does not keep up."""
        self._current[watcher] = None
        try:
            await watcher.woken()
        finally:
            self._current.pop(watcher, None)
        await watcher.stream.drained()

    # -- what they are told --

    def _behind(self, watcher: _Watcher) -> bytes:
        """What a watcher has not been told, as of now; it counts as told."""
        part = None if watcher.position is None else self._since(watcher.position)
        if part is None:
            self._resyncs += watcher.position is not None
            part = self._whole_state()
        watcher.position = self._service.availability.feed.position
        return part

    def _since(self, position: int) -> bytes | None:
        """The events after a position; None when they are not known any more."""
        feed = self._service.availability.feed
        changes = feed.since(position)
        if changes is None:
            return None
        return b"".join(_event(b"change", feed.id_of(at), change) for at, change in changes)

    def _framed_since(self, position: int) -> bytes | None:
        """The same, framed once for all."""
        if position not in self._framed:
            part = self._since(position)
            self._framed[position] = None if part is None else frame(part)
        return self._framed[position]

    def _whole_state(self) -> bytes:
        known = self._service.availability
        answer, kept = known.all(self._clock()), self._whole
        position = known.feed.position
        if kept is not None and kept[0] is answer and kept[1] == position:
            return kept[2]
        names = msgspec.json.encode(self._names())
        state = answer.body[:-1] + b',"names":' + names + b"}"
        event = _event(b"state", known.feed.id_of(position), state)
        self._whole = answer, position, event
        return event

    async def run(self) -> NoReturn:
        """Tell every change, and say now and then that nothing changed."""
        beat_at = time.monotonic() + HEARTBEAT_SECONDS
        while True:
            await self._wait(beat_at - time.monotonic())
            began = time.monotonic()
            known = self._service.availability
            known.advance(self._clock())
            await self._tell()
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + HEARTBEAT_SECONDS
                await self._beat()
            await asyncio.sleep(SHARE * (time.monotonic() - began))

    async def _wait(self, longest: float) -> None:
        """Until something changes, or ends by itself, or for that long."""
        end = self._service.availability.next_end - self._clock()
        try:
            async with asyncio.timeout(max(0.0, min(longest, end, LOOK_SECONDS))):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    async def _tell(self) -> None:
        feed = self._service.availability.feed
        async for watcher in self._in_turns():
            if watcher.position is None or watcher.position == feed.position:
                continue
            part = self._framed_since(watcher.position)
            if part is not None and watcher.stream.write_part(part):
                watcher.position = feed.position
            else:
                watcher.wake()

    async def _beat(self) -> None:
        part = frame(_HEARTBEAT)
        async for watcher in self._in_turns():
            watcher.stream.write_part(part)

    async def _in_turns(self) -> AsyncIterator[_Watcher]:
        for count, watcher in enumerate(list(self._current), 1):
            if watcher in self._current:
                yield watcher
            if count % AT_ONCE == 0:
                await asyncio.sleep(0)


class _Events(Response):
    """The answer to one who watches."""

    def __init__(self, watchers: Watchers, last_id: str) -> None:
        super().__init__(media_type="text/event-stream")
        self._watchers = watchers
        self._last_id = last_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it to its end."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._watchers.serve(scope, receive, send, self._last_id)


def _event(name: bytes, number: str, data: bytes) -> bytes:
    return b"event: %b\nid: %b\ndata: %b\n\n" % (name, number.encode(), data)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
