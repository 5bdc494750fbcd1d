"""The verdict over a response: is a quota spent, and until when?"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from exporter.core.signal import Limit, Refusal, Signal, Verdict
from exporter.core.windows import DAY, HOUR, Calendar, Unit
from exporter.intake.signals import anthropic, codex, errors, google, ratelimit
from exporter.intake.signals.response import QUOTA, Response, Window, objects, reduce
from exporter.intake.signals.values import duration, moment, number

FAMILIES: tuple[Callable[[Response], Iterable[Window]], ...] = (
    anthropic.windows,
    codex.windows,
    ratelimit.windows,
    google.windows,
    errors.windows,
)

SHORTEST_QUOTA = HOUR
"""Seconds: a window at least this long is a quota, a shorter one a rate limit."""

UNTOLD_WAIT = 60.0
UNTOLD_QUOTA = float(HOUR)
"""Seconds to wait where a refusal gives no usable end. A spent balance has none, and may be
filled up at any time: it is asked again after an hour."""

MAX_WAIT = float(HOUR)
MAX_QUOTA = 35.0 * DAY
"""Seconds: bounds of what a provider may ask for. No quota is longer than a month, and dates
like 9999-12-31 have been seen."""

LATEST = 253_402_300_800.0 - 40 * DAY
"""Unix seconds: calendars end with the year 9999."""

_REASONS = {Verdict.THROTTLED: Refusal.RATE, Verdict.EXHAUSTED: Refusal.QUOTA}

_MAX_LIMITS = 32
_UNTIDY = re.compile(r"[^a-z0-9_.]+")
_UTC = ZoneInfo("UTC")
_CALENDAR = {DAY: Unit.DAY, errors.WEEK: Unit.WEEK, errors.MONTH: Unit.MONTH}


def read_response(
    provider: str,
    status: int,
    headers: Mapping[str, Any],
    body: bytes | str | Mapping[str, Any] | None,
    at: float,
    model: str = "",
) -> Signal:
    """Say what a response says about the quota behind it.

    Header names may be in any case, values may be lists. The body is searched, not kept.
    `model` is what was asked for, where that is known.

    Raises:
        ValueError: no provider, no HTTP status, or `at` outside the years 1970 to 9999.
    """
    if not provider:
        raise ValueError("provider: expected a name, got ''")
    if not 100 <= status <= 599:
        raise ValueError(f"status: expected an HTTP status from 100 to 599, got {status}")
    if not 0 <= at < LATEST:
        raise ValueError(f"timestamp: expected Unix seconds from 1970 to 9999, got {at}")
    response = reduce(provider, status, headers, body, at)
    windows = [window for family in FAMILIES for window in family(response)]
    verdict, retry_at, names = _judge(response, windows)
    detail = f"{response.status} {', '.join(map(_tidy, dict.fromkeys(names)))}"[:200].strip()
    refusal = _REASONS.get(verdict)
    return Signal(
        provider,
        at,
        verdict,
        retry_at,
        _limits(windows, at),
        detail,
        request_model=model,
        refusal=refusal,
    )


def _judge(response: Response, windows: list[Window]) -> tuple[Verdict, float | None, list[str]]:
    status, at = response.status, response.at
    if status < 400:
        return Verdict.SUCCESS if 200 <= status < 300 else Verdict.UNKNOWN, None, []
    if status != 429 and not any(errors.windows(response)):
        return Verdict.UNKNOWN, None, []

    spent = [window for window in windows if window.spent]
    wait = _wait(response)
    quotas = [window for window in spent if window.length >= SHORTEST_QUOTA]
    names = [window.name for window in quotas or spent]
    if quotas:
        ends = [end for end in (wait, *(window.until for window in quotas)) if end]
        end = max(ends, default=None) or _calendar_end(response, quotas)
        return Verdict.EXHAUSTED, _bounded(end, at, UNTOLD_QUOTA, MAX_QUOTA), names

    end = wait or max((window.until for window in spent if window.until), default=None)
    rate = any(window.length for window in spent)
    if end and end - at >= SHORTEST_QUOTA and not rate:
        # Nobody asks to wait so long for a rate limit, even if nothing else tells.
        return Verdict.EXHAUSTED, _bounded(end, at, UNTOLD_QUOTA, MAX_QUOTA), names
    return Verdict.THROTTLED, _bounded(end, at, UNTOLD_WAIT, MAX_WAIT), names


def _wait(response: Response) -> float | None:
    """Unix seconds at which the provider asks to come back: the first usable of what it says.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after; Azure prefers milliseconds.
    """
    return next((end for end in _waits(response) if end is not None and end > response.at), None)


def _waits(response: Response) -> Iterator[float | None]:
    headers, error, at = response.headers, response.error, response.at
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = number(headers.get(name))
        yield None if milliseconds is None else at + milliseconds / 1000
    yield moment(headers.get("retry-after"), at)
    for detail in objects(error.get("details")):
        delay = duration(detail.get("retryDelay"))  # google.rpc.RetryInfo
        yield None if delay is None else at + delay
    yield errors.told_wait(response)


def _calendar_end(response: Response, quotas: list[Window]) -> float | None:
    """When the longest quota with a calendar period starts over: at midnight UTC, or Pacific.

    AWS does not say which midnight Bedrock's "tokens per day" mean; UTC is assumed.
    """
    lengths = [window.length for window in quotas if window.length < QUOTA]
    unit = _CALENDAR.get(int(max(lengths, default=0)))
    zone = google.PACIFIC if google.is_google(response) else _UTC
    return Calendar(unit, zone).window(response.at).end if unit else None


def _bounded(end: float | None, at: float, untold: float, longest: float) -> float:
    return min(end, at + longest) if end is not None and end > at else at + untold


def _limits(windows: list[Window], at: float) -> tuple[Limit, ...]:
    """The limits that say something, each name once, with the resets that can be true."""
    limits: dict[str, Limit] = {}
    for window in windows:
        limit = window.limit
        if limit is None or (limit.limit, limit.remaining, limit.utilization) == (None,) * 3:
            continue
        reset = limit.reset_at
        if reset is not None and not at <= reset <= at + MAX_QUOTA:
            reset = None
        name = _tidy(limit.name)
        limits.setdefault(name, msgspec.structs.replace(limit, name=name, reset_at=reset))
    return tuple(limits.values())[:_MAX_LIMITS]


def _tidy(name: str) -> str:
    return _UNTIDY.sub("_", name.lower())[:80]
