"""OpenAI's usage of an organization, and the rate limits of a project.

https://platform.openai.com/docs/api-reference/usage/completions
https://platform.openai.com/docs/api-reference/usage/embeddings
https://platform.openai.com/docs/api-reference/project-rate-limits/list
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
    body,
    first_day,
    items,
)
from exporter.intake.signals.values import number

URL = "https://api.openai.com"

USED = ("completions", "embeddings")
"""What counts in tokens: Responses are among completions."""

_LIMITS = {
    "max_requests_per_1_day": ("requests_per_day", "requests", DAY_SECONDS),
    "max_requests_per_1_minute": ("requests_per_minute", "requests", 60),
    "max_tokens_per_1_minute": ("tokens_per_minute", "tokens", 60),
}


def questions(project: str, now: float) -> tuple[Question, ...]:
    """The use of late by day, of one project where it is named, and that project's limits."""
    query = [
        ("start_time", str(first_day(now))),
        ("bucket_width", "1d"),
        ("limit", str(COMPARED_DAYS + 1)),
    ]
    if project:
        query.append(("project_ids[]", project))
    usage = tuple(Question(f"/v1/organization/usage/{what}", tuple(query), _usage) for what in USED)
    if not project:
        return usage
    path = f"/v1/organization/projects/{quote(project, safe='')}/rate_limits"
    return (*usage, Question(path, (("limit", "100"),), _rate_limits))


def _usage(data: bytes, now: float) -> Page:
    found = body(data)
    counts = []
    for bucket in items(found, "data"):
        start = number(bucket.get("start_time"))
        if start is None:
            raise AccountError("expected a number start_time")
        day = int(start // DAY_SECONDS)
        counts.append(DayCount(day, 0.0, 0.0))
        for result in items(bucket, "results"):
            tokens = amount(result, "input_tokens") + amount(result, "output_tokens")
            counts.append(DayCount(day, tokens, amount(result, "num_model_requests")))
    return Page(counts=tuple(counts), following=_following(found, "next_page", "page"))


def _rate_limits(data: bytes, now: float) -> Page:
    found = body(data)
    limits = [limit for one in items(found, "data") for limit in _limits_of(one)]
    return Page(tuple(limits), following=_following(found, "last_id", "after"))


def _limits_of(one: dict[str, object]) -> Iterator[Limit]:
    model = one.get("model")
    if not isinstance(model, str) or not model:
        raise AccountError("expected a text model")
    for key, (name, unit, seconds) in _LIMITS.items():
        whole = number(one.get(key))
        if whole:
            yield Limit(name, whole, unit=unit, model=model, window=seconds)


def _following(found: dict[str, object], key: str, parameter: str) -> dict[str, str]:
    cursor = found.get(key)
    more = found.get("has_more") is True and isinstance(cursor, str) and cursor
    return {parameter: str(cursor)} if more else {}
