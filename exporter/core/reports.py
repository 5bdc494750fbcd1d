"""What a provider reported of one of its limits, now and in the windows before."""

from math import inf

import msgspec

from exporter.core.budget import BudgetUnit
from exporter.core.clock import stamped_ahead
from exporter.core.signal import Limit
from exporter.core.windows import DAY, HOUR

MIN_SHARE_SECONDS = HOUR
MIN_AMOUNT_SECONDS = DAY
"""Seconds from which a window is a quota of its own: shares are those of plans, none of which is
shorter; a shorter one in numbers is a rate limit."""

MAX_WINDOWS = 8
"""Windows remembered of a limit, the running one included."""

COURSE = 28
"""Parts of a window of each of which one report is remembered: of a week six hours."""

SETBACK = 0.02
"""A share that falls by more was set back by the provider; by less, it was rounded."""


class WindowReports(msgspec.Struct, frozen=True, array_like=True):
    """What was reported in one window, in Unix seconds and shares of the whole.

    Attributes:
        ends: when it was to start over, as last said.
        begin_at, begin_used: from where the provider counted: the window's start, or a setback.
        first_at, first_used: the first report.
        last_at, last_used: the last one.
        course: moments and shares of some between the first and the last, in the order of time.
    """

    ends: float
    begin_at: float
    begin_used: float
    first_at: float
    first_used: float
    last_at: float
    last_used: float
    course: tuple[tuple[float, float], ...] = ()


class Report(msgspec.Struct, frozen=True, array_like=True):
    """What a provider last reported of a limit, and before.

    Attributes:
        limit: as it was last reported.
        at: when that was, in Unix seconds.
        windows: the windows seen so far, oldest first; none of a limit that is no quota.
    """

    limit: Limit
    at: float
    windows: tuple[WindowReports, ...] = ()

    def followed_by(self, limit: Limit, at: float, now: float = inf) -> "Report":
        """With what was reported at `at`; an older report than the last changes nothing.

        Of what a clock stamped that was ahead of `now` nothing is kept.
        """
        if stamped_ahead(self.at, now):
            believed = tuple(one for one in self.windows if not stamped_ahead(one.last_at, now))
            return Report(limit, at, _continued(believed, limit, at))
        if at < self.at:
            return self
        ends = self.limit.reset_at
        if limit.reset_at is None and ends is not None and ends > at:
            limit = msgspec.structs.replace(limit, reset_at=ends)  # not every response says it
        return Report(limit, at, _continued(self.windows, limit, at))

    def merged(self, other: "Report", now: float = inf) -> "Report":
        """What two replicas know together at `now`; order and repetition do not matter.

        What a clock stamped that was ahead of `now` gives way to what is not.
        """
        believed = [one for one in (self, other) if not stamped_ahead(one.at, now)]
        if len(believed) == 1:
            return believed[0]
        early, late = sorted((self, other), key=_knowledge)
        if not late.windows:
            return late
        first, *rest = late.windows
        older = [one for one in early.windows if one.last_at < first.first_at]
        if older and _same_window(older[-1], first.ends, late.limit) and not first.begin_used:
            seen = older.pop()
            first = msgspec.structs.replace(
                first, first_at=seen.first_at, first_used=seen.first_used
            )
        return Report(late.limit, late.at, (*older, first, *rest)[-MAX_WINDOWS:])

    def forgotten(self, now: float) -> bool:
        """Nothing was reported for as long as the window is."""
        return now - self.at >= (self.limit.window or 0.0)


def first_report(limit: Limit, at: float) -> Report:
    """What is known once a limit has been reported for the first time."""
    return Report(limit, at, _continued((), limit, at))


def share_of(limit: Limit) -> float | None:
    """The share of a limit that is used, at least 0; None where it does not say."""
    if limit.utilization is not None:
        return limit.utilization
    if limit.limit and limit.remaining is not None:
        return max(0.0, 1 - limit.remaining / limit.limit)
    return None


def is_quota(limit: Limit) -> bool:
    """Whether a limit is a quota of its own: no rate limit, no balance that never starts over."""
    if limit.window is None or limit.reset_at is None or share_of(limit) is None:
        return False
    if limit.unit == BudgetUnit.SHARE:
        return limit.window >= MIN_SHARE_SECONDS
    return is_amount(limit)


def is_amount(limit: Limit) -> bool:
    """Whether a limit is an amount per day or longer that we can count."""
    if limit.unit == BudgetUnit.SHARE or limit.unit not in list(BudgetUnit):
        return False
    whole = (limit.limit or 0.0) * BudgetUnit(limit.unit).scale
    return whole >= 1 and (limit.window or 0.0) >= MIN_AMOUNT_SECONDS


def _knowledge(one: Report) -> tuple[float, int, float, bytes]:
    """By what one of two reports knows more: it is later, or goes back further."""
    begin = one.windows[0].first_at if one.windows else 0.0
    return one.at, len(one.windows), -begin, msgspec.json.encode(one)


def _continued(
    windows: tuple[WindowReports, ...], limit: Limit, at: float
) -> tuple[WindowReports, ...]:
    used, ends, length = share_of(limit), limit.reset_at, limit.window
    if used is None or ends is None or length is None or limit.refills or not is_quota(limit):
        return windows
    last = windows[-1] if windows else None
    if last is None or at >= last.ends or not _same_window(last, ends, limit):
        return (*windows, WindowReports(ends, ends - length, 0.0, at, used, at, used))[
            -MAX_WINDOWS:
        ]
    if used < last.last_used - SETBACK:
        return (*windows, WindowReports(ends, at, used, at, used, at, used))[-MAX_WINDOWS:]
    course, before = last.course, last.course[-1][0] if last.course else last.first_at
    if at - before >= length / COURSE:
        course = (*course, (at, used))[-COURSE:]
    last = msgspec.structs.replace(last, ends=ends, last_at=at, last_used=used, course=course)
    return (*windows[:-1], last)


def _same_window(one: WindowReports, ends: float, limit: Limit) -> bool:
    # Resets come as durations, too, and are a little off each time.
    return abs(ends - one.ends) <= (limit.window or 0.0) / 2
