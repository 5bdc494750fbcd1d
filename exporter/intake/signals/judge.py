"""The verdict over a response: is a quota spent, and until when?"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from exporter.core.signal import Limit, Refusal, Signal, Verdict
from exporter.core.windows import DAY, HOUR, Calendar, Unit
from exporter.intake.signals import (
    anthropic,
    codex,
    copilot,
    errors,
    google,
    ratelimit,
    scope,
    zhipu,
)
from exporter.intake.signals.refusals import MONTH, OVERLOAD, OVERLOADED, UTC, WEEK
from exporter.intake.signals.response import (
    QUOTA,
    LimitState,
    Response,
    is_google,
    objects,
    reduce,
)
from exporter.intake.signals.values import duration, moment, number

FAMILIES: tuple[Callable[[Response], Iterable[LimitState]], ...] = (
    anthropic.windows,
    codex.windows,
    copilot.windows,
    ratelimit.windows,
    google.windows,
    zhipu.windows,
    errors.windows,
)

MIN_QUOTA_SECONDS = HOUR
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

_MAX_LIMITS = 32
_UNTIDY = re.compile(r"[^a-z0-9_.]+")
_CALENDAR = {DAY: Unit.DAY, WEEK: Unit.WEEK, MONTH: Unit.MONTH}


class _Judgement(NamedTuple):
    verdict: Verdict
    retry_at: float | None = None
    about: tuple[LimitState, ...] = ()  # the windows that refuse
    refusal: Refusal | None = None


def read_response(
    provider: str,
    status: int,
    headers: Mapping[str, Any],
    body: bytes | str | Mapping[str, Any] | None,
    at: float,
    model: str = "",
    consumer: str = "",
    exhausted_from: float = MIN_QUOTA_SECONDS,
) -> Signal:
    """Say what a response says about the quota behind it.

    Header names may be in any case, values may be lists. The body is searched, not kept.

    Args:
        at: Unix seconds of the response.
        model: what was asked for, where that is known.
        consumer: who asked, where that is known.
        exhausted_from: seconds; who asks to wait at least so long, and says of no rate limit that
            it is the reason, means a quota.

    Raises:
        ValueError: no provider, no HTTP status, or `at` outside the years 1970 to 9999.
    """
    if not provider:
        raise ValueError("provider: expected a name, got ''")
    if not 100 <= status <= 599:
        raise ValueError(f"status: expected an HTTP status from 100 to 599, got {status}")
    if not 0 <= at < LATEST:
        raise ValueError(f"timestamp: expected Unix seconds from 1970 to 9999, got {at}")
    response = reduce(provider, status, headers, body, at, model, consumer)
    windows = [window for family in FAMILIES for window in family(response)]
    judged = _judge(response, windows, exhausted_from)
    names = map(_tidy, dict.fromkeys(window.name for window in judged.about))
    about, whom = _scope(response, judged) if judged.refusal else ("", "")
    return Signal(
        provider,
        at,
        judged.verdict,
        judged.retry_at,
        _limits(windows, at),
        f"{response.status} {', '.join(names)}"[:200].strip(),
        about,
        whom,
        model,
        judged.refusal,
    )


def _judge(response: Response, windows: list[LimitState], exhausted_from: float) -> _Judgement:
    status, at = response.status, response.at
    if anthropic.is_status_line(response):
        return _Judgement(Verdict.UNKNOWN)
    if status < 400:
        return _Judgement(Verdict.SUCCESS if 200 <= status < 300 else Verdict.UNKNOWN)
    spent = tuple(window for window in windows if window.spent)
    named = any(errors.windows(response)) or any(zhipu.windows(response))
    if status != 429 and not named:
        return _overload(response) if _is_overload(response) else _Judgement(Verdict.UNKNOWN)

    wait = _wait(response)
    quotas = tuple(window for window in spent if window.length >= MIN_QUOTA_SECONDS)
    if quotas:
        quotas = _widest(response, quotas)
        unknown = (window for window in spent if not window.length)
        ends = [end for end in (wait, *(one.until for one in (*quotas, *unknown))) if end]
        end = max(ends, default=None) or _calendar_end(response, quotas)
        billing = any(window.reason is Refusal.BILLING for window in quotas)
        reason = Refusal.BILLING if billing else Refusal.QUOTA
        end = _bounded(end, at, UNTOLD_QUOTA, MAX_QUOTA)
        return _Judgement(Verdict.EXHAUSTED, end, quotas, reason)

    if _is_overload(response) or any(one.reason is Refusal.OVERLOAD for one in spent):
        return _overload(response)
    end = wait or max((window.until for window in spent if window.until), default=None)
    rate = any(window.length for window in spent)
    if end and end - at >= exhausted_from and not rate:
        # Nobody asks to wait so long for a rate limit, even if nothing else tells.
        end = _bounded(end, at, UNTOLD_QUOTA, MAX_QUOTA)
        return _Judgement(Verdict.EXHAUSTED, end, spent, Refusal.QUOTA)
    end = _bounded(end, at, UNTOLD_WAIT, max(MAX_WAIT, exhausted_from))
    return _Judgement(Verdict.THROTTLED, end, spent, Refusal.RATE)


def _is_overload(response: Response) -> bool:
    if response.status in OVERLOADED:
        return True
    elsewhere = response.status in (429, 498) or response.status >= 500
    return elsewhere and OVERLOAD.search(response.words) is not None


def _overload(response: Response) -> _Judgement:
    """Only who says how long it lasts, or answers 429, asks to wait."""
    wait = _wait(response)
    if wait is None and response.status != 429:
        return _Judgement(Verdict.UNKNOWN, refusal=Refusal.OVERLOAD)
    end = _bounded(wait, response.at, UNTOLD_WAIT, MAX_WAIT)
    return _Judgement(Verdict.THROTTLED, end, refusal=Refusal.OVERLOAD)


def _model(response: Response, window: LimitState) -> str:
    return scope.model(response) if window.model is None else window.model


def _widest(response: Response, quotas: tuple[LimitState, ...]) -> tuple[LimitState, ...]:
    """Those of the whole provider, if any, or else those of the model that ends last."""
    if any(window.limit for window in quotas):
        # Then a period that is only mentioned says nothing of whose it is.
        quotas = tuple(one for one in quotas if one.limit or one.reason or one.until)
    of = {id(window): _model(response, window) for window in quotas}
    if len(set(of.values())) == 1:
        return quotas
    last = "" if "" in of.values() else of[id(max(quotas, key=lambda one: one.until or 0.0))]
    return tuple(window for window in quotas if of[id(window)] == last)


def _scope(response: Response, judged: _Judgement) -> tuple[str, str]:
    """Model and consumer that a refusal is about, empty: all."""
    whom = scope.consumer(response)
    if whom or judged.refusal is Refusal.BILLING:
        return "", whom
    if judged.refusal is Refusal.OVERLOAD:
        return scope.model(response) or response.asked, ""
    if not judged.about:
        return scope.model(response), ""
    models = {_model(response, window) for window in judged.about}
    return (models.pop() if len(models) == 1 else ""), ""


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


def _calendar_end(response: Response, quotas: Sequence[LimitState]) -> float | None:
    """When the longest quota with a calendar period starts over: at midnight UTC, or Pacific.

    AWS does not say which midnight Bedrock's "tokens per day" mean; UTC is assumed.
    """
    lengths = [window.length for window in quotas if window.length < QUOTA]
    unit = _CALENDAR.get(int(max(lengths, default=0)))
    zone = google.PACIFIC if is_google(response) else UTC
    return Calendar(unit, zone).window(response.at).end if unit else None


def _bounded(end: float | None, at: float, untold: float, longest: float) -> float:
    return min(end, at + longest) if end is not None and end > at else at + untold


def _limits(windows: list[LimitState], at: float) -> tuple[Limit, ...]:
    """The limits that say something, each of a model once, with the resets that can be true."""
    limits: dict[str, Limit] = {}
    for window in windows:
        limit = window.limit
        if limit is None or (limit.limit, limit.remaining, limit.utilization) == (None,) * 3:
            continue
        reset = limit.reset_at
        if reset is not None and not at <= reset <= at + MAX_QUOTA:
            reset = None
        limit = msgspec.structs.replace(limit, name=_tidy(limit.name), reset_at=reset)
        limits.setdefault(limit.key, limit)
    return tuple(limits.values())[:_MAX_LIMITS]


def _tidy(name: str) -> str:
    return _UNTIDY.sub("_", name.lower())[:80]
