"""The short way for small pushes: what keeps the cost of a single one low.

Callbacks instead of coroutines, because tens of thousands of single pushes a second pass here.
"""

import asyncio

from exporter.intake.ingest import ACCEPTED_ONE, Ingest, Outcome, Send, Status


class SmallPushes:
    """Takes in small pushes of the native format, those that arrive together together."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._singles: list[tuple[bytes, Send]] = []

    def usage(self, body: bytes, key: str, send: Send) -> None:
        """Take in a push by itself."""
        self._ingest.usage(body, key, send)

    def single(self, body: bytes, send: Send) -> None:
        """Take in a push without an `Idempotency-Key`, most likely with one event.

        Events that arrive in the same turn of the loop are read and recorded together, at a
        fraction of the cost. Whatever is not simply accepted is read again by itself, so that
        each gets the answer it would have got alone.
        """
        if body[:1] == b"{" and body[-1:] == b"}" and b"\n" not in body:
            if not self._singles:
                asyncio.get_running_loop().call_soon(self._record)
            self._singles.append((body, send))
        else:
            self._ingest.usage(body, "", send)

    def _record(self) -> None:
        singles, self._singles = self._singles, []

        def send_all(outcome: Outcome) -> None:
            each = ACCEPTED_ONE if outcome.status is Status.STORED else outcome
            for _, send in singles:
                send(each)

        # Each begins with { and ends with }, so none can complete another: no object goes on with
        # a { after a }.
        lines = b"\n".join([body for body, _ in singles]) if len(singles) > 1 else b""
        if not lines or not self._ingest.record_plain(lines, len(singles), send_all):
            for body, send in singles:
                self._ingest.usage(body, "", send)
