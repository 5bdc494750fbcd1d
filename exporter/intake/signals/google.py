"""Google: quotas are named in the error's details, nothing is in the headers.

https://ai.google.dev/gemini-api/docs/rate-limits ("Requests per day (RPD) quotas reset at
midnight Pacific time"), https://google.aip.dev/193 for the shape of the details.
"""

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from exporter.core.signal import Limit
from exporter.core.windows import DAY, Calendar, Unit
from exporter.intake.signals.errors import period_in
from exporter.intake.signals.response import Response, Window, mapping, objects
from exporter.intake.signals.values import number

PACIFIC = ZoneInfo("America/Los_Angeles")

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")


def is_google(response: Response) -> bool:
    # In the words, since gateways pass the error on as text.
    return "resource_exhausted" in response.words


def windows(response: Response) -> Iterator[Window]:
    """The quotas an error names; the delay in its `RetryInfo` is no end of a daily one."""
    if not is_google(response):
        return
    quotas = list(_quotas(response))
    for quota, value in quotas:
        name = _CAMEL.sub("_", quota).lower().strip("_")
        yield _window(name, response, Limit(name, value, 0.0))
    if not quotas:
        yield _window(response.words, response, None)


def _quotas(response: Response) -> Iterator[tuple[str, float | None]]:
    for detail in objects(response.error.get("details")):
        for violation in objects(detail.get("violations")):
            quota = violation.get("quotaId") or violation.get("quotaMetric")
            if isinstance(quota, str):
                yield quota, number(violation.get("quotaValue"))
        quota = mapping(detail.get("metadata")).get("quota_limit")
        if isinstance(quota, str):
            yield quota, None


def _window(words: str, response: Response, limit: Limit | None) -> Window:
    name, length = period_in(words) or ("google", 0.0)
    daily = length == DAY
    until = Calendar(Unit.DAY, PACIFIC).window(response.at).end if daily else None
    return Window(name, length, spent=True, until=until, limit=limit)
