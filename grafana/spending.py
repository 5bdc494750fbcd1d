"""Who burns it: consumers, models and kinds, in tokens, requests and USD.

A function's docstring is its panel's description.
"""

from grafana_foundation_sdk.models import units

from grafana.parts import (
    NEUTRAL,
    NOW,
    SOON,
    WATCH,
    AnyPanel,
    column,
    in_colour,
    joined,
    limits_drawn,
    lines,
    panel,
    query,
    rows,
    stacked,
    table_of,
)
from grafana.series import (
    PROBABILITY,
    USED,
    at_end,
    counted,
    of_budget,
    with_budget,
)

CONSUMER = "provider, consumer"
NO_CONSUMER = "No report names a consumer"
NO_COST = "No cost is reported, and no price is set"


def _last_hour(counter: str, offset: str = "") -> str:
    return counted(counter, CONSUMER, "consumer", "increase", f"[1h]{offset}")


def who_burns() -> AnyPanel:
    """The twenty consumers that used most in the last hour. Change: against the same hour of the
    day before. Consumers are what reports name: teams, keys, applications.
    """
    tokens = _last_hour("consumer_tokens")
    top = f"topk(20, {tokens} > 0)"
    return panel(
        "Who burns it: consumers in the last hour",
        table_of(
            column("Consumer"),
            column("Tokens", width=90, unit=units.Short, decimals=1),
            column("Change", (1, WATCH), (4, SOON), width=90, unit=units.PercentUnit, decimals=0),
            column("Requests", width=90, unit=units.Short, decimals=0),
            column("Cost", width=90, unit=units.Dollars, decimals=2),
            sort_by="Tokens",
            nothing=NO_CONSUMER,
        ),
        rows(top),
        rows(f"{tokens} / ({_last_hour('consumer_tokens', ' offset 1d')} > 0) - 1 and {top}"),
        rows(f"{_last_hour('consumer_requests')} and {top}"),
        rows(f"{_last_hour('consumer_cost_usd')} and {top}"),
        transformations=joined(
            {
                "consumer": "Consumer",
                "Value #A": "Tokens",
                "Value #B": "Change",
                "Value #C": "Requests",
                "Value #D": "Cost",
            }
        ),
        runbook="llmquotaburntoofast",
    )


def tokens_by_consumer() -> AnyPanel:
    """The eight consumers that used most in the last hour."""
    most = (
        f"topk(8, {counted('consumer_tokens', CONSUMER, 'consumer', 'increase', '[1h] @ end()')})"
    )
    return panel(
        "Tokens per minute by consumer",
        stacked("short", NO_CONSUMER),
        query(
            f"60 * {counted('consumer_tokens', CONSUMER, 'consumer')} and {most}", "{{consumer}}"
        ),
    )


def cost_by_provider() -> AnyPanel:
    """The eight providers that cost most in the last hour. Reported by the sender, or else priced
    by the configuration; usage without either costs nothing here.
    """
    most = counted("cost_usd", "provider, model", "provider", "increase", "[1h] @ end()")
    return panel(
        "Cost per hour by provider",
        stacked(units.Dollars, NO_COST).decimals(2),
        query(
            f"3600 * {counted('cost_usd', 'provider, model', 'provider')} and topk(8, {most})",
            "{{provider}}",
        ),
    )


def nearest_budget() -> AnyPanel:
    """The provider's budget that is now most likely to run out, in shares of it. Blue: used in
    this window. Purple: what the forecast expected at that moment for the window's end, as a
    median and the band that holds eight outcomes of ten. Red: all of it. A band that crosses the
    red line is the warning; a band wholly above it is close to certain.
    """
    nearest = f"topk(1, {at_end(PROBABILITY)} or {at_end(USED)} * 0)"

    def projected(quantile: str = "") -> str:
        shares = [
            f"label_replace({of_budget(f'projected_{unit}{quantile}')}"
            f' / {of_budget(f"budget_{unit}")}, "unit", "{unit}", "", "")'
            for unit in ("tokens", "requests", "usd")
        ]
        return f"max(({' or '.join(shares)}) and {nearest})"

    chart = (
        limits_drawn(lines(units.PercentUnit).axis_soft_max(1.1), (1, NOW))
        .override_by_regexp("/^used/", in_colour(NEUTRAL, fillOpacity=15, lineWidth=3))
        .override_by_name(
            "projected", in_colour("purple", lineStyle={"fill": "dash", "dash": [8, 6]})
        )
        .override_by_name(
            "90 %", in_colour("purple", lineWidth=0, fillBelowTo="10 %", fillOpacity=20)
        )
        .override_by_name("10 %", in_colour("purple", lineWidth=0))
    )
    return panel(
        "$provider: the budget most likely to run out",
        chart,
        query(with_budget(f"{USED} and {nearest}"), "used of {{budget}}"),
        query(projected(), "projected"),
        query(projected("_lower"), "10 %"),
        query(projected("_upper"), "90 %"),
        runbook="llmquotaexhaustionlikely",
    )


def all_budgets() -> AnyPanel:
    """Every budget and reported window, as shares used. The dashed lines are where the alerts say
    so.
    """
    return panel(
        "$provider: used of every budget",
        limits_drawn(
            lines(units.PercentUnit, "No budget, and no window is reported").axis_soft_max(1),
            (0.5, WATCH),
            (0.8, SOON),
            (0.95, NOW),
        ),
        query(with_budget(f"{USED} and topk(12, {at_end(USED)})"), "{{budget}}"),
        runbook="llmquotabudgetused",
    )


def its_consumers() -> AnyPanel:
    """The eight consumers of this provider that used most in the last hour."""
    by = counted("consumer_tokens", CONSUMER, "consumer", "increase", "[1h] @ end()")
    return panel(
        "$provider: tokens per minute by consumer",
        stacked("short", NO_CONSUMER),
        query(
            f"60 * {counted('consumer_tokens', CONSUMER, 'consumer')} and topk(8, {by})",
            "{{consumer}}",
        ),
    )


def tokens_by_kind() -> AnyPanel:
    """Where the tokens go. Reasoning and cache writes are what most often surprises."""
    return panel(
        "$provider: tokens per minute by kind",
        stacked("short"),
        query(f"60 * {counted('tokens', 'provider, model, kind', 'kind')}", "{{kind}}"),
    )


def requests_by_model() -> AnyPanel:
    """Which model is asked. One that suddenly dominates is usually a changed default or a loop."""
    return panel(
        "$provider: requests per minute by model",
        stacked("short"),
        query(f"60 * {counted('requests', 'provider, model', 'model')}", "{{model}}"),
    )


def cost_by_model() -> AnyPanel:
    """Reported or priced cost of each model."""
    return panel(
        "$provider: cost per hour by model",
        stacked(units.Dollars, NO_COST).decimals(2),
        query(f"3600 * {counted('cost_usd', 'provider, model', 'model')}", "{{model}}"),
    )
