"""When a budget starts over: calendar windows in any time zone, and rolling ones.

All instants are Unix seconds (UTC). A calendar window is half-open, `[start, end)`, and
consecutive windows of one period tile time exactly, whatever the zone's clocks do.
"""

import math
import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

MINUTE = 60
HOUR = 3600
DAY = 86_400

MIN_ROLLING_SECONDS = 10
MAX_ROLLING_SECONDS = 35 * DAY
"""Bounds of a rolling period, in seconds."""

# https://prometheus.io/docs/prometheus/latest/querying/basics/#float-literals-and-time-durations
_DURATION = re.compile(r"(?=\d)(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?", re.ASCII)
_UNIT_MILLISECONDS = {
    "y": 365 * DAY * 1000,
    "w": 7 * DAY * 1000,
    "d": DAY * 1000,
    "h": HOUR * 1000,
    "m": MINUTE * 1000,
    "s": 1000,
    "ms": 1,
}


class Window(NamedTuple):
    """One running instance of a period, from `start` up to `end`, in Unix seconds."""

    start: float
    end: float


class Unit(StrEnum):
    """A calendar period; weeks start on Monday."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Calendar:
    """A period that starts over when the clocks of `zone` say so."""

    unit: Unit
    zone: ZoneInfo

    rolling = False

    @property
    def name(self) -> str:
        """The `period` label: `day`, `week`, …"""
        return self.unit.value

    @property
    def longest(self) -> int:
        """Seconds that no window of this period exceeds (weeks and months hold a DST change)."""
        return _MAX_SECONDS[self.unit]

    def window(self, now: float) -> Window:
        """Return the window that contains `now`."""
        second = math.floor(now)
        # Providers ask for the same instant, events for instants close together: the window at
        # the minute's start serves them all, unless a boundary fell inside that minute.
        window = _calendar_window(self.unit, self.zone, second - second % MINUTE)
        return window if now < window.end else _calendar_window(self.unit, self.zone, second)


@dataclass(frozen=True, slots=True)
class Rolling:
    """A period that looks back `seconds` from any moment."""

    seconds: float

    rolling = True

    @property
    def name(self) -> str:
        """The `period` label: `5h`, `1h30m`, …"""
        return format_duration(self.seconds)

    @property
    def longest(self) -> float:
        """The length in seconds."""
        return self.seconds

    def window(self, now: float) -> Window:
        """Return the window that ends at `now`."""
        return Window(now - self.seconds, now)


@dataclass(frozen=True, slots=True)
class Reported:
    """A period whose windows a provider reports: when one begins is not ours to say.

    Attributes:
        name: the provider's own, the `period` label.
        seconds: length of a window.
        rolling: it never starts over, but comes back all the time, all of it within its length.
    """

    name: str
    seconds: float
    rolling: bool = False

    @property
    def longest(self) -> float:
        """The length in seconds."""
        return self.seconds

    def window(self, now: float) -> Window:
        """Return the window that ends at `now`, for want of the reported one."""
        return Window(now - self.seconds, now)


Period = Calendar | Rolling | Reported


def parse_period(text: str, zone: ZoneInfo) -> Period:
    """Read `day` (its midnights are those of `zone`) or a duration such as `5h`.

    Raises:
        ValueError: neither a calendar unit nor a duration of 10 seconds to 35 days.
    """
    if text in list(Unit):
        return Calendar(Unit(text), zone)
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise ValueError(f"expected {', '.join(Unit)} or a duration like 5h") from None
    if not MIN_ROLLING_SECONDS <= seconds <= MAX_ROLLING_SECONDS:
        raise ValueError("expected a duration from 10s to 35d")
    return Rolling(seconds)


def parse_duration(text: str) -> float:
    """Return the seconds of a duration in Prometheus' notation: `30s`, `1h30m`, `7d`.

    Raises:
        ValueError: not such a duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("expected a duration like 30s, 1h30m or 7d")
    parts = zip(match.groups(), _UNIT_MILLISECONDS.items(), strict=True)
    return sum(int(part.removesuffix(unit)) * size for part, (unit, size) in parts if part) / 1000


def format_duration(seconds: float) -> str:
    """Write a duration in days and smaller units, the way Prometheus prints it.

    Weeks and years are left out: `7d` and `30d` say more than `1w` and `4w2d`.
    """
    left = round(seconds * 1000)
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNIT_MILLISECONDS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def utc_offset(zone: ZoneInfo, now: float) -> float:
    """Return how many seconds the clocks of `zone` are ahead of UTC at `now`."""
    # Rounding to microseconds could step over a change of the offset: flooring cannot.
    offset = datetime.fromtimestamp(math.floor(now), zone).utcoffset()
    assert offset is not None  # noqa: S101 - a ZoneInfo knows the offset of every instant
    return offset.total_seconds()


# A zone shifts by at most a day at once (Samoa crossed the date line by skipping one), and
# fixed-length windows are only ever cut short.
_MAX_SECONDS = {
    Unit.MINUTE: MINUTE,
    Unit.HOUR: HOUR,
    Unit.DAY: 2 * DAY,
    Unit.WEEK: 8 * DAY,
    Unit.MONTH: 32 * DAY,
}


@lru_cache(maxsize=4096)
def _calendar_window(unit: Unit, zone: ZoneInfo, second: int) -> Window:
    if unit is Unit.MINUTE:
        return _aligned_window(MINUTE, zone, second)
    if unit is Unit.HOUR:
        return _aligned_window(HOUR, zone, second)
    first = _first_day(unit, datetime.fromtimestamp(second, zone).date())
    following = _following(unit, first)
    start, end = _midnight(zone, first), _midnight(zone, following)
    # Clocks set back across midnight show the old date again after the new day has begun.
    while second >= end:
        following = _following(unit, following)
        start, end = end, _midnight(zone, following)
    return Window(start, end)


def _first_day(unit: Unit, day: date) -> date:
    if unit is Unit.WEEK:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if unit is Unit.MONTH else day


def _following(unit: Unit, first: date) -> date:
    if unit is Unit.MONTH:
        return _first_day(unit, first + timedelta(days=31))
    return first + timedelta(days=7 if unit is Unit.WEEK else 1)


def _midnight(zone: ZoneInfo, day: date) -> int:
    """Return when `day` begins: the first of two midnights, or the jump over a missing one."""
    midnight = datetime.combine(day, time(), zone)
    first, second = int(midnight.timestamp()), int(midnight.replace(fold=1).timestamp())
    # PEP 495: only for a time that clocks skip does fold=1 give the earlier instant.
    return _offset_change(zone, second, first) if second < first else first


def _aligned_window(length: int, zone: ZoneInfo, second: int) -> Window:
    """Return the window of fixed `length` in which clocks show the same hour or minute.

    Shifts by whole lengths leave the alignment as it is, so that an hour which clocks show twice
    is two windows. Another shift (Lord Howe Island: 30 minutes) cuts the window it falls in.
    """
    phase = utc_offset(zone, second) % length
    start = int((second + phase) // length * length - phase)
    end = start + length
    if utc_offset(zone, start) % length != phase:
        start = _offset_change(zone, start, second)
    if utc_offset(zone, end) % length != phase:
        end = _offset_change(zone, second, end)
    return Window(start, end)


def _offset_change(zone: ZoneInfo, before: int, after: int) -> int:
    """Return the second in (before, after] from which the offset is the one at `after`."""
    new = utc_offset(zone, after)
    seconds = range(before, after)
    return before + bisect_left(seconds, True, key=lambda second: utc_offset(zone, second) == new)
