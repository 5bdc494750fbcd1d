"""The panels for a closer look: what providers report, the forecast, the intake, the exporter.

What is counted in the store is the same on every replica: `max` folds replicas into one. Events
and requests are counted by the replica that received them: `sum` adds those up. A function's
docstring is its panel's description.
"""

from grafana_foundation_sdk.models import units

from grafana.parts import (
    DURATION,
    FINE,
    NEUTRAL,
    NOW,
    PROVIDER,
    SOON,
    USED_STEPS,
    WATCH,
    AnyPanel,
    big_number,
    column,
    in_colour,
    instant,
    joined,
    limits_drawn,
    lines,
    panel,
    query,
    rows,
    stacked,
    table_of,
    texts,
)
from grafana.series import CHOSEN, counted, with_limit

JOB = 'job=~"$job"'
LEARNING_DAYS = 3  # as in the alert rules: before that a forecast pages nobody


def reported_limits() -> AnyPanel:
    """From response headers and bodies, in the provider's own units, as of its last response."""
    by = f"max by (provider, limit, model) (llm_quota_provider_%s{{{CHOSEN}}})"
    return panel(
        "Limits as the providers report them",
        table_of(
            PROVIDER,
            column("Of", width=130),
            column("Used", *USED_STEPS, width=120, unit=units.PercentUnit, decimals=0, bar=True),
            column("Remaining", width=95, unit=units.Short),
            column("Limit", width=70, unit=units.Short),
            column("Resets in", width=110, unit=DURATION),
            sort_by="Used",
            nothing="No provider has reported a limit",
        ),
        rows(
            with_limit(
                f"{by % 'utilization_ratio'} or 1 - {by % 'remaining'} / ({by % 'limit'} > 0)"
            )
        ),
        rows(with_limit(by % "remaining")),
        rows(with_limit(by % "limit")),
        rows(with_limit(f"{by % 'reset_timestamp_seconds'} - time() > 0")),
        transformations=joined(
            {
                "provider": "Provider",
                "of": "Of",
                "Value #A": "Used",
                "Value #B": "Remaining",
                "Value #C": "Limit",
                "Value #D": "Resets in",
            }
        ),
    )


def refusals() -> AnyPanel:
    """Answers without a result. quota: spent; rate: too fast; billing: unpaid or capped; overload:
    the provider's own trouble.
    """
    return panel(
        "Refusals per minute",
        stacked("short", "No refusal is reported").decimals(1),
        query(
            f"60 * {counted('refusals', 'provider, model, reason', 'provider, reason')}",
            "{{provider}} {{reason}}",
        ),
        runbook="llmquotarefusals",
    )


def drift() -> AnyPanel:
    """Zero is agreement. Above: pushes are lost or somebody else uses the key. Below: something is
    counted twice. Beyond a tenth for an hour it is a warning, of a whole day beyond a twentieth.
    """
    return panel(
        "Drift: their count less ours",
        limits_drawn(
            lines(units.PercentUnit, "No provider reports what we count")
            .min(-1)
            .max(1)
            .axis_centered_zero(True),
            (-0.1, SOON),
            (0.1, SOON),
        ),
        query(
            with_limit(
                f"max by (provider, limit, model) (llm_quota_provider_drift_ratio{{{CHOSEN}}})"
            ),
            "{{provider}} {{of}}",
        ),
        query(
            f"max by (provider, unit) (llm_quota_provider_count_drift_ratio{{{CHOSEN}}})",
            "{{provider}} {{unit}}, last day of the account",
        ),
        runbook="llmquotadrift",
    )


def brier_score() -> AnyPanel:
    """Mean squared error of the probabilities over the last finished windows. 0 is perfect; 0.15
    is what always quoting the base rate scores, so above it the forecast adds nothing.
    """
    return panel(
        "Brier score",
        limits_drawn(
            lines("none", "No window has finished yet").decimals(3).axis_soft_max(0.2), (0.15, SOON)
        ),
        query(f"max by (period) (llm_quota_forecast_brier_score{{{JOB}}})", "{{period}}"),
        runbook="llmquotaforecastuntrustworthy",
    )


def calibration_error() -> AnyPanel:
    """How far stated probabilities are from how often they came true. 0.02: '90 %' came true 88 to
    92 % of the time.
    """
    return panel(
        "Calibration error",
        limits_drawn(
            lines("none", "No window has finished yet").decimals(3).axis_soft_max(0.15), (0.1, SOON)
        ),
        query(f"max by (period) (llm_quota_forecast_calibration_error{{{JOB}}})", "{{period}}"),
        runbook="llmquotaforecastuntrustworthy",
    )


def scored_windows() -> AnyPanel:
    """How many finished windows these scores rest on. Fewer than thirty say little."""
    return panel(
        "Windows scored",
        big_number((30, FINE), below=NEUTRAL, names=True).no_value("none yet"),
        instant(f"max by (period) (llm_quota_forecast_scored_windows{{{JOB}}})", "{{period}}"),
        runbook="llmquotaforecastuntrustworthy",
    )


def learning() -> AnyPanel:
    """Providers whose forecast has seen less than three days: its alerts wait."""
    age = f"max by (provider) (llm_quota_history_seconds{{{CHOSEN}}})"
    return panel(
        "Still learning",
        big_number((1, NEUTRAL)),
        instant(f"count({age} < {LEARNING_DAYS * 86400}) or vector(0)"),
    )


def events() -> AnyPanel:
    """Red: rejected, lost to the budgets. Blue: duplicate, a retry, harmless; or uncharged, rightly
    not counted.
    """
    chart = (
        lines("short", "Nothing was pushed")
        .override_by_regexp("/ (duplicate|uncharged)$/", in_colour(NEUTRAL))
        .override_by_regexp("/ rejected$/", in_colour(NOW))
    )
    return panel(
        "Events per minute by source and outcome",
        chart,
        query(
            "60 * sum by (source, outcome) "
            f"(rate(llm_quota_events_total{{{JOB}}}[$__rate_interval])) > 0",
            "{{source}} {{outcome}}",
        ),
        runbook="llmquotapushesrejected",
    )


def uncharged() -> AnyPanel:
    """Items that were understood and rightly not counted, and why: the same usage from a second
    source, a failed call, a metric about something else.
    """
    return panel(
        "Not counted, last hour",
        table_of(
            column("Source", width=90),
            column("Reason", width=120),
            column("Items", unit=units.Short, decimals=0),
            sort_by="Items",
            nothing="Everything was counted",
        ),
        rows(
            f"sum by (source, reason) (increase(llm_quota_uncharged_total{{{JOB}}}[1h])) > 0",
        ),
        transformations=joined({"source": "Source", "reason": "Reason", "Value": "Items"}),
    )


def rejected_share() -> AnyPanel:
    """Share of each source's events that was refused in the last 10 minutes. More than 1 % for a
    quarter of an hour is a warning.
    """
    rate = f"sum by (source) (rate(llm_quota_events_total{{{JOB}%s}}[10m]))"
    refused = ', outcome="rejected"'
    return panel(
        "Rejected",
        big_number((0.01, SOON), (0.1, NOW), names=True)
        .unit(units.PercentUnit)
        .decimals(1)
        .no_value("none"),
        instant(f"{rate % refused} / ({rate % ''} > 0)", "{{source}}"),
        runbook="llmquotapushesrejected",
    )


def folded() -> AnyPanel:
    """Names beyond the cap on providers, models or consumers, counted together as `other`."""
    return panel(
        "Folded, last hour",
        big_number((1, WATCH), names=True).decimals(0).no_value("none"),
        instant(
            f"max by (what) (increase(llm_quota_folded_total{{{JOB}}}[1h]))",
            "{{what}}",
        ),
        runbook="llmquotaseriesfolded",
    )


def replicas() -> AnyPanel:
    """Each scraped instance: its version, whether its last reload of the configuration worked and
    when that was, and whether its store works.
    """
    reloaded = "llm_quota_exporter_config_last_reload_success_timestamp_seconds"
    return panel(
        "Replicas",
        table_of(
            column("Instance"),
            column("Version", width=80),
            column("Reload", width=70, texts=texts({0: ("failed", NOW), 1: ("fine", FINE)})),
            column("Loaded", width=130, unit=units.DateTimeFromNow),
            column("Storage", width=80, texts=texts({0: ("down", NOW), 1: ("works", FINE)})),
            column("Up for", width=110, unit=DURATION),
            sort_by="Instance",
            descending=False,
            nothing="No instance answers",
        ),
        rows(f"max by (instance, version) (llm_quota_exporter_build_info{{{JOB}}})"),
        rows(f"min by (instance) (llm_quota_exporter_config_last_reload_successful{{{JOB}}})"),
        rows(f"max by (instance) ({reloaded}{{{JOB}}}) * 1000"),
        rows(f"min by (instance) (llm_quota_exporter_storage_up{{{JOB}}})"),
        rows(
            f"time() - max by (instance) (process_start_time_seconds{{{JOB}}}"
            f" and on (job, instance) llm_quota_exporter_build_info)"
        ),
        transformations=joined(
            {
                "instance": "Instance",
                "version": "Version",
                "Value #B": "Reload",
                "Value #C": "Loaded",
                "Value #D": "Storage",
                "Value #E": "Up for",
            }
        ),
        runbook="llmquotaconfigreloadfailed",
    )


def _quantile(histogram: str, by: str = "le") -> str:
    buckets = f"rate(llm_quota_exporter_{histogram}_seconds_bucket{{{JOB}}}[$__rate_interval])"
    return f"histogram_quantile(0.99, sum by ({by}) ({buckets}))"


def http_requests() -> AnyPanel:
    """What the exporter is asked, and how it answers; 5xx in red."""
    requests = f"llm_quota_exporter_http_requests_total{{{JOB}}}"
    return panel(
        "HTTP requests per second",
        lines("reqps", "Nothing was asked").override_by_regexp("/ 5..$/", in_colour(NOW)),
        query(
            f"sum by (route, code) (rate({requests}[$__rate_interval])) > 0", "{{route}} {{code}}"
        ),
    )


def durations() -> AnyPanel:
    """The time that 99 of 100 requests, and commits to the store, stay below."""
    return panel(
        "Slowest hundredth: requests and commits",
        lines(units.Seconds),
        query(_quantile("http_request_duration", "le, route"), "{{route}}"),
        query(_quantile("commit_duration"), "commit"),
    )


def commits() -> AnyPanel:
    """Requests that wait for the store, and how many share one commit. A queue that only grows
    means that the disk or Redis cannot follow.
    """
    queued = f"max(llm_quota_exporter_queue_depth{{{JOB}}})"
    size = f"rate(llm_quota_exporter_commit_group_size_%s{{{JOB}}}[$__rate_interval])"
    return panel(
        "Queue and group commit",
        lines("short"),
        query(queued, "waiting"),
        query(f"sum({size % 'sum'}) / (sum({size % 'count'}) > 0)", "requests a commit"),
    )


def trouble() -> AnyPanel:
    """Background tasks that failed, and jumps of the system's clock, in this time range."""
    failures = f"increase(llm_quota_exporter_task_failures_total{{{JOB}}}[$__range])"
    jumps = f"increase(llm_quota_exporter_clock_jumps_total{{{JOB}}}[$__range])"
    return panel(
        "Failures and clock jumps",
        big_number((1, SOON), names=True).decimals(0).no_value("none"),
        instant(f"sum by (task) ({failures}) > 0", "{{task}}"),
        instant(f"sum({jumps}) > 0", "clock jumps"),
        runbook="llmquotataskfailing",
    )
