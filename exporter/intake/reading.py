"""What every intake format is read into."""

import reprlib

import msgspec

from exporter.core.signal import Signal
from exporter.core.usage import Usage
from exporter.storage.contract import Batch


class Rejection(msgspec.Struct, frozen=True):
    """An item that could not be used.

    Attributes:
        index: position in the request, from 0.
        error: what is wrong, where, and the offending value (shortened); never a payload.
    """

    index: int
    error: str


class Reading(msgspec.Struct):
    """Everything one request said.

    Attributes:
        usages: tokens to count.
        rejected: items that could not be used.
        signals: what providers said about their limits.
        uncharged: reason -> number of items that were understood and rightly not counted
            (a response-cache hit, a total beside its parts, the same usage from a second source).
        batch: usage that is summed up already, its rejections included; instead of `usages`.
        items: how many there were, where the answer has to say so.
    """

    usages: list[Usage] = msgspec.field(default_factory=list)
    rejected: list[Rejection] = msgspec.field(default_factory=list)
    signals: list[Signal] = msgspec.field(default_factory=list)
    uncharged: dict[str, int] = msgspec.field(default_factory=dict)
    batch: Batch | None = None
    items: int = 0


MAX_ITEMS = 100_000
"""In one request, unless the configuration says otherwise."""


MAX_SHOWN = 200
"""Characters of a value in an error."""


class MalformedBody(ValueError):
    """Nothing in a body could be used; the message says what, where and the value."""


def shown(value: object) -> str:
    """A value as an error names it: its beginning, whatever it is made of."""
    # reprlib shortens each level, and a few levels of short things are long again.
    text = reprlib.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def check_items(items: int, most: int) -> None:
    """Check that a body does not hold too many items, before each of them costs time.

    Raises:
        MalformedBody: it does.
    """
    if items > most:
        raise MalformedBody(f"expected at most {most} items in a request, got {items}")
