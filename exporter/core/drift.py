"""How far a provider's own count is from ours: lost pushes, other users of a key, wrong weights."""

import re
from collections.abc import Mapping, Sequence
from math import inf

from exporter.core.budget import BudgetUnit
from exporter.core.measurement import Measurement
from exporter.core.reports import Report, share_of
from exporter.core.signal import Limit
from exporter.core.windows import Calendar

_PERIODS = {"minute": 60, "hour": 3600, "day": 86400, "week": 604800, "month": 2592000}
_DURATION = re.compile(r"^(\d+)([mhd])$")
_UNITS = {"m": 60, "h": 3600, "d": 86400}


def drift(
    reports: Mapping[str, Report], measured: Sequence[Measurement], now: float
) -> dict[str, float]:
    """By key of a limit: (used as the provider says - used as we counted) / the limit, -1 to 1.

    A limit is compared with the budget of the same scope, unit and length (`7d` with a `week`,
    `tokens_month` with a `month`; a share with one of tokens), and only while the report is from
    the window that is running.
    """
    found = {}
    for key, report in reports.items():
        limit, at = report.limit, report.at
        seconds = limit.window or _length(limit.name)
        unit = limit.unit or ("requests" if "request" in limit.name else BudgetUnit.SHARE)
        quota = next((one for one in measured if _same(one, limit, unit, seconds)), None)
        if seconds is None or quota is None or now > running_until(report):
            continue
        if limit.reset_at is not None and limit.reset_at <= now:
            continue
        if not quota.budget.period.rolling and at < quota.window.start:
            continue
        said = share_of(limit)
        if said is None:
            continue
        counted = quota.used / (limit.limit or quota.budget.amount) / quota.budget.unit.scale
        found[key] = max(-1.0, min(1.0, said - counted))
    return found


def running_until(report: Report) -> float:
    """Unix seconds at which the window of a report is over, if its length is known."""
    limit = report.limit
    ends = report.at + (limit.window or _length(limit.name) or inf)
    return ends if limit.reset_at is None else min(ends, limit.reset_at)


def _same(one: Measurement, limit: Limit, unit: str, seconds: float | None) -> bool:
    counted = BudgetUnit.TOKENS if unit == BudgetUnit.SHARE else unit
    return (
        not one.quota.reported
        and one.budget.unit == counted
        and one.scope.model == limit.model
        and not one.scope.consumer
        and _seconds(one) == seconds
    )


def _length(name: str) -> int | None:
    """Seconds of the window that a limit's name tells, if it tells one."""
    for word in name.split("_"):
        if match := _DURATION.match(word):
            return int(match[1]) * _UNITS[match[2]]
        if word in _PERIODS:
            return _PERIODS[word]
    return None


def _seconds(one: Measurement) -> float:
    period = one.budget.period
    return _PERIODS[period.unit.value] if isinstance(period, Calendar) else period.seconds
