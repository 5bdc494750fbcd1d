"""Anthropic: the API's rate limits, and the windows of a subscription."""

import re
from collections.abc import Iterator

from exporter.core.signal import Limit
from exporter.intake.signals.response import QUOTA, Response, Window
from exporter.intake.signals.values import duration, moment, number

# https://docs.claude.com/en/api/rate-limits#response-headers: every limit is one per minute.
# The reset is when a bucket is full again, an upper bound of the wait.
_RATE = re.compile(r"anthropic-ratelimit-((?:input-|output-)?tokens|requests)-(?:limit|remaining)")
_MINUTE = 60.0

# Subscriptions say instead, per window, what share is used and whether it refuses; there is
# no public documentation. A window's name starts with its length (5h, 7d, 7d_sonnet); what
# has another name (overage, …) is reported but refuses nothing.
_UNIFIED = re.compile(r"anthropic-ratelimit-unified-([\w-]+)-(?:utilization|status|reset)")
_LENGTH = re.compile(r"\d+[mhd]")
_OVERALL = "anthropic-ratelimit-unified"


def windows(response: Response) -> Iterator[Window]:
    headers, at = response.headers, response.at
    for unit in _names(_RATE, response):
        header = f"anthropic-ratelimit-{unit}"
        name = unit.replace("-", "_")
        remaining = number(headers.get(f"{header}-remaining"))
        reset = moment(headers.get(f"{header}-reset"), at)
        limit = Limit(name, number(headers.get(f"{header}-limit")), remaining, reset_at=reset)
        yield Window(name, _MINUTE, remaining == 0, reset, limit)

    refused = False
    for unit in _names(_UNIFIED, response):
        header = f"{_OVERALL}-{unit}"
        name = unit.replace("-", "_")
        used = number(headers.get(f"{header}-utilization"))
        reset = moment(headers.get(f"{header}-reset"), at)
        status = headers.get(f"{header}-status")
        length = _LENGTH.match(name)
        full = status == "rejected" or (status is None and used is not None and used >= 1)
        spent = length is not None and full
        refused |= spent
        limit = Limit(name, utilization=used, reset_at=reset)
        yield Window(name, (length and duration(length[0])) or 0.0, spent, reset, limit)
    if headers.get(f"{_OVERALL}-status") == "rejected" and not refused:
        reset = moment(headers.get(f"{_OVERALL}-reset"), at)
        yield Window("subscription", QUOTA, True, reset)


def _names(pattern: re.Pattern[str], response: Response) -> list[str]:
    matches = map(pattern.fullmatch, response.headers)
    return sorted({match[1] for match in matches if match})
