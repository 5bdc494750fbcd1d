"""What an operator may ask of a provider's state."""

from enum import StrEnum
from typing import TypeVar, get_type_hints

import msgspec

from exporter.core.moment import unix_seconds
from exporter.core.quota_state import State
from exporter.core.windows import parse_duration

T = TypeVar("T")

MAX_AHEAD = 366 * 86400.0
"""How far ahead an operator may set `retry_after`, in seconds."""

MAX_REASON = 200
"""Characters of a reason."""


class Wish(StrEnum):
    """What a provider is to be: a state, or again what is counted and foreseen."""

    AVAILABLE = "available"
    QUOTA_EXHAUSTED = "quota_exhausted"
    AUTO = "auto"


class NewState(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /v1/providers/{provider}/state`.

    Attributes:
        state: what it is to be; `auto` takes an operator's earlier word back.
        retry_after: with `quota_exhausted`: RFC 3339, Unix seconds, or a duration such as `2h`.
        model: what it is about, a name or a pattern; absent: all models.
        consumer: the same for who asks.
        reason: a few words that are shown with it.
    """

    state: Wish
    retry_after: float | str | None = None
    model: str = ""
    consumer: str = ""
    reason: str = ""


def decoded(body: bytes, kind: type[T]) -> T:
    """What an operator asks for, of that kind.

    Raises:
        ValueError: it is not that; the message begins with the field.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        words, at, path = str(error).rpartition(" - at `$.")
        if not at:
            raise
        field = path.rstrip("`")
        asked = get_type_hints(kind).get(field)
        if isinstance(asked, type) and issubclass(asked, StrEnum):
            words = f"expected {', '.join(asked)}, got{words.removeprefix('Invalid enum value')}"
        raise ValueError(f"{field}: {words[:1].lower()}{words[1:]:.200}") from error


def wanted(wish: NewState, now: float) -> tuple[State | None, float]:
    """The state that is asked for (None: automatic), and the Unix seconds until which.

    Raises:
        ValueError: not a moment within the next year, or one with another state.
    """
    check_reason(wish.reason)
    if wish.state is not Wish.QUOTA_EXHAUSTED:
        if wish.retry_after is not None:
            raise ValueError("retry_after: only with quota_exhausted")
        return (None if wish.state is Wish.AUTO else State.AVAILABLE), 0.0
    return State.QUOTA_EXHAUSTED, ahead("retry_after", wish.retry_after, now)


def check_reason(reason: str) -> None:
    """See that an operator's words can be shown.

    Raises:
        ValueError: they cannot.
    """
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise ValueError(
            f"reason: expected at most {MAX_REASON} printable characters, got {reason!r:.64}"
        )


def ahead(name: str, given: float | str | None, now: float) -> float:
    """Unix seconds of a moment within the next year; `name` is the field's.

    Raises:
        ValueError: it is none.
    """
    at = _moment(given, now) if isinstance(given, str) else given
    if at is None or not now < at <= now + MAX_AHEAD:
        raise ValueError(
            f"{name}: expected RFC 3339 with a zone, Unix seconds or a duration like 2h, "
            f"within the next year, got {given!r:.64}"
        )
    return at


def _moment(text: str, now: float) -> float | None:
    try:
        return now + parse_duration(text)
    except (ValueError, OverflowError):
        pass
    try:
        return unix_seconds(text)
    except ValueError:
        return None
