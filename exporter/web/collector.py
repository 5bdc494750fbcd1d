"""The service at one moment, as families of metrics."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import attrgetter

from prometheus_client import ProcessCollector

from exporter import __version__
from exporter.core.measure import Measurement
from exporter.core.quota_state import State
from exporter.core.slots import REQUESTS
from exporter.core.usage import KINDS
from exporter.quota_states import ProviderView
from exporter.service import Service
from exporter.web.exposition import Family

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
    """Everything the service knows, as it was when the views were taken.

    Made on the event loop's thread; `collect` may run beside it.
    """

    def __init__(self, service: Service, views: Mapping[str, ProviderView]) -> None:
        self._service = service
        self._views = views.values()
        self._scores = service.forecasts.scores()  # here: the next look changes them

    def collect(self) -> Iterator[Family]:
        """Yield the families of the contract."""
        yield from self._states()
        yield from self._budgets()
        yield from self._limits()
        yield from self._counters()
        yield from self._forecasts()

    def _states(self) -> Iterable[Family]:
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
            gauge = _gauge(name, text, "provider", "period")
            gauge.samples = {
                labels: value for labels, one in measured if (value := value_of(one)) is not None
            }
            yield gauge
        burn = _gauge(
            "burn_rate",
            "1 spends exactly the budget over the period.",
            *("provider", "period", "window"),
        )
        burn.samples = {
            (*labels, window): rate for labels, one in measured for window, rate in one.burn.items()
        }
        yield burn

    def _limits(self) -> Iterable[Family]:
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
                        gauge.samples[view.name, name] = value
        return gauges

    def _counters(self) -> Iterable[Family]:
        service = self._service
        tokens = _counter("tokens", "Tokens counted.", "provider", "model", "kind")
        requests = _counter("requests", "Requests counted.", "provider", "model")
        for (provider, model), counts in service.totals.copy().items():
            for kind, count in zip(KINDS, counts, strict=False):
                if count:
                    tokens.samples[provider, model, kind] = count
            requests.samples[provider, model] = counts[REQUESTS]
        transitions = _counter(
            "transitions", "Changes of a provider's state.", "provider", "state", "reason"
        )
        for (provider, state, reason), times in service.states.transitions.copy().items():
            transitions.samples[provider, state.value, reason.value] = times
        events = _counter("events", "Items pushed, by what became of them.", "source", "outcome")
        for labels, items in service.events.copy().items():
            events.samples[labels] = items
        uncharged = _counter(
            "uncharged", "Items understood and rightly not counted, and why.", "source", "reason"
        )
        for why, items in service.uncharged.copy().items():
            uncharged.samples[why] = items
        folded = _counter("folded", "Usages counted under 'other' because of a cap.", "what")
        for what in ("provider", "model"):
            folded.samples[what,] = service.folded[what]
        return tokens, requests, transitions, events, uncharged, folded

    def _forecasts(self) -> Iterable[Family]:
        brier = _gauge("forecast_brier_score", "Mean squared error of probabilities.", "period")
        error = _gauge(
            "forecast_calibration_error",
            "Mean distance between what was said and how often it came true.",
            "period",
        )
        windows = _gauge("forecast_scored_windows", "Windows that were scored so far.", "period")
        for period, score in self._scores.items():
            brier.samples[period,] = score.brier
            error.samples[period,] = score.calibration_error
            windows.samples[period,] = score.windows
        return brier, error, windows


class ExporterCollector:
    """The exporter itself, and its process.

    Attributes:
        reloaded: whether the last reload was good.
        reloaded_at: Unix seconds of the last good one.
    """

    def __init__(self, service: Service, now: float) -> None:
        self._service = service
        self._process = ProcessCollector(registry=None)
        self.reloaded = True
        self.reloaded_at = now

    def collect(self) -> Iterator[Family]:
        """Yield the families named `llm_quota_exporter_…`, `process_…`."""
        info = _gauge("exporter_build_info", "1, and the version.", "version")
        info.samples[__version__,] = 1.0
        yield info
        yield _single(
            "exporter_config_last_reload_successful",
            "1 when the configuration file was good when last read.",
            float(self.reloaded),
        )
        yield _single(
            "exporter_config_last_reload_success_timestamp_seconds",
            "When the configuration was last taken over.",
            self.reloaded_at,
        )
        yield _single(
            "exporter_storage_up",
            "1 when the store did what it was last asked.",
            float(self._service.storage_up),
        )
        if self._service.last_push:
            yield _single(
                "exporter_last_push_timestamp_seconds",
                "When usage was last stored.",
                self._service.last_push,
            )
        for metric in self._process.collect():
            family = Family(metric.type, metric.name, metric.documentation)
            for sample in metric.samples:
                family.samples[tuple(sample.labels.values())] = sample.value
            yield family


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family("gauge", "llm_quota_" + name, text, *labels)


def _single(name: str, text: str, value: float) -> Family:
    gauge = _gauge(name, text)
    gauge.samples[()] = value
    return gauge


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family("counter", "llm_quota_" + name, text, *labels)
