"""Moments as people and programs write them."""

from datetime import datetime


def unix_seconds(text: str) -> float:
    """Unix seconds of an RFC 3339 text.

    Raises:
        ValueError: not such a text, or one without an offset: it could mean any zone.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("expected an offset from UTC")
    return moment.timestamp()
