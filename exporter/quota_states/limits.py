"""What providers last reported of their own limits, and the quotas that some of these are."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf

import msgspec

from exporter.core.budget import DEFAULT_PREDICTION, Budget, Per, PredictionSettings, Quota
from exporter.core.reported_windows import quota_of
from exporter.core.reports import Report, first_report
from exporter.core.signal import Limit
from exporter.quota_states.documents import (
    MAX_LIMITS,
    Limits,
    LimitsDocument,
    merged_limits,
    read,
)

MAX_QUOTAS = 1000
"""Windows foreseen of all providers together: each takes 100 kB of history in memory, and their
names come from headers."""


class ReportedLimits:
    """The limits of every provider that reported any. Not for concurrent use.

    Attributes:
        reports: what was last reported of each limit that is a quota.
        changes: how often there were other quotas than before.
    """

    def __init__(self) -> None:
        self.reports: dict[Quota, Report] = {}
        self.changes = 0
        self._limits: dict[str, Limits] = {}
        self._quotas: dict[str, dict[str, Quota]] = {}  # by provider and key of a limit
        self._prediction = DEFAULT_PREDICTION

    def configure(self, prediction: PredictionSettings) -> None:
        """Say what is done about the future of these quotas."""
        if prediction != self._prediction:
            self._prediction = prediction
            self.reports.clear()
            self._quotas.clear()
            self.changes += 1
            for provider, limits in self._limits.items():
                self._follow(provider, limits)

    def report(
        self, provider: str, limits: Collection[Limit], at: float, now: float = inf
    ) -> Limits:
        """Take in what a provider reported at `at` (Unix seconds); all that is known now."""
        held = self._limits.setdefault(provider, {})
        for limit in limits:
            before = held.get(limit.key)
            if before is None:
                held[limit.key] = first_report(limit, at)
            else:
                # One provider can speak twice at the same instant.
                later = math.nextafter(at, math.inf) if at == before.at else at
                held[limit.key] = before.followed_by(limit, later, now)
        while len(held) > MAX_LIMITS:
            oldest = min(held, key=lambda key: held[key].at)
            del held[oldest]
            self._drop(provider, oldest)
        self._follow(provider, [limit.key for limit in limits if limit.key in held])
        return held

    def load(self, provider: str, limits: Limits, forgotten: float, now: float = inf) -> None:
        """Take up what was stored, of what was reported after `forgotten` (Unix seconds)."""
        known = merged_limits(self._limits.get(provider, {}), limits, now)
        self._limits[provider] = {
            key: report for key, report in known.items() if report.at > forgotten
        }
        for key in self._quotas.get(provider, {}).keys() - self._limits[provider].keys():
            self._drop(provider, key)
        self._follow(provider, self._limits[provider])

    def _follow(self, provider: str, keys: Iterable[str]) -> None:
        """Let the quotas of a provider be those that these limits are."""
        for key in keys:
            report = self._limits[provider][key]
            quota = quota_of(provider, report.limit, self._prediction)
            if quota != self._quotas.get(provider, {}).get(key):
                self._drop(provider, key)
                if quota is None or len(self.reports) >= MAX_QUOTAS:
                    continue
                self._quotas.setdefault(provider, {})[key] = quota
                self.changes += 1
            if quota is not None:
                self.reports[quota] = report

    def _drop(self, provider: str, key: str) -> None:
        quota = self._quotas.get(provider, {}).pop(key, None)
        if quota is not None:
            del self.reports[quota]
            self.changes += 1

    def forget_old(self, now: float) -> None:
        """Drop the quotas of which nothing has been reported for as long as their window is."""
        for provider, quotas in self._quotas.items():
            for key in [key for key, one in quotas.items() if self.reports[one].forgotten(now)]:
                self._drop(provider, key)

    def budgets(self, configured: Mapping[str, Sequence[Budget]]) -> dict[str, Sequence[Budget]]:
        """The configured budgets and those of reported windows, but where one is configured that
        could not be told from it."""
        found = dict(configured)
        for scope, budget in self.reports:
            if not any(_shadows(one, budget) for one in configured.get(scope.provider, ())):
                found[scope.provider] = (*found.get(scope.provider, ()), budget)
        return found

    def copy_from(self, other: "ReportedLimits", provider: str) -> None:
        """Know of one provider what another one knows."""
        self._limits[provider] = other.of(provider)

    def of(self, provider: str) -> Limits:
        """What a provider last reported, by key."""
        return self._limits.get(provider, {}).copy()

    def providers(self) -> set[str]:
        """Everybody who reported something."""
        return {provider for provider, limits in self._limits.items() if limits}


def _shadows(configured: Budget, reported: Budget) -> bool:
    """Both would have the same name, perhaps for a model that is still to be seen."""
    if configured.consumer or Per.CONSUMER in configured.per:
        return False
    same = configured.unit is reported.unit and configured.period.name == reported.period.name
    return same and (configured.model == reported.model or Per.MODEL in configured.per)


def budgets_in(
    documents: Mapping[str, bytes],
    configured: Mapping[str, Sequence[Budget]],
    prediction: PredictionSettings,
) -> dict[str, Sequence[Budget]]:
    """The configured budgets, and those of the windows that stored documents tell of."""
    stored = ReportedLimits()
    stored.configure(prediction)
    for name, body in documents.items():
        with suppress(msgspec.MsgspecError):  # who takes it up says so
            document = read(name, body)
            if isinstance(document, LimitsDocument):
                stored.load(document.provider, document.limits, 0.0)
    return stored.budgets(configured)
