"""`X-RateLimit-*` in its dialects, and the `RateLimit` fields meant to replace them."""

import re
from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

from exporter.core.signal import Limit
from exporter.core.windows import DAY, HOUR, MINUTE, Calendar, Unit
from exporter.intake.signals import scope
from exporter.intake.signals.errors import period_in
from exporter.intake.signals.response import LimitState, Response
from exporter.intake.signals.values import moment, number

_HEADER = re.compile(r"((?:x-)?ratelimit-)(?:limit|remaining)(-[\w-]+)?")

# The period at the end of a name: Mistral's `tokens-5-minute`, Nous' `requests-1h`, Kong's
# `hour`. https://docs.mistral.ai/deployment/laplateforme/tier/
_PERIOD = re.compile(r"-(?:(\d{1,4})-?)?(second|minute|hour|day|month|[hd])", re.ASCII)
_SECONDS = {
    "second": 1,
    "minute": MINUTE,
    "hour": HOUR,
    "h": HOUR,
    "day": DAY,
    "d": DAY,
    "month": 30 * DAY,
}

# Where a day or month has no reset it is that of the calendar (Kong, Mistral):
# https://developer.konghq.com/plugins/rate-limiting/
_CALENDAR = {
    "day": Calendar(Unit.DAY, ZoneInfo("UTC")),
    "month": Calendar(Unit.MONTH, ZoneInfo("UTC")),
}

# https://console.groq.com/docs/rate-limits: requests are per day, tokens per minute.
_GROQ = {"-requests": DAY, "-tokens": MINUTE}

# OpenAI, Azure, Groq and Mistral limit every model by itself, a bare `X-RateLimit-*` is about
# whoever holds the key.
_PER_MODEL = re.compile(r"-(?:requests|tokens|req|tokens-usage-based)(?:-.*)?")

_ITEM = re.compile(r'\s*(?:"([^"]{1,60})"|([\w-]{1,60}))?\s*((?:;\s*\w+=[^;,]*)*)', re.ASCII)
_PARAMETER = re.compile(r"(\w+)=\s*\"?([^;,\"\s]+)", re.ASCII)


def windows(response: Response) -> Iterator[LimitState]:
    headers = response.headers
    groq = "groq" in response.provider or any(name.startswith("x-groq-") for name in headers)
    for prefix, suffix in sorted(
        {(m[1], m[2] or "") for m in map(_HEADER.fullmatch, headers) if m}
    ):
        remaining = _leading(headers.get(f"{prefix}remaining{suffix}"))
        reset = moment(headers.get(f"{prefix}reset{suffix}"), response.at)
        period = _PERIOD.search(suffix)
        length = float(_GROQ.get(suffix, 0) if groq else 0)
        until = None
        if period:
            length = float(_SECONDS[period[2]] * int(period[1] or 1))
            if reset is None and not period[1] and period[2] in _CALENDAR:
                reset = _CALENDAR[period[2]].window(response.at).end
            until = reset
        elif not suffix:
            until = reset
            if response.status >= 400:  # OpenRouter: the error says which limit that is
                length = float((period_in(response.words) or ("", 0.0))[1])
        # Else OpenAI's dialect (https://platform.openai.com/docs/guides/rate-limits, Azure too):
        # its reset is when the bucket is full again, which says nothing about waiting.
        name = suffix.strip("-").replace("-", "_") or "default"
        model = response.asked if _PER_MODEL.fullmatch(suffix) else ""
        if not suffix and response.status >= 400:
            model = scope.model(response)
        limit = Limit(
            name,
            _leading(headers.get(f"{prefix}limit{suffix}")),
            remaining,
            reset_at=reset,
            unit="tokens" if "token" in suffix else "requests",
            model=model,
            window=length or None,
            refills=bool(suffix) and not period,
        )
        yield LimitState(
            name, length, _spent(remaining, suffix, headers), until, limit, model or None
        )
    yield from _standard(response)


def _spent(remaining: float | None, suffix: str, headers: Mapping[str, str]) -> bool:
    if remaining is None:
        return False
    # Mistral refuses what costs more than is left.
    cost = number(headers.get("x-ratelimit-tokens-query-cost")) if "tokens" in suffix else None
    return remaining == 0 or (cost is not None and remaining < cost)


def _leading(value: str | None) -> float | None:
    """The first number of `100, 100;w=60`, as older drafts and repeated headers have it."""
    return None if value is None else number(re.split("[,;]", value, maxsplit=1)[0])


def _standard(response: Response) -> Iterator[LimitState]:
    """https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/

    `RateLimit: "day";r=0;t=3600` with `RateLimit-Policy: "day";q=100;w=86400`; until draft 7
    `RateLimit: limit=100, remaining=0, reset=3600`.
    """
    policies = dict(_items(response.headers.get("ratelimit-policy", "")))
    header = response.headers.get("ratelimit", "")
    if "remaining=" in header:
        pairs = dict(_PARAMETER.findall(header))
        items = {"default": {"r": pairs.get("remaining"), "t": pairs.get("reset")}}
        policies = {"default": {"q": pairs.get("limit")}}
    else:
        items = dict(_items(header))
    for name, item in items.items():
        policy = policies.get(name, {})
        remaining = number(item.get("r"))
        reset = moment(item.get("t"), response.at)
        length = number(policy.get("w"))
        unit = policy.get("qu") or "requests"
        limit = Limit(
            name,
            number(policy.get("q")),
            remaining,
            reset_at=reset,
            unit=unit if unit in ("requests", "tokens") else "",
            window=length,
        )
        yield LimitState(name, length or 0.0, remaining == 0, reset, limit)


def _items(field: str) -> Iterator[tuple[str, dict[str, str | None]]]:
    for item in field.split(","):
        match = _ITEM.fullmatch(item)
        if match and (name := match[1] or match[2]):
            yield name.lower().replace("-", "_"), dict(_PARAMETER.findall(match[3]))
