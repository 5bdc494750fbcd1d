"""Numbers, durations and instants as providers write them; None for what makes no sense."""

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MILLISECONDS_FROM = 1e12
"""Unix milliseconds passed this in 2001; Unix seconds stay below it past the year 9999."""

EPOCH_FROM = 1e9
"""A smaller number counts seconds from now: 1e9 s are 31 years, or September 2001."""

_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_PARTS = re.compile(r"(\d+(?:\.\d+)?) ?(milli|ms|us|µs|ns|m(?!o)|[dhs])[a-z]*", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+)\.)?(\d\d):(\d\d):(\d\d)", re.ASCII)
DURATION = (
    r"(?:\d+\.)?\d\d:\d\d:\d\d|(?:\d+(?:\.\d+)? ?(?:milli|ms|us|µs|ns|m(?!o)|[dhs])[a-z]* ?)+"
)
"""A regular expression, lower case, of what `duration` reads beside plain numbers."""
_DURATION = re.compile(DURATION, re.ASCII)
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "milli": 1e-3}
_MAX_LENGTH = 100


def number(value: object) -> float | None:
    """A finite number of at least 0, written or as it is."""
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if len(text) < _MAX_LENGTH and _NUMBER.fullmatch(text) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) and result >= 0 else None


def duration(value: object) -> float | None:
    """Seconds: `60`, Go's `6m0s` and `120ms`, protobuf's `37s`, .NET's `00:14:23`, `5 hours`."""
    seconds = number(value)
    if seconds is not None or not isinstance(value, str) or len(value) >= _MAX_LENGTH:
        return seconds
    text = value.strip().lower()
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, left = (int(part or 0) for part in clock.groups())
        return days * 86400.0 + hours * 3600.0 + minutes * 60.0 + left
    if not _DURATION.fullmatch(text):
        return None
    # Units below a millisecond are as good as none.
    return sum(float(count) * _SECONDS.get(unit, 0.0) for count, unit in _PARTS.findall(text))


def moment(value: object, at: float) -> float | None:
    """Unix seconds of an instant: epoch seconds or milliseconds, RFC 3339, an HTTP date, or a
    duration from `at` on."""
    if (amount := number(value)) is not None:
        if amount >= MILLISECONDS_FROM:
            return amount / 1000
        return amount if amount >= EPOCH_FROM else at + amount
    if not isinstance(value, str) or len(value) >= _MAX_LENGTH:
        return None
    if (wait := duration(value)) is not None:
        return at + wait
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            instant = parse(value.strip())
            return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, IndexError, TypeError):
            # Not written this way; `parsedate_to_datetime` fails in all these ways.
            continue
    return None
