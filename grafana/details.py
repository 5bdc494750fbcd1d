"""The panels for a closer look: one provider, what providers report, the forecast, the intake.

Tokens and requests are counted in the store, the same on every replica: `max` folds replicas into
one. Events are counted by the replica that received them: `sum` adds those up. A function's
docstring is its panel's description.
"""

from grafana_foundation_sdk.builders import dashboardv2 as v2
from grafana_foundation_sdk.models import dashboardv2 as model
from grafana_foundation_sdk.models import units

from grafana.parts import (
    CHOSEN,
    FINE,
    NEUTRAL,
    NOW,
    PROVIDER,
    SOON,
    SPENT_STEPS,
    WATCH,
    big_number,
    column,
    instant,
    joined,
    limits_drawn,
    lines,
    look,
    panel,
    query,
    rows,
    stacked,
    table_of,
    texts,
)

BUDGET = f'{CHOSEN}, period="$period"'


def budget_and_projection() -> v2.Panel:
    """Blue: tokens used in this window. Purple: what the forecast expected at that moment for the
    window's end, as a median and the band that holds eight outcomes of ten. Red: the budget. A
    band that crosses the red line is the warning; a band wholly above it is close to certain.
    """

    def in_colour(color: str, **settings: object) -> list[model.DynamicConfigValue]:
        return look(
            {"color": {"mode": "fixed", "fixedColor": color}}
            | {f"custom.{key}": value for key, value in settings.items()}
        )

    visualization = (
        lines("short")
        .override_by_name("used", in_colour(NEUTRAL, fillOpacity=15, lineWidth=3))
        .override_by_name(
            "projected", in_colour("purple", lineStyle={"fill": "dash", "dash": [8, 6]})
        )
        .override_by_name(
            "90 %", in_colour("purple", lineWidth=0, fillBelowTo="10 %", fillOpacity=20)
        )
        .override_by_name("10 %", in_colour("purple", lineWidth=0))
        .override_by_name("budget", in_colour(NOW))
    )
    return panel(
        "$provider: used, projection and budget per $period",
        visualization,
        query(f"max(llm_quota_used_tokens{{{BUDGET}}})", "used"),
        query(f"max(llm_quota_projected_tokens{{{BUDGET}}})", "projected"),
        query(f"max(llm_quota_projected_tokens_lower{{{BUDGET}}})", "10 %"),
        query(f"max(llm_quota_projected_tokens_upper{{{BUDGET}}})", "90 %"),
        query(f"max(llm_quota_budget_tokens{{{BUDGET}}})", "budget"),
        runbook="llmquotaexhaustionlikely",
    )


def tokens_by_kind() -> v2.Panel:
    """Where the tokens go. Reasoning and cache writes are what most often surprises."""
    return panel(
        "$provider: tokens per minute by kind",
        stacked("short"),
        query(
            "60 * sum by (kind) (max by (provider, model, kind) "
            f"(rate(llm_quota_tokens_total{{{CHOSEN}}}[$__rate_interval])))",
            "{{kind}}",
        ),
    )


def requests_by_model() -> v2.Panel:
    """Who asks. One model that suddenly dominates is usually a changed default or a loop."""
    return panel(
        "$provider: requests per minute by model",
        stacked("short"),
        query(
            "60 * sum by (model) (max by (provider, model) "
            f"(rate(llm_quota_requests_total{{{CHOSEN}}}[$__rate_interval])))",
            "{{model}}",
        ),
    )


def reported_limits() -> v2.Panel:
    """From response headers and bodies, in the provider's own units, as of its last response."""
    by = f"max by (provider, limit) (llm_quota_provider_%s{{{CHOSEN}}})"
    return panel(
        "Limits as the providers report them",
        table_of(
            PROVIDER,
            column("Spent", *SPENT_STEPS, unit=units.PercentUnit, decimals=0, bar=True),
            column("Remaining", unit=units.Short),
            column("Limit", unit=units.Short),
            column("Resets in", unit=units.DurationSeconds),
            sort_by="Spent",
        ).no_value("No provider has reported a limit"),
        rows(by % "utilization_ratio"),
        rows(by % "remaining"),
        rows(by % "limit"),
        rows(f"{by % 'reset_timestamp_seconds'} - time() > 0"),
        transformations=joined(
            {
                "provider": "Provider",
                "limit": "Of",
                "Value #A": "Spent",
                "Value #B": "Remaining",
                "Value #C": "Limit",
                "Value #D": "Resets in",
            }
        ),
    )


def drift() -> v2.Panel:
    """Zero is agreement. Above: pushes are lost or somebody else uses the key. Below: something is
    counted twice. Beyond a tenth for an hour it is a ticket.
    """
    return panel(
        "Drift: their count less ours, as a share of the limit",
        limits_drawn(
            lines(units.PercentUnit).min(-1).max(1).axis_centered_zero(True),
            (-0.1, SOON),
            (0.1, SOON),
        ),
        query(
            f"max by (provider, limit) (llm_quota_provider_drift_ratio{{{CHOSEN}}})",
            "{{provider}} / {{limit}}",
        ),
        runbook="llmquotadrift",
    )


def brier_score() -> v2.Panel:
    """Mean squared error of the probabilities over the last finished windows. 0 is perfect; 0.15
    is what always quoting the base rate scores, so above it the forecast adds nothing.
    """
    return panel(
        "Brier score",
        limits_drawn(lines("none").decimals(3).axis_soft_max(0.2), (0.15, SOON)),
        query("max by (period) (llm_quota_forecast_brier_score)", "{{period}}"),
        runbook="llmquotaforecastuntrustworthy",
    )


def calibration_error() -> v2.Panel:
    """How far stated probabilities are from how often they came true. 0.02: '90 %' came true 88 to
    92 % of the time.
    """
    return panel(
        "Calibration error",
        limits_drawn(lines("none").decimals(3).axis_soft_max(0.15), (0.1, SOON)),
        query("max by (period) (llm_quota_forecast_calibration_error)", "{{period}}"),
        runbook="llmquotaforecastuntrustworthy",
    )


def scored_windows() -> v2.Panel:
    """How many finished windows these scores rest on. Fewer than thirty say little."""
    return panel(
        "Windows scored",
        big_number((30, FINE), below=NEUTRAL, names=True).no_value("none yet"),
        instant("max by (period) (llm_quota_forecast_scored_windows)", "{{period}}"),
        runbook="llmquotaforecastuntrustworthy",
    )


def events() -> v2.Panel:
    """duplicate: a retry, harmless. uncharged: the same usage from a second source. rejected: lost
    to the budgets.
    """
    return panel(
        "Events per minute by source and outcome",
        stacked("short"),
        query(
            "60 * sum by (source, outcome) (rate(llm_quota_events_total[$__rate_interval]))",
            "{{source}} {{outcome}}",
        ),
        runbook="llmquotapushesrejected",
    )


def rejected_share() -> v2.Panel:
    """Share of the events of each source that was refused. More than 1 % for a quarter of an hour
    is a ticket.
    """
    return panel(
        "Rejected, last 10 minutes",
        big_number((0.01, SOON), (0.1, NOW), names=True).unit(units.PercentUnit).no_value("none"),
        instant(
            'sum by (source) (rate(llm_quota_events_total{outcome="rejected"}[10m]))'
            " / sum by (source) (rate(llm_quota_events_total[10m]))",
            "{{source}}",
        ),
        runbook="llmquotapushesrejected",
    )


def replicas() -> v2.Panel:
    """Each scraped instance: its version, whether its last reload of the configuration worked, and
    when that was.
    """
    reloaded = "llm_quota_exporter_config_last_reload_success_timestamp_seconds"
    return panel(
        "Replicas",
        table_of(
            column("Reload", texts=texts({0: ("failed", NOW), 1: ("fine", FINE)})),
            column("Loaded", unit=units.DateTimeFromNow),
            sort_by="Instance",
            descending=False,
        ).no_value("No instance answers"),
        rows("max by (instance, version) (llm_quota_exporter_build_info)"),
        rows("min by (instance) (llm_quota_exporter_config_last_reload_successful)"),
        rows(f"max by (instance) ({reloaded}) * 1000"),
        transformations=joined(
            {
                "instance": "Instance",
                "version": "Version",
                "Value #B": "Reload",
                "Value #C": "Loaded",
            }
        ),
        runbook="llmquotaconfigreloadfailed",
    )


def folded() -> v2.Panel:
    """Names beyond the cap on providers or models, counted together as `other`."""
    return panel(
        "Folded into other, last hour",
        big_number((1, WATCH), names=True).decimals(0).no_value("none"),
        instant("max by (what) (increase(llm_quota_folded_total[1h]))", "{{what}}"),
        runbook="llmquotaseriesfolded",
    )
