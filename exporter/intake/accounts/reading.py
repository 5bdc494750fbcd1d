"""What is asked of an API about an account, and what an answer says."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from exporter.core.daily_use import DAY_SECONDS
from exporter.core.provider_count import COMPARED_DAYS, DayCount
from exporter.core.signal import Limit
from exporter.intake.signals.values import number


class AccountError(ValueError):
    """An answer is not what the API documents; the message says what was expected."""


class Page(NamedTuple):
    """What one answer says.

    Attributes:
        limits: those of the account, or of single models.
        counts: of UTC days, several of the same day to be added.
        following: the query parameters that ask for the next page; empty: it is the last.
    """

    limits: tuple[Limit, ...] = ()
    counts: tuple[DayCount, ...] = ()
    following: Mapping[str, str] = {}


class Question(NamedTuple):
    """One request, perhaps for the first of several pages.

    Attributes:
        path: from the base URL on, without a query.
        query: its parameters.
        read: reads an answer with status 200, at a moment in Unix seconds.
    """

    path: str
    query: tuple[tuple[str, str], ...]
    read: Callable[[bytes, float], Page]


def body(data: bytes) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        AccountError: it is something else.
    """
    return as_object(decoded(data))


def decoded(data: bytes) -> object:
    """The JSON value in a body.

    Raises:
        AccountError: it is none.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise AccountError("expected JSON") from None  # the error would quote it


def as_object(value: object) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise AccountError("expected a JSON object")
    return value


def items(found: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The objects in a list that has to be there."""
    some = found.get(key)
    if not isinstance(some, list):
        raise AccountError(f"expected a list {key}")
    return map(as_object, some)


def amount(found: Mapping[str, Any], key: str) -> float:
    """A count of at least 0; 0 where there is none."""
    value = found.get(key)
    if value is None:
        return 0.0
    counted = number(value)
    if counted is None:
        raise AccountError(f"expected a number {key}")
    return counted


def first_day(now: float) -> int:
    """The first UTC day to ask for, in Unix seconds."""
    return (int(now // DAY_SECONDS) - COMPARED_DAYS) * DAY_SECONDS


def rfc3339_day(seconds: int) -> str:
    """A moment as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
