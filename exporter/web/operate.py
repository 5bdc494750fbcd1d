"""What an operator may ask of a provider's state."""

import msgspec

from exporter.core.moment import unix_seconds
from exporter.core.quota_state import State

LONGEST = 366 * 86400.0
"""How far ahead an operator may set `retry_after`, in seconds."""


class NewState(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /v1/providers/{provider}/state`."""

    state: State
    retry_after: float | str | None = None


def retry_at(wish: NewState, now: float) -> float | None:
    """Unix seconds until which the provider is to be exhausted; None for available.

    Raises:
        ValueError: not a moment within the next year, or one with `available`.
    """
    if wish.state is State.AVAILABLE:
        if wish.retry_after is not None:
            raise ValueError("retry_after: only with quota_exhausted")
        return None
    at = wish.retry_after
    if isinstance(at, str):
        try:
            at = unix_seconds(at)
        except ValueError:
            at = None
    if at is None or not now < at <= now + LONGEST:
        raise ValueError(
            "retry_after: expected RFC 3339 with a zone or Unix seconds, within the next year, "
            f"got {wish.retry_after!r:.64}"
        )
    return at
