"""Responses that many clients get at once: written past ASGI, once their head is out.

What goes through ASGI passes a task and every middleware, for each client anew: that takes ten
times as long as writing.
"""

from typing import Protocol

STREAM = "exporter.stream"
"""The extension of ASGI under which the `Stream` of a request is found."""


class Stream(Protocol):
    """The connection of a response in chunks, which is under way."""

    def write_part(self, framed: bytes) -> bool:
        """Write a part that `frame` made; False, and nothing is written, when the client does not
        keep up."""
        ...

    async def drained(self) -> None:
        """Wait until the client has taken most of what was written."""
        ...


def frame(part: bytes) -> bytes:
    """A part of a response as one chunk (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(part), part)
