"""The short way for small pushes: what keeps the cost of a single one low.

Callbacks instead of coroutines, because tens of thousands of single pushes a second pass here.
"""

import asyncio
import logging

from exporter.intake import native
from exporter.intake.format import Client, Push
from exporter.intake.ingest import Send
from exporter.intake.outcome import ACCEPTED_ONE, UNAVAILABLE, Outcome, Status
from exporter.web.site import Site

_MEDIA_TYPE = native.FORMAT.media_types[0]
_NOBODY = Client()  # of pushes that are all accepted nothing is logged

log = logging.getLogger("exporter")


class SmallPushes:
    """Takes in small pushes of the native format; those that arrive together, together."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._singles: list[tuple[bytes, Client, Send]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def push(self, body: bytes, client: Client, key: str, send: Send) -> None:
        """Take in a push.

        Events without a key that arrive in the same turn of the loop are read and recorded
        together, at a fraction of the cost. Whatever is not simply accepted is read again by
        itself, so that each gets the answer it would have got alone.
        """
        if not key and body[:1] == b"{" and body[-1:] == b"}" and b"\n" not in body:
            if not self._singles:
                asyncio.get_running_loop().call_soon(self._push_singles)
            self._singles.append((body, client, send))
        else:
            self._push(Push(body, _MEDIA_TYPE, client, key), send)

    def _push(self, push: Push, send: Send) -> None:
        if not self._site.ingest.push_small(push, send):
            task = asyncio.get_running_loop().create_task(self._push_aside(push, send))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _push_aside(self, push: Push, send: Send) -> None:
        try:
            outcome = await self._site.ingest.push(native.FORMAT, push)
        except Exception:  # nobody else would hear of it, and the client is to be answered
            log.exception("cannot take in a push")
            outcome = UNAVAILABLE
        send(outcome)

    def _push_singles(self) -> None:
        singles, self._singles = self._singles, []

        def send_all(outcome: Outcome) -> None:
            each = ACCEPTED_ONE if outcome.status is Status.STORED else outcome
            for _, _, send in singles:
                send(each)

        # Each begins with { and ends with }, so none can complete another: no object goes on with
        # a { after a }.
        lines = b"\n".join([body for body, _, _ in singles]) if len(singles) > 1 else b""
        together = Push(lines, _MEDIA_TYPE, _NOBODY)
        if not lines or not self._site.ingest.push_plain(together, len(singles), send_all):
            for body, client, send in singles:
                self._push(Push(body, _MEDIA_TYPE, client), send)
