"""Providers at one moment, as families of metrics."""

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from exporter.core.measure import Measurement
from exporter.core.quota_state import State
from exporter.core.slots import REQUESTS, Counts, add
from exporter.core.usage import KINDS
from exporter.snapshot import Snapshot
from exporter.web.exposition import Family, counter, gauge

_BUDGET_GAUGES: dict[str, tuple[str, Callable[[Measurement], float | None]]] = {
    "budget_tokens": ("Tokens allowed in the period, weighted.", attrgetter("budget.tokens")),
    "used_tokens": ("Tokens used in the running window, weighted.", attrgetter("used")),
    "window_start_timestamp_seconds": (
        "When the running window began, in Unix time.",
        attrgetter("window.start"),
    ),
    "window_end_timestamp_seconds": (
        "When the running window ends, in Unix time.",
        attrgetter("window.end"),
    ),
    "projected_tokens": (
        "Projected use at the end of the window (rolling: one length from now).",
        attrgetter("median"),
    ),
    "projected_tokens_lower": ("10 % quantile of the projected use.", attrgetter("lower")),
    "projected_tokens_upper": ("90 % quantile of the projected use.", attrgetter("upper")),
    "exhaustion_probability": (
        "Probability that the window ends at or over budget.",
        attrgetter("probability"),
    ),
    "exhaustion_timestamp_seconds": (
        "Predicted moment of exhaustion, if more likely than not.",
        attrgetter("exhaustion_at"),
    ),
}
_LIMIT_GAUGES = {
    "provider_limit": "Limit as the provider reports it, in its own unit.",
    "provider_remaining": "What is left of a limit as the provider reports it.",
    "provider_utilization_ratio": "Share of a limit that is used, as the provider reports it.",
    "provider_reset_timestamp_seconds": "When a limit is whole again, as the provider reports it.",
    "provider_drift_ratio": "Use counted by the provider beyond our own, as a share of the limit.",
}


class QuotaCollector:
    """Everything that is known of providers at the moment of a snapshot; runs in any thread."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._views = snapshot.views.values()

    def collect(self) -> Iterator[Family]:
        """Yield the families of the contract."""
        yield from self._states()
        yield from self._budgets()
        yield from self._limits()
        yield from self._counters()
        yield from self._forecasts()

    def _states(self) -> Iterable[Family]:
        state = gauge("state", "1 for the state a provider is in, else 0.", "provider", "state")
        info = gauge("exhausted_info", "1 while exhausted, and why.", "provider", "reason")
        retry = gauge(
            "retry_after_timestamp_seconds", "When to retry, while exhausted.", "provider"
        )
        pending = gauge(
            "recovery_pending", "1 when the time to retry has passed without a success.", "provider"
        )
        throttled = gauge(
            "throttled_until_timestamp_seconds", "When a short rate limit ends.", "provider"
        )
        for one in self._views:
            for each in State:
                state.samples[one.name, each.value] = float(one.view.state is each)
            if one.view.reason is not None and one.view.retry_at is not None:
                info.samples[one.name, one.view.reason.value] = 1.0
                retry.samples[one.name,] = one.view.retry_at
            pending.samples[one.name,] = float(one.pending)
            if one.throttled_until is not None:
                throttled.samples[one.name,] = one.throttled_until
        return state, info, retry, pending, throttled

    def _budgets(self) -> Iterator[Family]:
        measured = [
            ((one.provider, one.budget.period.name), one)
            for view in self._views
            for one in view.measurements
        ]
        for name, (text, value_of) in _BUDGET_GAUGES.items():
            family = gauge(name, text, "provider", "period")
            family.samples = {
                labels: value for labels, one in measured if (value := value_of(one)) is not None
            }
            yield family
        burn = gauge(
            "burn_rate",
            "1 spends exactly the budget over the period.",
            *("provider", "period", "window"),
        )
        burn.samples = {
            (*labels, window): rate for labels, one in measured for window, rate in one.burn.items()
        }
        yield burn

    def _limits(self) -> Iterable[Family]:
        gauges = [gauge(n, text, "provider", "limit") for n, text in _LIMIT_GAUGES.items()]
        for view in self._views:
            for name, (limit, _) in view.limits.items():
                values = (
                    limit.limit,
                    limit.remaining,
                    limit.utilization,
                    limit.reset_at,
                    view.drift.get(name),
                )
                for family, value in zip(gauges, values, strict=True):
                    if value is not None:
                        family.samples[view.name, name] = value
        return gauges

    def _counters(self) -> Iterable[Family]:
        snapshot = self._snapshot
        tokens = counter("tokens", "Tokens counted.", "provider", "model", "kind")
        requests = counter("requests", "Requests counted.", "provider", "model")
        totals: dict[tuple[str, str], Counts] = {}
        for series, counts in snapshot.totals.items():
            add(totals, (series.provider, series.model), counts)
        for (provider, model), counts in totals.items():
            for kind, count in zip(KINDS, counts, strict=False):
                if count:
                    tokens.samples[provider, model, kind] = count
            requests.samples[provider, model] = counts[REQUESTS]
        transitions = counter(
            "transitions", "Changes of a provider's state.", "provider", "state", "reason"
        )
        for (provider, state, reason), times in snapshot.transitions.items():
            transitions.samples[provider, state.value, reason.value] = times
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
        return tokens, requests, transitions, events, uncharged, folded

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
