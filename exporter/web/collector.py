"""The service at one moment, as Prometheus metric families."""

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter import __version__
from exporter.core.slots import REQUESTS
from exporter.core.standing import State
from exporter.core.usage import KINDS
from exporter.service import Service
from exporter.standings import ProviderView

_BUDGET_GAUGES = {
    "budget_tokens": "Tokens allowed in the period, weighted.",
    "used_tokens": "Tokens used in the running window, weighted.",
    "window_start_timestamp_seconds": "When the running window began, in Unix time.",
    "window_end_timestamp_seconds": "When the running window ends, in Unix time.",
    "projected_tokens": "Projected use at the end of the window (rolling: one length from now).",
    "projected_tokens_lower": "10 % quantile of the projected use.",
    "projected_tokens_upper": "90 % quantile of the projected use.",
    "exhaustion_probability": "Probability that the window ends at or over budget.",
    "exhaustion_timestamp_seconds": "Predicted moment of exhaustion, if more likely than not.",
}
_LIMIT_GAUGES = {
    "provider_limit": "Limit as the provider reports it, in its own unit.",
    "provider_remaining": "What is left of a limit as the provider reports it.",
    "provider_utilization_ratio": "Share of a limit that is used, as the provider reports it.",
    "provider_reset_timestamp_seconds": "When a limit is whole again, as the provider reports it.",
    "provider_drift_ratio": "Use counted by the provider beyond our own, as a share of the limit.",
}
_PERIOD = ("provider", "period")


class QuotaCollector(Collector):
    """Everything the service knows, as it was when the views were taken."""

    def __init__(self, service: Service, views: Mapping[str, ProviderView], now: float) -> None:
        self._service = service
        self._views = views.values()
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield the families of the contract."""
        yield from self._states()
        yield from self._budgets()
        yield from self._limits()
        yield from self._counters()

    def _states(self) -> Iterable[Metric]:
        state = _gauge("state", "1 for the state a provider is in, else 0.", "provider", "state")
        info = _gauge("exhausted_info", "1 while exhausted, and why.", "provider", "reason")
        retry = _gauge(
            "retry_after_timestamp_seconds", "When to retry, while exhausted.", "provider"
        )
        pending = _gauge(
            "recovery_pending", "1 when the time to retry has passed without a success.", "provider"
        )
        throttled = _gauge(
            "throttled_until_timestamp_seconds", "When a short rate limit ends.", "provider"
        )
        for one in self._views:
            for each in State:
                state.add_metric([one.name, each.value], float(one.view.state is each))
            if one.view.reason is not None and one.view.retry_at is not None:
                info.add_metric([one.name, one.view.reason.value], 1.0)
                retry.add_metric([one.name], one.view.retry_at)
            pending.add_metric([one.name], float(one.pending))
            if one.throttled_until is not None:
                throttled.add_metric([one.name], one.throttled_until)
        return state, info, retry, pending, throttled

    def _budgets(self) -> Iterable[Metric]:
        gauges = {name: _gauge(name, text, *_PERIOD) for name, text in _BUDGET_GAUGES.items()}
        burn = _gauge(
            "burn_rate", "1 spends exactly the budget over the period.", *_PERIOD, "window"
        )
        for view in self._views:
            for one in view.measurements:
                labels = [one.provider, one.budget.period.name]
                values = (
                    one.budget.tokens,
                    one.used,
                    one.window.start,
                    one.window.end,
                    one.median,
                    one.lower,
                    one.upper,
                    one.probability,
                    one.exhaustion_at,
                )
                for gauge, value in zip(gauges.values(), values, strict=True):
                    if value is not None:
                        gauge.add_metric(labels, value)
                for window, rate in one.burn.items():
                    burn.add_metric([*labels, window], rate)
        return *gauges.values(), burn

    def _limits(self) -> Iterable[Metric]:
        gauges = [_gauge(n, text, "provider", "limit") for n, text in _LIMIT_GAUGES.items()]
        for view in self._views:
            for name, (limit, _) in view.limits.items():
                values = (
                    limit.limit,
                    limit.remaining,
                    limit.utilization,
                    limit.reset_at,
                    view.drift.get(name),
                )
                for gauge, value in zip(gauges, values, strict=True):
                    if value is not None:
                        gauge.add_metric([view.name, name], value)
        return gauges

    def _counters(self) -> Iterable[Metric]:
        service = self._service
        tokens = _counter("tokens", "Tokens counted.", "provider", "model", "kind")
        requests = _counter("requests", "Requests counted.", "provider", "model")
        for (provider, model), counts in sorted(service.totals.copy().items()):
            for kind, count in zip(KINDS, counts, strict=False):
                if count:
                    tokens.add_metric([provider, model, kind], count)
            requests.add_metric([provider, model], counts[REQUESTS])
        transitions = _counter(
            "transitions", "Changes of a provider's state.", "provider", "state", "reason"
        )
        for (provider, state, reason), times in service.standings.transitions.copy().items():
            transitions.add_metric([provider, state.value, reason.value], times)
        events = _counter("events", "Items pushed, by what became of them.", "source", "outcome")
        for labels, items in service.events.copy().items():
            events.add_metric(labels, items)
        uncharged = _counter(
            "uncharged", "Items understood and rightly not counted, and why.", "source", "reason"
        )
        for why, items in service.uncharged.copy().items():
            uncharged.add_metric(why, items)
        folded = _counter("folded", "Usages counted under 'other' because of a cap.", "what")
        for what in ("provider", "model"):
            folded.add_metric([what], service.folded[what])
        return tokens, requests, transitions, events, uncharged, folded


class ExporterCollector(Collector):
    """The exporter itself.

    Attributes:
        reloaded: whether the last reload was good.
        reloaded_at: Unix seconds of the last good one.
    """

    def __init__(self, service: Service, now: float) -> None:
        self._service = service
        self.reloaded = True
        self.reloaded_at = now

    def collect(self) -> Iterator[Metric]:
        """Yield the families named `llm_quota_exporter_…`."""
        info = _gauge("exporter_build_info", "1, and the version.", "version")
        info.add_metric([__version__], 1.0)
        yield info
        yield _gauge(
            "exporter_config_last_reload_successful",
            "1 when the configuration file was good when last read.",
            value=float(self.reloaded),
        )
        yield _gauge(
            "exporter_config_last_reload_success_timestamp_seconds",
            "When the configuration was last taken over.",
            value=self.reloaded_at,
        )
        yield _gauge(
            "exporter_storage_up",
            "1 when the store did what it was last asked.",
            value=float(self._service.storage_up),
        )
        yield from self._forecasts()
        if self._service.last_push:
            yield _gauge(
                "exporter_last_push_timestamp_seconds",
                "When usage was last stored.",
                value=self._service.last_push,
            )

    def _forecasts(self) -> Iterable[Metric]:
        brier = _gauge("forecast_brier_score", "Mean squared error of probabilities.", "period")
        error = _gauge(
            "forecast_calibration_error",
            "Mean distance between what was said and how often it came true.",
            "period",
        )
        windows = _gauge("forecast_scored_windows", "Windows that were scored so far.", "period")
        for period, score in self._service.forecasts.scores().items():
            brier.add_metric([period], score.brier)
            error.add_metric([period], score.calibration_error)
            windows.add_metric([period], score.windows)
        return brier, error, windows


def _gauge(name: str, text: str, *labels: str, value: float | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily("llm_quota_" + name, text, labels=labels or None, value=value)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily("llm_quota_" + name, text, labels=labels)
