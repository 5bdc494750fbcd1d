"""Moments as people and programs write them."""

from datetime import UTC, datetime


def unix_seconds(text: str) -> float:
    """Unix seconds of an RFC 3339 text.

    Raises:
        ValueError: not such a text, or one without an offset: it could mean any zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("expected an offset from UTC")
    return moment.timestamp()


def rfc3339(at: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC, to the second or finer where there is a fraction."""
    return (
        None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
    )
