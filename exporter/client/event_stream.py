"""Server-sent events, read as they come in (https://html.spec.whatwg.org/#server-sent-events)."""

from collections.abc import Iterator
from typing import NamedTuple

MAX_EVENT = 16 * 2**20
"""Bytes of one event at most: the whole state of some 50,000 scopes."""


class ServerEvent(NamedTuple):
    """One event.

    Attributes:
        name: what `event:` says.
        data: the lines of `data:`, joined.
    """

    name: str
    data: bytes


class EventStream:
    """Turns pieces of any size into whole events; comments (heartbeats) yield none.

    Fields other than `event` and `data` are passed over: every connection begins with the whole
    state, so there is nothing to resume.
    """

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._tail = b""
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """The events that `piece` completes.

        Raises:
            ValueError: an event is longer than the limit.
        """
        *lines, self._tail = (self._tail + piece).split(b"\n")
        for line in lines:
            event = self._line(line.removesuffix(b"\r"))
            if event is not None:
                yield event
        if self._size + len(self._tail) > self._limit:
            raise ValueError(f"an event of more than {self._limit} bytes")

    def _line(self, line: bytes) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > self._limit:
                raise ValueError(f"an event of more than {self._limit} bytes")
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None

    def _dispatch(self) -> ServerEvent | None:
        name, data = self._name, self._data
        self._name, self._data, self._size = "", [], 0
        return ServerEvent(name, b"\n".join(data)) if data else None
