"""Prints the dashboard as JSON: `python -m grafana.build > grafana/dashboards/llm-quota.json`.

The schema is v2 (`dashboard.grafana.app/v2`), Grafana's own from version 13 on. Provisioning from
files takes it only in the form of a resource: apiVersion, kind and metadata around the dashboard.
"""

from collections.abc import Callable
from itertools import count

from grafana_foundation_sdk.builders import dashboardv2 as v2
from grafana_foundation_sdk.builders import prometheus, resource
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboardv2 as model

from grafana import details, overview
from grafana.parts import CHOSEN, NOW, RUNBOOK, on_datasource

COLUMNS = 24  # of Grafana's grid

Sized = tuple[Callable[[], v2.Panel], int, int]
"""A panel, its width in columns and its height in grid units of 30 pixels."""

# The first row is the answer to "is anything wrong": it fits a laptop screen without scrolling.
ROWS: dict[str, list[Sized]] = {
    "Now": [
        (overview.out_now, 6, 4),
        (overview.out_soon, 6, 4),
        (overview.fastest, 6, 4),
        (overview.last_usage, 6, 4),
        (overview.who_is_out, 9, 8),
        (overview.who_will_be_out, 15, 8),
        (overview.how_fast, 9, 8),
        (overview.what_changed, 9, 8),
        (overview.transitions, 6, 8),
    ],
    "$provider": [
        (details.budget_and_projection, 12, 9),
        (details.tokens_by_kind, 6, 9),
        (details.requests_by_model, 6, 9),
    ],
    "What the providers report": [
        (details.reported_limits, 12, 8),
        (details.drift, 12, 8),
    ],
    "Can the forecast be trusted": [
        (details.brier_score, 10, 7),
        (details.calibration_error, 10, 7),
        (details.scored_windows, 4, 7),
    ],
    "Is everything counted": [
        (details.events, 9, 7),
        (details.rejected_share, 4, 7),
        (details.folded, 3, 7),
        (details.replicas, 8, 7),
    ],
}


def dashboard() -> v2.Dashboard:
    result = (
        v2.Dashboard("LLM quotas")
        .description(
            "Who is out of tokens, who will be and when, how fast it goes, and what changed."
        )
        .tags(["llm", "quota"])
        .editable(True)
        .cursor_sync(model.DashboardCursorSync.CROSSHAIR)
        .time_settings(
            v2.TimeSettings()
            .timezone("browser")
            .from_val("now-24h")
            .to("now")
            .auto_refresh("30s")
            .auto_refresh_intervals(["10s", "30s", "1m", "5m", "15m"])
        )
        .links(
            [
                v2.DashboardLink()
                .title("Runbook")
                .type(model.DashboardLinkType.LINK)
                .icon("doc")
                .url(RUNBOOK)
                .target_blank(True)
            ]
        )
        .variables(variables())
        .annotations([exhausted_stretches()])
    )
    rows = v2.Rows()
    numbers = count(1)
    for title, sized in ROWS.items():
        grid = v2.Grid()
        x = y = 0
        for function, width, height in sized:
            name = function.__name__.replace("_", "-")
            description = " ".join((function.__doc__ or "").split())
            element = function().id(next(numbers)).description(description)
            result = result.element(name, element)
            grid = grid.item(v2.GridItem().name(name).x(x).y(y).width(width).height(height))
            x += width
            if x == COLUMNS:
                x, y = 0, y + height
        row = v2.Row().title(title).layout(grid)
        if title == "$provider":
            row = row.repeat(v2.RowRepeatOptions().value("provider"))
        rows = rows.row(row)
    return result.layout(rows)


def variables() -> list[Builder[model.VariableKind]]:
    return [
        v2.DatasourceVariable("datasource").label("Data source").plugin_id("prometheus"),
        _label_values("provider", "label_values(llm_quota_state, provider)")
        .label("Provider")
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(text=["All"], value=["$__all"])),
        _label_values("period", "label_values(llm_quota_budget_tokens, period)")
        .label("Period")
        .description("Of the budgets in the rows per provider; the tables above show every period.")
        .current(model.VariableOption(text="day", value="day")),
    ]


def _label_values(name: str, definition: str) -> v2.QueryVariable:
    ask = on_datasource()
    # The SDK models the panel query of the Prometheus data source, not its variable query.
    ask.build().spec = {"qryType": 1, "query": definition, "refId": name}
    return (
        v2.QueryVariable(name)
        .query(ask)
        .definition(definition)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def exhausted_stretches() -> v2.AnnotationQuery:
    """Marks in every graph the time a provider is out: its two ends are the transitions."""
    ask: prometheus.QueryV2 = on_datasource().expr(
        f"max by (provider, reason) (llm_quota_exhausted_info{{{CHOSEN}}}) == 1"
    )
    return (
        v2.AnnotationQuery()
        .name("Out of quota")
        .query(ask)
        .enable(True)
        .icon_color(NOW)
        .legacy_options(
            {"titleFormat": "{{provider}} is out: {{reason}}", "tagKeys": "provider,reason"}
        )
    )


def manifest() -> resource.Manifest:
    return (
        resource.Manifest()
        .api_version("dashboard.grafana.app/v2")
        .kind("Dashboard")
        .metadata(resource.named("llm-quota"))
        .spec(dashboard().build())
    )


if __name__ == "__main__":
    print(JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(manifest().build()))
