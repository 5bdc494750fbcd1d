"""Every reported window as it is now, by the reports and by what a ledger counts."""

from collections.abc import Mapping
from functools import partial

from exporter.core.budget import Quota
from exporter.core.ledger import Ledger
from exporter.core.reported_windows import Estimate, ended_with, estimate, share_per_unit
from exporter.core.reports import Report

LEARNT_AGE = 30.0
"""Seconds after which usage that came late is looked for."""


class Estimates:
    """Estimates of the reported windows among the quotas of a ledger. Not for concurrent use.

    Attributes:
        reports: what was last reported of each; replaced, never changed.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.reports: Mapping[Quota, Report] = {}
        self._ledger = ledger
        self._learnt: dict[Quota, tuple[Report, float, float | None]] = {}

    def of(self, quota: Quota, now: float) -> Estimate | None:
        """The window of a quota; None when nobody has reported it lately."""
        report = self.reports.get(quota)
        if report is None or report.forgotten(now):
            self._learnt.pop(quota, None)
            return None
        counted = partial(self._ledger.counted, self._ledger.index.row(quota))
        known = self._learnt.get(quota)
        if known is None or known[0] is not report or abs(now - known[1]) >= LEARNT_AGE:
            known = self._learnt[quota] = report, now, self._per_unit(quota, report)
        return estimate(report, known[2], counted, now)

    def used_in(self, quota: Quota, begin: float) -> float | None:
        """What was used in the window that began then, in the budget's unit; None: unknown."""
        report = self.reports.get(quota)
        if report is None:
            return None
        counted = partial(self._ledger.counted, self._ledger.index.row(quota))
        share = ended_with(report, self._per_unit(quota, report), counted, begin)
        return None if share is None else share * quota.budget.amount

    def _per_unit(self, quota: Quota, report: Report) -> float | None:
        row = self._ledger.index.row(quota)
        counted = partial(self._ledger.counted, row)
        return share_per_unit(report, counted, self._ledger.counted_since(row))
