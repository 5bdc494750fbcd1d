"""Prints the dashboard as JSON: `python -m grafana.build > grafana/dashboards/llm-quota.json`.

It is classic JSON, the form that Grafana 11, 12 and 13 and grafana.com all take. The newer schema
v2 is known to version 13 alone.
"""

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import dashboard as classic
from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from grafana import details, overview, spending
from grafana.parts import DATASOURCE, NOW, RUNBOOK, AnyPanel
from grafana.series import CHOSEN

COLUMNS = 24  # of Grafana's grid
OLDEST = "11.0.0"  # the version whose form of panels this is; newer ones migrate it
SCHEMA = 39  # of that version

Sized = tuple[Callable[[], AnyPanel], int, int]
"""A panel, its width in columns and its height in grid units of 38 pixels."""

# The first row is the answer to "is anything wrong": it fits a laptop screen without scrolling.
ROWS: dict[str, list[Sized]] = {
    "Now": [
        (overview.out_now, 4, 4),
        (overview.out_soon, 4, 4),
        (overview.throttled, 4, 4),
        (overview.fastest, 4, 4),
        (overview.last_usage, 4, 4),
        (overview.storage, 4, 4),
        (overview.who_is_out, 12, 8),
        (overview.who_will_be_out, 12, 8),
        (overview.how_fast, 12, 9),
        (overview.what_changed, 12, 9),
    ],
    "Who burns it": [
        (spending.who_burns, 10, 8),
        (spending.tokens_by_consumer, 7, 8),
        (spending.cost_by_provider, 7, 8),
    ],
    "What was said": [
        (details.reported_limits, 12, 8),
        (details.refusals, 6, 8),
        (details.drift, 6, 8),
        (overview.overrides, 12, 6),
        (overview.transitions, 12, 6),
    ],
    "Can the forecast be trusted": [
        (details.brier_score, 8, 7),
        (details.calibration_error, 8, 7),
        (details.scored_windows, 4, 7),
        (details.learning, 4, 7),
    ],
    "Is everything counted": [
        (details.events, 10, 7),
        (details.rejected_share, 4, 7),
        (details.uncharged, 6, 7),
        (details.folded, 4, 7),
    ],
    "The exporter itself": [
        (details.replicas, 14, 6),
        (details.trouble, 10, 6),
        (details.http_requests, 8, 8),
        (details.durations, 8, 8),
        (details.commits, 8, 8),
    ],
}
# Last, and closed until somebody opens one: a hundred providers must not push the rest away.
PROVIDER_ROW: list[Sized] = [
    (spending.nearest_budget, 12, 9),
    (spending.all_budgets, 12, 9),
    (spending.its_consumers, 6, 8),
    (spending.tokens_by_kind, 6, 8),
    (spending.requests_by_model, 6, 8),
    (spending.cost_by_model, 6, 8),
]


def dashboard() -> classic.Dashboard:
    result = (
        classic.Dashboard("LLM quotas")
        .uid("llm-quota")
        .description(
            "Who is out of quota, who will be and when, how fast it goes, who burns it, and what"
            " changed."
        )
        .tags(["llm", "quota"])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .time("now-24h", "now")
        .refresh("30s")
        .links(
            [
                classic.DashboardLink("Runbook")
                .type(model.DashboardLinkType.LINK)
                .icon("doc")
                .url(RUNBOOK)
                .target_blank(True)
            ]
        )
        .variables(variables())
        .annotations([exhausted_stretches()])
    )
    ids = count(1)
    top = 0
    for title, sized in ROWS.items():
        result = result.with_row(_row(title, next(ids), top))
        top += 1
        for panel, position in _placed(sized, top):
            result = result.with_panel(panel.id(next(ids)).grid_pos(position))
        top = position.y + position.h
    row = _row("$provider", next(ids), top).repeat("provider")
    for panel, position in _placed(PROVIDER_ROW, top + 1):
        row = row.with_panel(panel.id(next(ids)).grid_pos(position))
    return result.with_row(row)


def _row(title: str, id_: int, top: int) -> classic.Row:
    return classic.Row(title).id(id_).grid_pos(model.GridPos(x=0, y=top, w=COLUMNS, h=1))


def _placed(sized: list[Sized], top: int) -> list[tuple[AnyPanel, model.GridPos]]:
    """Panels from left to right, a new line wherever one is full."""
    placed = []
    x = 0
    for function, width, height in sized:
        panel = function().description(" ".join((function.__doc__ or "").split()))
        placed.append((panel, model.GridPos(x=x, y=top, w=width, h=height)))
        x += width
        if x == COLUMNS:
            x, top = 0, top + height
    return placed


def variables() -> list[Builder[model.VariableModel]]:
    return [
        classic.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _label_values("job", "label_values(llm_quota_exporter_build_info, job)").label("Job"),
        _label_values("provider", 'label_values(llm_quota_state{job=~"$job"}, provider)').label(
            "Provider"
        ),
    ]


def _label_values(name: str, definition: str) -> classic.QueryVariable:
    return (
        classic.QueryVariable(name)
        .datasource(DATASOURCE)
        .query({"qryType": 1, "query": definition, "refId": name})
        .definition(definition)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(text=["All"], value=["$__all"], selected=True))
    )


def exhausted_stretches() -> classic.AnnotationQuery:
    """Marks in every graph the time a provider is out, while at most three are chosen.

    Of all providers together they would cover the graphs.
    """
    few = f"count(count by (provider) (llm_quota_state{{{CHOSEN}}})) <= 3"
    out = f"max by (provider, reason) (llm_quota_exhausted_info{{{CHOSEN}}})"
    ask = (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .expr(f"{out} == 1 and on () ({few})")
        .ref_id("Anno")
    )
    return (
        classic.AnnotationQuery()
        .name("Out of quota")
        .datasource(DATASOURCE)
        .target(ask)  # as Grafana 11 and later keep it
        .expr(ask.build().expr)
        .enable(True)
        .icon_color(NOW)
        .title_format("{{provider}} is out: {{reason}}")
        .tag_keys("provider,reason")
    )


def document() -> dict[str, Any]:
    """The dashboard as it is imported, with what grafana.com asks of an upload."""
    built: dict[str, Any] = json.loads(JSONEncoder().encode(dashboard().build()))
    shown = [panel for row in built["panels"] for panel in (row, *row.get("panels", ()))]
    kinds = sorted({panel["type"] for panel in shown} - {"row"})
    for panel in shown:
        if panel["type"] != "row":
            panel["pluginVersion"] = OLDEST
    return built | {
        "id": None,
        "schemaVersion": SCHEMA,
        "__inputs": [],
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": OLDEST},
            {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
            *({"type": "panel", "id": kind, "name": kind, "version": ""} for kind in kinds),
        ],
    }


if __name__ == "__main__":
    print(json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False))
