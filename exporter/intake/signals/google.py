"""Google: quotas are named in the error's details, nothing is in the headers.

https://ai.google.dev/gemini-api/docs/rate-limits ("Requests per day (RPD) quotas reset at
midnight Pacific time"), https://google.aip.dev/193 for the shape of the details.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple
from zoneinfo import ZoneInfo

from exporter.core.signal import Limit
from exporter.core.windows import DAY, Calendar, Unit
from exporter.intake.signals import scope
from exporter.intake.signals.errors import period_in
from exporter.intake.signals.response import LimitState, Response, is_google, mapping, objects
from exporter.intake.signals.values import number

PACIFIC = ZoneInfo("America/Los_Angeles")

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_UNITS = (("token", "tokens"), ("request", "requests"))


class _Quota(NamedTuple):
    name: str  # snake case
    value: float | None
    model: str


def windows(response: Response) -> Iterator[LimitState]:
    """The quotas an error names; the delay in its `RetryInfo` is no end of a daily one."""
    if not is_google(response):
        return
    quotas = list(_quotas(response))
    for quota in quotas:
        name, length, until = _period(quota.name, response)
        unit = next((unit for word, unit in _UNITS if word in quota.name), "")
        limit = Limit(
            quota.name,
            quota.value,
            0.0,
            reset_at=until,
            unit=unit,
            model=quota.model,
            window=length or None,
        )
        yield LimitState(name, length, True, until, limit, quota.model)
    if not quotas:
        name, length, until = _period(response.words, response)
        yield LimitState(name, length, spent=True, until=until)


def _quotas(response: Response) -> Iterator[_Quota]:
    for detail in objects(response.error.get("details")):
        for violation in objects(detail.get("violations")):
            quota = violation.get("quotaId") or violation.get("quotaMetric")
            model = mapping(violation.get("quotaDimensions")).get("model")
            if isinstance(quota, str):
                yield _quota(quota, number(violation.get("quotaValue")), model, response)
        metadata = mapping(detail.get("metadata"))
        quota = metadata.get("quota_limit")
        if isinstance(quota, str):
            yield _quota(quota, None, metadata.get("model"), response)


def _quota(quota: str, value: float | None, model: object, response: Response) -> _Quota:
    """A quota of all models is one of the project that does not say it is of each model."""
    name = _CAMEL.sub("_", quota).lower().strip("_")
    if "per_project" in name and "per_model" not in name:
        return _Quota(name, value, "")
    if isinstance(model, str) and model:
        return _Quota(name, value, scope.named(model, response))
    return _Quota(name, value, scope.model(response) or response.asked)


def _period(words: str, response: Response) -> tuple[str, float, float | None]:
    name, length = period_in(words) or ("google", 0.0)
    daily = length == DAY
    until = Calendar(Unit.DAY, PACIFIC).window(response.at).end if daily else None
    return name, length, until
