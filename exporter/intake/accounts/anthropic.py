"""Anthropic's usage report of an organization, and its rate limits.

https://platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages
https://platform.claude.com/docs/en/manage-claude/rate-limits-api
https://platform.claude.com/docs/en/api/organization/workspaces/rate_limits
"""

from collections.abc import Iterator
from urllib.parse import quote

from exporter.core.daily_use import DAY_SECONDS
from exporter.core.provider_count import COMPARED_DAYS, DayCount
from exporter.core.signal import Limit
from exporter.intake.accounts.reading import (
    AccountError,
    Page,
    Question,
    amount,
    as_object,
    body,
    first_day,
    items,
    rfc3339_day,
)
from exporter.intake.signals.values import moment, number

URL = "https://api.anthropic.com"

HEADERS = {"anthropic-version": "2023-06-01"}

_TOKENS = ("uncached_input_tokens", "cache_read_input_tokens", "output_tokens")
_WRITTEN = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")

_LIMITS = {
    "requests_per_minute": ("requests", 60.0),
    "tokens_per_minute": ("tokens", 60.0),
    "input_tokens_per_minute": ("tokens", 60.0),
    "input_tokens_per_minute_cache_aware": ("tokens", 60.0),
    "output_tokens_per_minute": ("tokens", 60.0),
    "fast_itpmca": ("tokens", 60.0),  # input tokens per minute, cache-aware
    "fast_otpm": ("tokens", 60.0),
    "tokens_per_day": ("tokens", float(DAY_SECONDS)),
}
"""Type of a limit -> what it limits, and over how many seconds; uses of tools are left out."""


def questions(project: str, now: float) -> tuple[Question, ...]:
    """The use of late by day, and the limits: the organization's, or of one workspace where it is
    named, those that it inherits included."""
    query = [
        ("starting_at", rfc3339_day(first_day(now))),
        ("bucket_width", "1d"),
        ("limit", str(COMPARED_DAYS + 1)),
    ]
    if project:
        query.append(("workspace_ids[]", project))
    return (
        Question("/v1/organizations/usage_report/messages", tuple(query), _usage),
        _limits_question(project),
    )


def _limits_question(project: str) -> Question:
    if not project:
        return Question("/v1/organizations/rate_limits", (("limit", "50"),), _rate_limits)
    path = f"/v1/organizations/workspaces/{quote(project, safe='')}/rate_limits"
    return Question(path, (("limit", "50"), ("include_inherited", "true")), _rate_limits)


def _usage(data: bytes, now: float) -> Page:
    found = body(data)
    counts = []
    for bucket in items(found, "data"):
        start = moment(bucket.get("starting_at"), now)
        if start is None:
            raise AccountError("expected a moment starting_at")
        day = int(start // DAY_SECONDS)
        counts.append(DayCount(day, 0.0))
        for result in items(bucket, "results"):
            written = as_object(result.get("cache_creation") or {})
            tokens = sum(amount(result, key) for key in _TOKENS)
            counts.append(DayCount(day, tokens + sum(amount(written, key) for key in _WRITTEN)))
    more = found.get("has_more") is True
    return Page(counts=tuple(counts), following=_following(found) if more else {})


def _rate_limits(data: bytes, now: float) -> Page:
    found = body(data)
    limits = [limit for one in items(found, "data") for limit in _limits_of(one)]
    return Page(tuple(limits), following=_following(found))


def _limits_of(entry: dict[str, object]) -> Iterator[Limit]:
    """What is known of the limits of a group of models."""
    models = entry.get("models")
    if not isinstance(models, list):  # batches, files, …
        return
    for limiter in items(entry, "limits"):
        name, whole = limiter.get("type"), number(limiter.get("value"))
        if not isinstance(name, str) or whole is None:
            raise AccountError("expected a limit with type and value")
        if name not in _LIMITS:
            continue
        unit, window = _LIMITS[name]
        for model in models:
            if isinstance(model, str) and model:
                yield Limit(name, whole, unit=unit, model=model, window=window)


def _following(found: dict[str, object]) -> dict[str, str]:
    cursor = found.get("next_page")
    return {"page": cursor} if isinstance(cursor, str) and cursor else {}
