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
        "up",
        "llm_quota_budget_tokens",
        "llm_quota_burn_rate",
        "llm_quota_events_total",
        "llm_quota_exhausted_info",
        "llm_quota_exhaustion_probability",
        "llm_quota_exhaustion_timestamp_seconds",
        "llm_quota_exporter_build_info",
        "llm_quota_exporter_config_last_reload_success_timestamp_seconds",
        "llm_quota_exporter_config_last_reload_successful",
        "llm_quota_exporter_last_push_timestamp_seconds",
        "llm_quota_folded_total",
        "llm_quota_forecast_brier_score",
        "llm_quota_forecast_calibration_error",
        "llm_quota_forecast_scored_windows",
        "llm_quota_projected_tokens",
        "llm_quota_projected_tokens_lower",
        "llm_quota_projected_tokens_upper",
        "llm_quota_provider_drift_ratio",
        "llm_quota_provider_limit",
        "llm_quota_provider_remaining",
        "llm_quota_provider_reset_timestamp_seconds",
        "llm_quota_provider_utilization_ratio",
        "llm_quota_recovery_pending",
        "llm_quota_requests_total",
        "llm_quota_retry_after_timestamp_seconds",
        "llm_quota_state",
        "llm_quota_tokens_total",
        "llm_quota_transitions_total",
        "llm_quota_used_tokens",
        "llm_quota_window_end_timestamp_seconds",
        "llm_quota_window_start_timestamp_seconds",
    }
)
"""What the exporter exposes, and `up`, which Prometheus adds: the one list of names."""


def dashboard() -> dict[str, Any]:
    """The committed dashboard, without the resource around it."""
    spec: dict[str, Any] = json.loads(DASHBOARD.read_text())["spec"]
    return spec


def dashboard_expressions(
    *, provider: str = ".+", period: str = "day", interval: str = "5m", time_range: str = "1h"
) -> list[tuple[str, str]]:
    """(title, expression) of every panel, annotation and variable, with variables replaced."""
    values = {
        "$provider": provider,
        "$period": period,
        "$__rate_interval": interval,
        "$__interval": interval,
        "$__range": time_range,
    }
    spec = dashboard()
    found = [
        (element["spec"]["title"], query["spec"]["query"]["spec"]["expr"])
        for element in spec["elements"].values()
        for query in element["spec"]["data"]["spec"]["queries"]
    ]
    found += [
        (f"annotation {annotation['spec']['name']}", annotation["spec"]["query"]["spec"]["expr"])
        for annotation in spec["annotations"]
    ]
    for variable in spec["variables"]:
        if asked := re.match(r"label_values\((\w+), \w+\)", variable["spec"].get("definition", "")):
            found.append((f"variable {variable['spec']['name']}", asked[1]))
    return [(title, _replaced(expr, values)) for title, expr in found]


def rule_expressions() -> list[tuple[str, str]]:
    """(alert or record name, expression) of every rule."""
    return [
        (rule.get("alert") or rule["record"], rule["expr"])
        for path in RULES
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def runbook_expressions() -> list[tuple[str, str]]:
    """(section, query) of every query that the runbook tells somebody to run."""
    sections = RUNBOOK.read_text().split("\n## ")
    return [
        (section.splitlines()[0], " ".join(query.split()))
        for section in sections
        for query in re.findall(r"`([^`]*llm_quota_[^`]*)`", section)
    ]


def metrics_in(expr: str) -> set[str]:
    """Names of the exporter's metrics in an expression, and `up`; recorded series do not count."""
    return set(re.findall(r"(?<![\w:])(?:llm_quota_\w+|up(?=\{))(?![\w:])", expr))


def _replaced(expr: str, values: dict[str, str]) -> str:
    for variable in sorted(values, key=len, reverse=True):
        expr = expr.replace(variable, values[variable])
    return expr
