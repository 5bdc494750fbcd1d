"""What providers report of their own limits."""

from collections.abc import Iterable
from typing import NamedTuple

from exporter.core.reports import share_of
from exporter.core.signal import Limit
from exporter.core.views import ProviderView


class ReportedLimit(NamedTuple):
    """A limit as a provider reported it.

    Attributes:
        provider: who.
        limit: what it said.
        at: when, in Unix seconds.
        used_ratio: share used, 0 to 1; None when it does not say.
        drift: what it counted beyond our own count, as a share of the limit; None when unknown.
        over: its window has ended since, so that it says nothing of now.
    """

    provider: str
    limit: Limit
    at: float
    used_ratio: float | None
    drift: float | None
    over: bool


def limits_of(views: Iterable[ProviderView], now: float) -> list[ReportedLimit]:
    """The limits that providers reported, those with the least left first, ended ones last."""
    found = [
        ReportedLimit(
            view.name,
            report.limit,
            report.at,
            share_of(report.limit),
            view.drift.get(key),
            report.limit.reset_at is not None and report.limit.reset_at <= now,
        )
        for view in views
        for key, report in view.limits.items()
    ]
    return sorted(
        found, key=lambda one: (one.over, -(one.used_ratio or 0.0), one.provider, one.limit.name)
    )
