"""Providers at one moment, as families of metrics."""

from collections.abc import Iterable, Iterator

from exporter.core.windows import DAY
from exporter.snapshot import Snapshot
from exporter.web.exposition import Family, counter, gauge
from exporter.web.quota_families import quotas, states, transitions
from exporter.web.usage_families import usage

_LIMIT_GAUGES = {
    "provider_limit": "Limit as the provider reports it, in its own unit.",
    "provider_remaining": "What is left of a limit as the provider reports it.",
    "provider_utilization_ratio": "Share of a limit that is used, as the provider reports it.",
    "provider_reset_timestamp_seconds": "When a limit is whole again, as the provider reports it.",
    "provider_drift_ratio": "Use counted by the provider beyond our own, as a share of the limit.",
}

_OWN_COUNTS = {
    "provider_counted": "What the provider counted on the last compared UTC day, by its own word.",
    "provider_counted_here": "What was counted here on the same day.",
    "provider_count_drift_ratio": "(Counted by the provider - here) / the larger, of that day.",
    "provider_count_drift_since_timestamp_seconds": (
        "When the days began on which the two counts differ about as much as on the last."
    ),
}


class QuotaCollector:
    """Everything that is known of providers at the moment of a snapshot; runs in any thread."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._views = snapshot.views.values()

    def collect(self) -> Iterator[Family]:
        """Yield the families of the contract."""
        yield from states(self._views)
        yield from quotas(self._views)
        yield self._history()
        yield from self._limits()
        yield from self._own_counts()
        yield from self._counters()
        yield from self._forecasts()

    def _history(self) -> Family:
        age = gauge("history_seconds", "Time since the first use that is remembered.", "provider")
        for view in self._views:
            if view.history_days is not None:
                age.samples[view.name,] = view.history_days * DAY
        return age

    def _limits(self) -> Iterable[Family]:
        gauges = [
            gauge(name, text, "provider", "limit", optional=("model",))
            for name, text in _LIMIT_GAUGES.items()
        ]
        for view in self._views:
            for key, report in view.limits.items():
                limit = report.limit
                values = (
                    limit.limit,
                    limit.remaining,
                    limit.utilization,
                    limit.reset_at,
                    view.drift.get(key),
                )
                for family, value in zip(gauges, values, strict=True):
                    if value is not None:
                        family.samples[view.name, limit.name, limit.model] = value
        return gauges

    def _own_counts(self) -> Iterable[Family]:
        """The provider's own count of the last compared day beside ours; nothing without one."""
        snapshot = self._snapshot
        if not snapshot.accounts_read:
            return ()
        read = gauge(
            "account_last_read_timestamp_seconds", "When an account was last read.", "provider"
        )
        for provider, at in snapshot.accounts_read.items():
            read.samples[provider,] = at
        theirs, ours, ratio, since = (
            gauge(name, text, "provider", "unit") for name, text in _OWN_COUNTS.items()
        )
        for provider, drifts in snapshot.count_drifts.items():
            for one in drifts:
                labels = provider, one.unit
                theirs.samples[labels] = one.theirs
                ours.samples[labels] = one.ours
                ratio.samples[labels] = one.ratio
                if one.since is not None:
                    since.samples[labels] = one.since
        return read, theirs, ours, ratio, since

    def _counters(self) -> Iterable[Family]:
        snapshot = self._snapshot
        yield from usage(snapshot.totals)
        yield transitions(snapshot.transitions)
        refusals = counter(
            "refusals", "Refusals that were reported.", "provider", "model", "reason"
        )
        for (provider, model, refusal), times in snapshot.refusals.items():
            refusals.samples[provider, model, refusal.value] = times
        events = counter("events", "Items pushed, by what became of them.", "source", "outcome")
        for labels, items in snapshot.events.items():
            events.samples[labels] = items
        uncharged = counter(
            "uncharged", "Items understood and rightly not counted, and why.", "source", "reason"
        )
        for why, items in snapshot.uncharged.items():
            uncharged.samples[why] = items
        folded = counter("folded", "Usages counted under 'other' because of a cap.", "what")
        for what, usages in snapshot.folded.items():
            folded.samples[what,] = usages
        unpriced = counter(
            "unpriced_requests",
            "Requests that cost 0 USD here: neither a cost nor a price is known.",
            *("provider", "model"),
        )
        for labels, requests in snapshot.unpriced.items():
            unpriced.samples[labels] = requests
        suspected = counter(
            "suspected_duplicates",
            "Calls that count and look like one of another reporter.",
            "source",
        )
        for source, calls in snapshot.suspected.items():
            suspected.samples[source,] = calls
        yield from (refusals, events, uncharged, folded, unpriced, suspected)

    def _forecasts(self) -> Iterable[Family]:
        brier = gauge("forecast_brier_score", "Mean squared error of probabilities.", "period")
        error = gauge(
            "forecast_calibration_error",
            "Mean distance between what was said and how often it came true.",
            "period",
        )
        windows = gauge("forecast_scored_windows", "Windows that were scored so far.", "period")
        for period, score in self._snapshot.scores.items():
            brier.samples[period,] = score.brier
            error.samples[period,] = score.calibration_error
            windows.samples[period,] = score.windows
        return brier, error, windows
