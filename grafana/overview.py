"""What a person on call reads first: who is out, who will be and when, how fast, what changed.

A function's docstring is its panel's description.
"""

from grafana_foundation_sdk.models import units

from grafana.parts import (
    BURN_RATE_STEPS,
    DURATION,
    FINE,
    NOW,
    PROBABILITY_STEPS,
    PROVIDER,
    SOON,
    USED_STEPS,
    WATCH,
    AnyPanel,
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
from grafana.series import (
    BUDGET_LEGEND,
    BURN_RATE,
    CHOSEN,
    EXHAUSTION,
    PROBABILITY,
    SCOPE_LABELS,
    STILL_OPEN,
    USED,
    WHOLE,
    at_end,
    of_budget,
    of_provider,
    of_scope,
    with_budget,
    with_scope,
)

HOUR = 3600
PERCENT = units.PercentUnit


def out_now() -> AnyPanel:
    """Providers of which everything, or what one model or consumer may have, is out right now."""
    out = of_provider("state", 'state="quota_exhausted"')
    return panel(
        "Out now",
        big_number((1, NOW)),
        instant(f"count({out} == 1) or vector(0)"),
        runbook="llmquotaexhausted",
    )


def out_soon() -> AnyPanel:
    """Budgets that are at least 80 % likely to be spent before their reset, with the moment less
    than six hours away. What is already out does not count here.
    """
    near = f"0 < {EXHAUSTION} - time() < {6 * HOUR}"
    return panel(
        "Likely out soon",
        big_number((1, SOON)),
        instant(f"count({PROBABILITY} >= 0.8 and {near} and ({STILL_OPEN})) or vector(0)"),
        runbook="llmquotaexhaustionimminent",
    )


def throttled() -> AnyPanel:
    """Providers that ask to wait for a moment: a limit per minute, not a spent quota."""
    until = of_provider("throttled_until_timestamp_seconds")
    return panel(
        "Throttled now",
        big_number((1, WATCH)),
        instant(f"count({until} > time()) or vector(0)"),
        runbook="llmquotathrottled",
    )


def fastest() -> AnyPanel:
    """The open budget that was spent fastest in the last hour. 1 just lasts for its period; at 2
    it is gone in half of it.
    """
    return panel(
        "Fastest burn",
        big_number(*BURN_RATE_STEPS, names=True).decimals(1).no_value("none"),
        instant(with_budget(f"topk(1, {BURN_RATE} and ({STILL_OPEN}))"), BUDGET_LEGEND),
        runbook="llmquotaburntoofast",
    )


def last_usage() -> AnyPanel:
    """Age of the newest accepted push. Everything else on this page is only as fresh as this."""
    pushed = 'max(llm_quota_exporter_last_push_timestamp_seconds{job=~"$job"})'
    return panel(
        "Last usage arrived",
        big_number((900, WATCH), (3600, SOON)).unit(units.Seconds).decimals(0).no_value("never"),
        instant(f"time() - {pushed}"),
        runbook="llmquotanousage",
    )


def storage() -> AnyPanel:
    """Whether every replica's store does what it is asked. Down: pushes are answered 503."""
    return panel(
        "Storage",
        big_number((1, FINE), below=NOW)
        .mappings([texts({0: ("down", NOW), 1: ("works", FINE)})])
        .no_value("unknown"),
        instant('min(llm_quota_exporter_storage_up{job=~"$job"})'),
        runbook="llmquotastoragedown",
    )


def who_is_out() -> AnyPanel:
    """Soonest back first. Of: the model or consumer that is out, where not the whole provider is.
    Reasons: budget = spent; provider = it said so itself; predicted = stopped before it is spent;
    operator = set by hand. Recovery pending: the retry time has passed, but nothing has succeeded
    there since.
    """
    out = f"max by ({SCOPE_LABELS}, reason) (llm_quota_exhausted_info{{{CHOSEN}}}) == 1"
    retry = of_scope("retry_after_timestamp_seconds")
    back = f"({out}) * on ({SCOPE_LABELS}) group_left ()"
    return panel(
        "Who is out",
        table_of(
            PROVIDER,
            column("Of", width=110),
            column("Reason", width=80),
            column("Back in", width=100, unit=DURATION),
            column("Back at", width=90, unit="time:ddd HH:mm"),
            column("Recovery", width=80, texts=texts({1: ("pending", WATCH)})),
            sort_by="Back in",
            descending=False,
            nothing="Nobody is out",
        ),
        rows(with_scope(f"{back} ({retry} - time())")),
        rows(with_scope(f"{back} {retry} * 1000")),
        rows(with_scope(f"{of_scope('recovery_pending')} == 1")),
        transformations=joined(
            {
                "provider": "Provider",
                "scope": "Of",
                "reason": "Reason",
                "Value #A": "Back in",
                "Value #B": "Back at",
                "Value #C": "Recovery",
            }
        ),
        runbook="llmquotaexhausted",
    )


def who_will_be_out() -> AnyPanel:
    """The twenty open budgets most likely to be spent before their reset, in tokens, requests or
    USD, or shares of a window that a provider reports. Out in: time left to act, shown once it is
    more likely than not. Click a provider to see only that one.
    """
    top = f"topk(20, ({PROBABILITY} or {USED} * 0) and ({STILL_OPEN}))"
    return panel(
        "Who will be out, and when",
        table_of(
            PROVIDER,
            column("Budget", width=170),
            column(
                "Probability", *PROBABILITY_STEPS, width=105, unit=units.PercentUnit, decimals=0
            ),
            column("Out in", width=90, unit=DURATION),
            column("Used", *USED_STEPS, width=95, unit=PERCENT, decimals=0, bar=True),
            column("Burn 1h", *BURN_RATE_STEPS, width=70, decimals=1),
            sort_by="Probability",
            nothing="No budget is open",
        ),
        rows(with_budget(f"{PROBABILITY} and {top}")),
        rows(with_budget(f"{EXHAUSTION} - time() > 0 and {top}")),
        rows(with_budget(f"{USED} and {top}")),
        rows(with_budget(f"{BURN_RATE} and {top}")),
        transformations=joined(
            {
                "provider": "Provider",
                "budget": "Budget",
                "Value #A": "Probability",
                "Value #B": "Out in",
                "Value #C": "Used",
                "Value #D": "Burn 1h",
            }
        ),
        runbook="llmquotaexhaustionlikely",
    )


def how_fast() -> AnyPanel:
    """The fifteen budgets that are now spent fastest. 1 spends exactly the budget over its period.
    The dashed lines are where a warning (2) and a page (6) begin.
    """
    return panel(
        "How fast: burn rate over the last hour",
        limits_drawn(
            lines("none", "No budget is known").decimals(1).axis_soft_max(2),
            (1, WATCH),
            (2, SOON),
            (6, NOW),
        ),
        query(with_budget(f"{BURN_RATE} and topk(15, {at_end(BURN_RATE)})"), BUDGET_LEGEND),
        runbook="llmquotaburntoofast",
    )


def what_changed() -> AnyPanel:
    """Providers that were out in this time range. Red: nothing could be had; orange: not for one
    model or consumer.
    """
    ever = f'llm_quota_state{{{CHOSEN}, state="quota_exhausted"}}'
    whole = f'llm_quota_state{{{CHOSEN}, state="quota_exhausted", {WHOLE}}}'
    return panel(
        "What changed: who was out when",
        timeline("Nobody was out").mappings(
            [texts({0: ("available", FINE), 1: ("in part", SOON), 2: ("out", NOW)})]
        ),
        query(
            f"max by (provider) (2 * {whole} or {ever})"
            f" and on (provider) max_over_time({ever}[$__range] @ end()) > 0",
            "{{provider}}",
        ),
        runbook="llmquotaexhausted",
    )


def transitions() -> AnyPanel:
    """How often a provider changed into a state, and why. Many in a short time: it flaps."""
    by = "max by (provider, state, reason)"
    total = f"llm_quota_transitions_total{{{CHOSEN}}}"
    return panel(
        "Transitions in this time range",
        table_of(
            PROVIDER,
            column("Became", width=130),
            column("Reason", width=80),
            column("Times", (4, WATCH), (10, SOON), decimals=0),
            sort_by="Times",
            nothing="No change",
        ),
        # Not increase(): a series begins with its first transition, which increase() cannot see.
        rows(f"{by} ({total}) - ({by} ({total} offset $__range) or {by} ({total}) * 0) > 0"),
        transformations=joined(
            {"provider": "Provider", "state": "Became", "reason": "Reason", "Value": "Times"}
        ),
    )


def overrides() -> AnyPanel:
    """What somebody set by hand, and for how much longer it holds: states against all other
    evidence, other amounts of budgets, silences about predictions."""
    states = f"max by ({SCOPE_LABELS}, state) (llm_quota_override_info{{{CHOSEN}}}) == 1"
    ends = of_scope("override_until_timestamp_seconds")
    said = with_scope(f"(({states}) * on ({SCOPE_LABELS}) group_left () ({ends})) - time() > 0")
    set_of_budgets = [
        f'label_replace(label_join({of_budget(name)} - time() > 0, "scope", " ", "period", "unit",'
        f' "model", "consumer"), "state", "{what}", "", "")'
        for name, what in (
            ("budget_override_until_timestamp_seconds", "another budget"),
            ("silenced_until_timestamp_seconds", "silenced predictions"),
        )
    ]
    return panel(
        "Set by an operator",
        table_of(
            PROVIDER,
            column("Of"),
            column("What", width=150),
            column("Ends in", unit=DURATION, width=100),
            sort_by="Ends in",
            descending=False,
            nothing="Nothing is set by hand",
        ),
        rows(" or ".join((said, *set_of_budgets))),
        transformations=joined(
            {"provider": "Provider", "scope": "Of", "state": "What", "Value": "Ends in"}
        ),
        runbook="llmquotaoverride",
    )
