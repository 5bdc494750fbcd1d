"""Refusals told in the error itself: by its code, type, message, or the end it names."""

import re
from collections.abc import Iterator

from exporter.core.windows import DAY, HOUR, MINUTE
from exporter.intake.signals.response import QUOTA, Response, Window, mapping
from exporter.intake.signals.values import DURATION, duration, moment

WEEK = 7 * DAY
MONTH = 30 * DAY


def _phrase(text: str) -> re.Pattern[str]:
    """Words may be joined by spaces, dashes or underscores, or not be parted at all."""
    return re.compile(text.replace(" ", r"[\s_-]*"), re.ASCII)


# What refuses whatever the status is; 0 is a rate limit, whose period may be told beside it.
_REFUSALS: tuple[tuple[str, float, re.Pattern[str]], ...] = (
    # https://platform.openai.com/docs/guides/error-codes. Its message ("You exceeded your
    # current quota, …") proves nothing: Gemini says the same of a limit per minute.
    ("billing", QUOTA, _phrase(r"insufficient quota|billing hard limit reached")),
    # https://docs.claude.com/en/api/errors, sent as 400
    ("billing", QUOTA, _phrase(r"credit balance is too low|specified api usage limits")),
    # https://api-docs.deepseek.com/quick_start/error_codes
    ("billing", QUOTA, _phrase(r"insufficient (?:balance|credits|funds)")),
    ("plan", QUOTA, _phrase(r"usage limit reached")),  # the Codex backend
    ("key", QUOTA, _phrase(r"key limit exceeded")),  # OpenRouter, sent as 403
    # https://learn.microsoft.com/azure/api-management/llm-token-limit-policy, sent as 403
    ("quota", QUOTA, _phrase(r"token quota (?:is |has been )?exceeded|volume quota")),
    # https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html
    ("throttled", 0.0, _phrase(r"throttlingexception")),
)

_PERIODS: tuple[tuple[str, float, re.Pattern[str]], ...] = (
    ("per_second", 1, _phrase(r"per second|\brps\b")),
    ("per_minute", MINUTE, _phrase(r"per min(?:ute|\b)|\b[rt]pm\b")),
    ("per_hour", HOUR, _phrase(r"per hour|hourly|\b[rt]ph\b")),
    ("per_day", DAY, _phrase(r"per day|daily(?![a-z])|\b[rt]pd\b")),
    ("per_week", WEEK, _phrase(r"per week|weekly")),
    ("per_month", MONTH, _phrase(r"per month|monthly")),
)

_WAIT = re.compile(
    rf"(?:again|retry|resets?|replenished|available)\s+(?:in|after)\s+({DURATION})", re.ASCII
)
# Anthropic, of a spend limit: "You will regain access on 2026-04-01 at 00:00 UTC."
_REGAIN = re.compile(r"access on (\d{4}-\d\d-\d\d) at (\d\d:\d\d) utc", re.ASCII)


def period_in(text: str) -> tuple[str, float] | None:
    """Name and seconds of the first period that `text` (lower case) mentions."""
    found = ((match, row) for row in _PERIODS if (match := row[2].search(text)))
    first = min(found, key=lambda pair: pair[0].start(), default=None)
    return first and first[1][:2]


def windows(response: Response) -> Iterator[Window]:
    """What refuses; nothing for an error that has another cause."""
    if response.status < 400:
        return
    # The Codex backend names the end in its error, OpenRouter in the error's metadata.
    for told in (response.error, mapping(response.error.get("metadata"))):
        for field in ("resets_at", "resets_in_seconds"):
            if until := moment(told.get(field), response.at):
                yield Window("quota", QUOTA, spent=True, until=until)
    refusals = [row[:2] for row in _REFUSALS if row[2].search(response.words)]
    if response.status == 402:
        refusals.append(("billing", QUOTA))
    for name, length in refusals:
        yield Window(name, length, spent=True)
    # Other errors may well mention a day without refusing anything.
    period = period_in(response.words)
    if period and (refusals or response.status == 429):
        yield Window(*period, spent=True)


def told_wait(response: Response) -> float | None:
    """Unix seconds until which the message asks to wait."""
    if match := _REGAIN.search(response.words):
        return moment(f"{match[1]}T{match[2]}Z", response.at)
    match = _WAIT.search(response.words)
    wait = duration(match[1]) if match else None
    return None if wait is None else response.at + wait
