"""Refusals stated in the error itself: by its code, type, message, or the end it names."""

import re
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from exporter.core.signal import Refusal
from exporter.intake.signals.refusals import PERIODS, ROWS
from exporter.intake.signals.response import QUOTA, LimitState, Response, is_google, mapping
from exporter.intake.signals.values import DURATION, duration, moment

_WAIT = re.compile(
    rf"(?:(?:again|retry|resets?|replenished|available)\s+(?:in|after)|wait)\s+({DURATION})",
    re.ASCII,
)

# "You will regain access on 2026-04-01 at 00:00 UTC." (Anthropic), "resets at
# 2026-05-15T15:00:00Z" (MiniMax), "Your limit will reset at 2026-09-12 00:35:41" and
# "您的限额将在 2026-08-25 07:41:44 重置" (Zhipu).
_STAMP = (
    r"(\d{4}-\d\d-\d\d)(?:t| at | )(\d\d:\d\d(?::\d\d)?)(?:\.\d{1,9})?\s?(z|utc|[+-]\d\d:\d\d)?"
)
_RESET = re.compile(rf"(?:access on|resets? (?:at|on)|将在)\s?{_STAMP}")

# Zhipu writes the clock of Shanghai without saying so, in English too: can1357/oh-my-pi#11014.
SHANGHAI = ZoneInfo("Asia/Shanghai")
_SHANGHAIED = re.compile(r"将在|your limit will reset at")


def period_in(text: str) -> tuple[str, float] | None:
    """Name and seconds of the first period that `text` (lower case) mentions."""
    found = ((match, row) for row in PERIODS if (match := row[2].search(text)))
    first = min(found, key=lambda pair: pair[0].start(), default=None)
    return first and first[1][:2]


def windows(response: Response) -> Iterator[LimitState]:
    """What refuses; nothing for an error that has another cause."""
    if response.status < 400:
        return
    # The Codex backend names the end in its error, OpenRouter in the error's metadata.
    for named in (response.error, mapping(response.error.get("metadata"))):
        for field in ("resets_at", "resets_in_seconds"):
            if until := moment(named.get(field), response.at):
                yield LimitState("quota", QUOTA, spent=True, until=until)
    rows = [row for row in ROWS if row.pattern.search(response.words)]
    until = told_reset(response)
    for row in rows:
        end = until or (row.ends.window(response.at).end if row.ends else None)
        yield LimitState(row.name, row.length, spent=True, until=end, reason=row.reason)
    if response.status == 402 and not rows:
        yield LimitState("billing", QUOTA, spent=True, until=until, reason=Refusal.BILLING)
    if until and response.status == 429 and not rows:
        yield LimitState("limit", spent=True, until=until)
    # Other errors may well mention a day without refusing anything.
    refused = rows or response.status in (402, 429)
    if refused and not is_google(response) and not any(row.whole for row in rows):
        period = period_in(response.words)
        if period:
            yield LimitState(*period, spent=True)


def told_wait(response: Response) -> float | None:
    """Unix seconds until which the message asks to wait."""
    match = _WAIT.search(response.words)
    wait = duration(match[1]) if match else None
    return None if wait is None else response.at + wait


def told_reset(response: Response) -> float | None:
    """Unix seconds at which the limit starts over, as the message says."""
    match = _RESET.search(response.words)
    if match is None:
        return None
    day, clock, zone = match.groups()
    if zone is None and _SHANGHAIED.search(response.words):
        try:
            return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=SHANGHAI).timestamp()
        except ValueError:
            return None
    return moment(f"{day}T{clock}{'Z' if zone in (None, 'utc') else zone.upper()}", response.at)
