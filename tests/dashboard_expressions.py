"""Every PromQL expression that is shipped, ready to run, and every metric they may rest on."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
DASHBOARD = ROOT / "grafana" / "dashboards" / "llm-quota.json"
RUNBOOK = ROOT / "docs" / "runbook.md"
RULES = sorted((ROOT / "config" / "rules").glob("*.yml"))

METRICS = frozenset(
    {
        "llm_quota_budget_info",
        "llm_quota_budget_override_until_timestamp_seconds",
        "llm_quota_budget_requests",
        "llm_quota_budget_tokens",
        "llm_quota_budget_usd",
        "llm_quota_burn_rate",
        "llm_quota_consumer_cost_usd_total",
        "llm_quota_consumer_requests_total",
        "llm_quota_consumer_tokens_total",
        "llm_quota_cost_usd_total",
        "llm_quota_events_total",
        "llm_quota_exhausted_info",
        "llm_quota_exhaustion_probability",
        "llm_quota_exhaustion_timestamp_seconds",
        "llm_quota_exporter_build_info",
        "llm_quota_exporter_clock_jumps_total",
        "llm_quota_exporter_commit_duration_seconds_bucket",
        "llm_quota_exporter_commit_group_size_count",
        "llm_quota_exporter_commit_group_size_sum",
        "llm_quota_exporter_config_last_reload_success_timestamp_seconds",
        "llm_quota_exporter_config_last_reload_successful",
        "llm_quota_exporter_http_request_duration_seconds_bucket",
        "llm_quota_exporter_http_requests_total",
        "llm_quota_exporter_last_push_timestamp_seconds",
        "llm_quota_exporter_queue_depth",
        "llm_quota_exporter_storage_up",
        "llm_quota_exporter_task_failures_total",
        "llm_quota_folded_total",
        "llm_quota_forecast_brier_score",
        "llm_quota_forecast_calibration_error",
        "llm_quota_forecast_scored_windows",
        "llm_quota_history_seconds",
        "llm_quota_override_info",
        "llm_quota_override_until_timestamp_seconds",
        "llm_quota_projected_requests",
        "llm_quota_projected_requests_lower",
        "llm_quota_projected_requests_upper",
        "llm_quota_projected_tokens",
        "llm_quota_projected_tokens_lower",
        "llm_quota_projected_tokens_upper",
        "llm_quota_projected_usd",
        "llm_quota_projected_usd_lower",
        "llm_quota_projected_usd_upper",
        "llm_quota_provider_count_drift_ratio",
        "llm_quota_provider_count_drift_since_timestamp_seconds",
        "llm_quota_provider_counted",
        "llm_quota_provider_counted_here",
        "llm_quota_provider_drift_ratio",
        "llm_quota_provider_limit",
        "llm_quota_provider_remaining",
        "llm_quota_provider_reset_timestamp_seconds",
        "llm_quota_provider_utilization_ratio",
        "llm_quota_recovery_pending",
        "llm_quota_refusals_total",
        "llm_quota_requests_total",
        "llm_quota_retry_after_timestamp_seconds",
        "llm_quota_silenced_until_timestamp_seconds",
        "llm_quota_state",
        "llm_quota_suspected_duplicates_total",
        "llm_quota_throttled_until_timestamp_seconds",
        "llm_quota_tokens_total",
        "llm_quota_transitions_total",
        "llm_quota_uncharged_total",
        "llm_quota_used_ratio",
        "llm_quota_used_requests",
        "llm_quota_used_tokens",
        "llm_quota_used_usd",
        "llm_quota_window_end_timestamp_seconds",
        "llm_quota_window_start_timestamp_seconds",
        "process_start_time_seconds",
        "up",
    }
)
"""What the dashboard and the rules show: of the exporter, and `up`, which Prometheus adds."""

MISSING = frozenset({})
"""Those of them that the exporter does not expose yet: to be emptied as it does."""

UNSHOWN = frozenset(
    {
        # The parts of histograms that a quantile does not need.
        "llm_quota_exporter_commit_duration_seconds_count",
        "llm_quota_exporter_commit_duration_seconds_sum",
        "llm_quota_exporter_commit_group_size_bucket",
        "llm_quota_exporter_http_request_duration_seconds_count",
        "llm_quota_exporter_http_request_duration_seconds_sum",
        # How far, for whoever was told that the clock was set.
        "llm_quota_exporter_clock_last_jump_seconds",
        # Of replicas on Redis only.
        "llm_quota_exporter_clock_ahead_of_storage_seconds",
        # For whoever has an account read.
        "llm_quota_account_last_read_timestamp_seconds",
        # For whoever sets prices.
        "llm_quota_unpriced_requests_total",
        # For whoever lets routers watch.
        "llm_quota_exporter_watch_resyncs_total",
        "llm_quota_exporter_watchers",
        # For whoever looks into a slow store.
        "llm_quota_exporter_storage_tidy_duration_seconds_bucket",
        "llm_quota_exporter_storage_tidy_duration_seconds_count",
        "llm_quota_exporter_storage_tidy_duration_seconds_sum",
    }
)
"""What the exporter exposes and neither the dashboard nor a rule shows."""


def dashboard() -> dict[str, Any]:
    """The committed dashboard."""
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return loaded


def panels() -> list[dict[str, Any]]:
    """Every panel of the dashboard that shows something, those in closed rows too."""
    top = dashboard()["panels"]
    nested = [panel for row in top for panel in row.get("panels", ())]
    return [panel for panel in top + nested if panel["type"] != "row"]


def dashboard_expressions(
    *, provider: str = ".+", job: str = ".+", interval: str = "5m", time_range: str = "1h"
) -> list[tuple[str, str]]:
    """(title, expression) of every panel, annotation and variable, with variables replaced."""
    values = {
        "$job": job,
        "$provider": provider,
        "$__rate_interval": interval,
        "$__interval": interval,
        "$__range": time_range,
    }
    found = [
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in panels()
        for target in panel["targets"]
    ]
    found += [
        (f"annotation {annotation['name']}", annotation["target"]["expr"])
        for annotation in dashboard()["annotations"]["list"]
    ]
    for variable in dashboard()["templating"]["list"]:
        if asked := re.match(r"label_values\((.+), \w+\)", variable.get("definition", "")):
            found.append((f"variable {variable['name']}", asked[1]))
    return [(title, _replaced(expr, values)) for title, expr in found]


def rule_expressions() -> list[tuple[str, str]]:
    """(alert or record name, expression) of every rule."""
    return [
        (rule.get("alert") or rule["record"], rule["expr"])
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def metrics_in_alert_texts() -> set[str]:
    """Names of the metrics that the texts of alerts ask for when they are written."""
    texts = " ".join(path.read_text() for path in RULES)
    units = ("tokens", "requests", "usd")
    return {
        name % unit if "%s" in name else name
        for name in re.findall(r'printf "[^"]*?(?<![:\w])(llm_quota_[\w%]+)', texts)
        for unit in units
    }


def runbook_expressions() -> list[tuple[str, str]]:
    """(section, query) of every query that the runbook tells somebody to run."""
    sections = RUNBOOK.read_text().split("\n## ")
    return [
        (section.splitlines()[0], " ".join(query.split()))
        for section in sections
        for query in re.findall(r"`([^`]*llm_quota_[^`]*)`", section)
    ]


def metrics_in(expr: str) -> set[str]:
    """Names of the metrics in an expression; recorded series do not count."""
    return set(re.findall(r"(?<![\w:])(?:llm_quota_\w+|process_\w+|up(?=\{))(?![\w:])", expr))


def rests_on(expr: str) -> set[str]:
    """Names of the metrics in an expression, and in the recorded series that it uses."""
    recorded = [rule for name, rule in rule_expressions() if ":" in name and name in expr]
    return metrics_in(expr).union(*(rests_on(rule) for rule in recorded))


def _replaced(expr: str, values: dict[str, str]) -> str:
    for variable in sorted(values, key=len, reverse=True):
        expr = expr.replace(variable, values[variable])
    return expr
