"""What a person on call reads first: who is out, who will be and when, how fast, what changed.

All of these are gauges, or counters kept in the store, and so the same on every replica of one
exporter: `max` folds replicas into one. A function's docstring is its panel's description.
"""

from grafana_foundation_sdk.builders import dashboardv2 as v2
from grafana_foundation_sdk.models import units

from grafana.parts import (
    BURN_RATE_STEPS,
    CHOSEN,
    FINE,
    NOW,
    PROBABILITY_STEPS,
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
    panel,
    query,
    rows,
    table_of,
    texts,
    timeline,
)

OUT = f'max by (provider) (llm_quota_state{{{CHOSEN}, state="quota_exhausted"}})'
PROBABILITY = f"max by (provider, period) (llm_quota_exhaustion_probability{{{CHOSEN}}})"
EXHAUSTION = f"max by (provider, period) (llm_quota_exhaustion_timestamp_seconds{{{CHOSEN}}})"
USED = (
    f"max by (provider, period) (llm_quota_used_tokens{{{CHOSEN}}})"
    f" / max by (provider, period) (llm_quota_budget_tokens{{{CHOSEN}}})"
)
BURN_RATE = f'max by (provider, period) (llm_quota_burn_rate{{{CHOSEN}, window="1h"}})'
RETRY_AFTER = f"max by (provider) (llm_quota_retry_after_timestamp_seconds{{{CHOSEN}}})"


def out_now() -> v2.Panel:
    """Providers that cannot be used at this moment, for whatever reason."""
    return panel(
        "Out now",
        big_number((1, NOW)),
        instant(f"count({OUT} == 1) or vector(0)"),
        runbook="llmquotaexhausted",
    )


def out_soon() -> v2.Panel:
    """Budgets not yet spent that are at least 80 % likely to be, with the moment less than six
    hours away.
    """
    return panel(
        "Likely out within 6 hours",
        big_number((1, SOON)),
        instant(
            f"count({PROBABILITY} >= 0.8 and 0 < {EXHAUSTION} - time() < 6 * 3600 and {USED} < 1)"
            " or vector(0)"
        ),
        runbook="llmquotaexhaustionimminent",
    )


def fastest() -> v2.Panel:
    """The budget that is spent fastest. 1 = just lasts for its period, 2 = gone in half of it."""
    return panel(
        "Fastest burn, last hour",
        big_number(*BURN_RATE_STEPS, names=True).decimals(1),
        instant(f"topk(1, {BURN_RATE})", "{{provider}} / {{period}}"),
        runbook="llmquotaburntoofast",
    )


def last_usage() -> v2.Panel:
    """Age of the newest accepted push. Everything else on this page is only as fresh as this."""
    return panel(
        "Last usage arrived",
        big_number((900, WATCH), (3600, SOON)).unit(units.Seconds).no_value("never"),
        instant("time() - max(llm_quota_exporter_last_push_timestamp_seconds)"),
        runbook="llmquotanousage",
    )


def who_is_out() -> v2.Panel:
    """Why, and for how long. Reasons: budget = spent; provider = it said so itself; predicted =
    stopped before it is spent; operator = set by hand. Recovery pending: the retry time has
    passed, but nothing has succeeded there since.
    """
    out = f"max by (provider, reason) (llm_quota_exhausted_info{{{CHOSEN}}}) == 1"
    return panel(
        "Who is out",
        table_of(
            PROVIDER,
            column("Back in", unit=units.DurationSeconds),
            column("Back at", unit=units.DatetimeLocalNotToday),
            column("Recovery", texts=texts({1: ("pending", WATCH)})),
            sort_by="Back in",
        ).no_value("Nobody is out"),
        rows(f"({out}) * on (provider) group_left () ({RETRY_AFTER} - time())"),
        rows(f"({out}) * on (provider) group_left () {RETRY_AFTER} * 1000"),
        rows(f"max by (provider) (llm_quota_recovery_pending{{{CHOSEN}}}) == 1"),
        transformations=joined(
            {
                "provider": "Provider",
                "reason": "Reason",
                "Value #A": "Back in",
                "Value #B": "Back at",
                "Value #C": "Recovery",
            }
        ),
        runbook="llmquotaexhausted",
    )


def who_will_be_out() -> v2.Panel:
    """The twenty unspent budgets most likely to be spent before their reset. Out in: time left to
    act, shown once it is more likely than not. Click a provider to see only that one.
    """
    top = f"topk(20, {PROBABILITY} and {USED} < 1)"
    return panel(
        "Who will be out, and when",
        table_of(
            PROVIDER,
            column("Probability", *PROBABILITY_STEPS, unit=units.PercentUnit, decimals=0),
            column("Out in", unit=units.DurationSeconds),
            column("Out at", unit=units.DatetimeLocalNotToday),
            column("Used", *SPENT_STEPS, unit=units.PercentUnit, decimals=0, bar=True),
            column("Burn rate 1h", *BURN_RATE_STEPS, decimals=1),
            sort_by="Probability",
        ).no_value("No provider has a budget"),
        rows(top),
        rows(f"{EXHAUSTION} - time() > 0 and {top}"),
        rows(f"{EXHAUSTION} * 1000 and {top}"),
        rows(f"{USED} and {top}"),
        rows(f"{BURN_RATE} and {top}"),
        transformations=joined(
            {
                "provider": "Provider",
                "period": "Period",
                "Value #A": "Probability",
                "Value #B": "Out in",
                "Value #C": "Out at",
                "Value #D": "Used",
                "Value #E": "Burn rate 1h",
            }
        ),
        runbook="llmquotaexhaustionlikely",
    )


def how_fast() -> v2.Panel:
    """1 spends exactly the budget over its period. The dashed lines are where a ticket (2) and a
    page (6) begin.
    """
    return panel(
        "How fast: burn rate over the last hour",
        limits_drawn(lines("none").axis_soft_max(2), (1, WATCH), (2, SOON), (6, NOW)),
        query(BURN_RATE, "{{provider}} / {{period}}"),
        runbook="llmquotaburntoofast",
    )


def what_changed() -> v2.Panel:
    """Red while a provider is exhausted. The same stretches are marked in every graph of this
    dashboard.
    """
    return panel(
        "What changed: who was out when",
        timeline().mappings([texts({0: ("available", FINE), 1: ("out", NOW)})]),
        query(OUT, "{{provider}}"),
        runbook="llmquotaexhausted",
    )


def transitions() -> v2.Panel:
    """How often a provider changed into a state, and why. Many in a short time: it flaps."""
    by = "max by (provider, state, reason)"
    total = f"llm_quota_transitions_total{{{CHOSEN}}}"
    return panel(
        "Transitions in this time range",
        table_of(
            PROVIDER,
            column("Times", (4, WATCH), (10, SOON), decimals=0),
            sort_by="Times",
        ).no_value("No change"),
        # Not increase(): a series begins with its first transition, which increase() cannot see.
        rows(f"{by} ({total}) - ({by} ({total} offset $__range) or {by} ({total}) * 0) > 0"),
        transformations=joined(
            {"provider": "Provider", "state": "Became", "reason": "Reason", "Value": "Times"}
        ),
    )
