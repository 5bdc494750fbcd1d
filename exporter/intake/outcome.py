"""What became of a push."""

from enum import Enum, auto
from typing import NamedTuple

from exporter.storage.contract import Answer


class Status(Enum):
    """What became of a push.

    Attributes:
        STORED: it is durable.
        MALFORMED: nothing in it could be used.
        OVERLOADED: too much waits to be stored; to be sent again.
        UNAVAILABLE: it could not be stored; to be sent again.
    """

    STORED = auto()
    MALFORMED = auto()
    OVERLOADED = auto()
    UNAVAILABLE = auto()


class Outcome(NamedTuple):
    """What became of a push, and how much of it.

    Attributes:
        status: see `Status`.
        answer: with `STORED` and, where there were items, with `MALFORMED`.
        error: what is wrong with the request as a whole, or with the exporter.
        items: how many items the push had, where its answer has to say so.
    """

    status: Status
    answer: Answer | None = None
    error: str = ""
    items: int = 0


ACCEPTED_ONE = Outcome(Status.STORED, Answer(1))
"""What becomes of nearly every single push: always this very object."""

OVERLOADED = Outcome(Status.OVERLOADED, error="too many requests are waiting to be stored")
UNAVAILABLE = Outcome(Status.UNAVAILABLE, error="cannot store right now")
