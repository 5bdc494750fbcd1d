"""Every reported window as it is now, by the reports and by what a ledger counts."""

from collections.abc import Mapping
from functools import partial

from exporter.core.budget import Quota
from exporter.core.ledger import Ledger
from exporter.core.reported_windows import Estimate, estimate, share_per_unit
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
        row = self._ledger.row(quota)
        counted = partial(self._ledger.counted, row)
        known = self._learnt.get(quota)
        if known is None or known[0] is not report or abs(now - known[1]) >= LEARNT_AGE:
            per_unit = share_per_unit(report, counted, self._ledger.counted_since(row))
            known = self._learnt[quota] = report, now, per_unit
        return estimate(report, known[2], counted, now)
