"""The committed dashboard is what the code gives, and everything it asks for exists."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboard_expressions import (
    DASHBOARD,
    METRICS,
    MISSING,
    ROOT,
    RUNBOOK,
    dashboard,
    dashboard_expressions,
    metrics_in,
    metrics_in_alert_texts,
    panels,
    rule_expressions,
    runbook_expressions,
)
from tests.test_rules import anchors, program

EXPRESSIONS = dashboard_expressions()
PANELS = panels()
TABLES = [panel for panel in PANELS if panel["type"] == "table"]
EACH_PANEL = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
EACH_TABLE = pytest.mark.parametrize("table", TABLES, ids=lambda panel: panel["title"])

SMALL_SCREEN = 1366  # pixels across
MARGIN, GAP = 16, 8  # of the page at either side, and between two panels
PANEL_PADDING = 2  # the borders around a table


def test_committed_json_is_exactly_what_the_code_gives() -> None:
    built = subprocess.run(
        [sys.executable, "-m", "grafana.build"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )

    assert DASHBOARD.read_text() == built.stdout, (
        "run: python -m grafana.build > grafana/dashboards/llm-quota.json"
    )


def test_it_is_the_classic_json_that_grafana_11_and_later_import() -> None:
    board = dashboard()

    assert board["schemaVersion"] == 39
    assert (board["id"], board["uid"]) == (None, "llm-quota")
    assert not {"apiVersion", "kind", "spec"} & board.keys()


def test_it_names_what_it_requires_as_an_upload_to_grafana_com_has_to() -> None:
    board = dashboard()
    required = {(one["type"], one["id"]) for one in board["__requires"]}

    assert required == {
        ("grafana", "grafana"),
        ("datasource", "prometheus"),
        *(("panel", panel["type"]) for panel in PANELS),
    }
    # Nothing has to be typed in at import: the data source is a variable.
    assert board["__inputs"] == []


def test_every_expression_parses(tmp_path: Path) -> None:
    rules = [
        {"record": f"expression_{number}", "expr": expr}
        for number, (_, expr) in enumerate(EXPRESSIONS + runbook_expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "shipped", "rules": rules}]}))

    checked = subprocess.run(
        [program("promtool"), "check", "rules", str(path)], capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("where", "expr"), EXPRESSIONS + rule_expressions() + runbook_expressions()
)
def test_only_known_metrics_are_asked_for(where: str, expr: str) -> None:
    recorded = {name for name, _ in rule_expressions() if ":" in name}

    assert metrics_in(expr) <= METRICS
    assert metrics_in(expr) or any(name in expr for name in recorded)


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS)
def test_no_variable_is_left_unreplaced(where: str, expr: str) -> None:
    assert "$" not in expr


def test_every_metric_is_shown_or_alerted_on() -> None:
    used = {name for _, expr in EXPRESSIONS + rule_expressions() for name in metrics_in(expr)}

    assert used | metrics_in_alert_texts() == METRICS
    assert MISSING <= METRICS


@EACH_PANEL
def test_every_panel_explains_itself_and_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


@EACH_PANEL
def test_what_to_do_leads_to_a_section_of_the_runbook(panel: dict[str, Any]) -> None:
    for link in panel.get("links", ()):
        page, anchor = link["url"].rsplit("/", 1)[1].split("#")
        assert page == "runbook.md"
        assert anchor in anchors(RUNBOOK)


@EACH_PANEL
def test_a_legend_names_only_labels_that_its_series_have(panel: dict[str, Any]) -> None:
    # Grafana writes the name of a label where there is no value.
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert named <= labels_of(target["expr"]) - {"model", "consumer"} | always(target["expr"])


def always(expr: str) -> set[str]:
    """`model` and `consumer` where every series has them: in counters, not in budgets."""
    counters = re.search(r"_total\b", expr)
    return {"model", "consumer"} & labels_of(expr) if counters else set()


def labels_of(expr: str) -> set[str]:
    """The labels that the series of an expression are told apart by."""
    by = {label for by in re.findall(r"by \(([^)]*)\)", expr) for label in by.split(", ")}
    return by | set(re.findall(r'label_join\(.*, "(\w+)", " "', expr))


@EACH_PANEL
def test_a_regular_expression_is_written_as_grafana_reads_one(panel: dict[str, Any]) -> None:
    # Without slashes it has to match a whole name.
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["id"] == "byRegexp":
            assert re.fullmatch(r"/.+/|\.\*", override["matcher"]["options"])


def test_panels_fill_the_rows_without_gap_or_overlap() -> None:
    board = dashboard()["panels"]
    taken: dict[tuple[int, int], str] = {}
    for panel in board + [inner for row in board for inner in row.get("panels", ())]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]
    width, height = (max(axis) + 1 for axis in zip(*taken, strict=True))
    assert (width, len(taken)) == (24, 24 * height)


def test_the_row_of_every_provider_comes_last_and_closed() -> None:
    rows = [panel for panel in dashboard()["panels"] if panel["type"] == "row"]

    assert [row["title"] for row in rows if row.get("repeat")] == ["$provider"]
    last = dashboard()["panels"][-1]
    assert (last["repeat"], last["collapsed"]) == ("provider", True)


def test_panel_numbers_are_unique() -> None:
    board = dashboard()["panels"]
    numbers = [panel["id"] for row in board for panel in (row, *row.get("panels", ()))]

    assert len(set(numbers)) == len(numbers)


def test_variables_are_the_data_source_the_job_and_the_provider() -> None:
    variables = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}

    assert list(variables) == ["datasource", "job", "provider"]
    for name in ("job", "provider"):
        assert variables[name]["multi"]
        assert variables[name]["includeAll"]
        assert variables[name]["allValue"] == ".+"


@EACH_TABLE
def test_table_columns_come_from_labels_and_queries_that_exist(table: dict[str, Any]) -> None:
    letters = [target["refId"] for target in table["targets"]]
    values = {f"Value #{letter}" for letter in letters} if len(letters) > 1 else {"Value"}
    labels = {label for target in table["targets"] for label in labels_of(target["expr"])}

    assert renamed(table).keys() <= values | labels


@EACH_TABLE
def test_joined_rows_keep_their_time_until_they_are_joined(table: dict[str, Any]) -> None:
    # Grafana does not merge frames without it when one of them is empty, which is normal here.
    steps = [step["id"] for step in table["transformations"]]
    keep, _, organize = (step["options"] for step in table["transformations"])

    assert steps == ["filterFieldsByName", "merge", "organize"]
    assert set(keep["include"]["names"]) == {"Time", *renamed(table)}
    assert organize["excludeByName"] == {"Time": True}


@EACH_TABLE
def test_an_empty_cell_is_empty_and_an_empty_table_says_why(table: dict[str, Any]) -> None:
    config = table["fieldConfig"]

    assert config["defaults"]["noValue"].strip()
    assert config["overrides"][0] == {
        "matcher": {"id": "byRegexp", "options": ".*"},
        "properties": [{"id": "noValue", "value": " "}],
    }


@EACH_TABLE
def test_columns_fit_a_small_screen(table: dict[str, Any]) -> None:
    looks = {
        override["matcher"]["options"]: {one["id"]: one["value"] for one in override["properties"]}
        for override in table["fieldConfig"]["overrides"]
        if override["matcher"]["id"] == "byName"
    }
    widths = [
        look.get("custom.width", look.get("custom.minWidth"))
        for look in (looks[name] for name in renamed(table).values())
    ]
    column = (SMALL_SCREEN - 2 * MARGIN + GAP) / 24

    assert None not in widths
    assert sum(widths) <= table["gridPos"]["w"] * column - GAP - PANEL_PADDING


def renamed(table: dict[str, Any]) -> dict[str, str]:
    """Field -> heading of the columns of a table."""
    shown: dict[str, str] = table["transformations"][-1]["options"]["renameByName"]
    return shown


def test_a_link_to_one_provider_keeps_what_else_is_chosen() -> None:
    links = [
        link["url"]
        for table in TABLES
        for override in table["fieldConfig"]["overrides"]
        for one in override["properties"]
        if one["id"] == "links"
        for link in one["value"]
    ]

    assert links
    for link in links:
        for kept in ("${__url_time_range}", "${datasource:queryparam}", "${job:queryparam}"):
            assert kept in link
        # A provider's name may hold a slash or an ampersand.
        assert link.endswith("&var-provider=${__value.raw:percentencode}")


def test_compose_mounts_files_that_exist_and_pins_every_image() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

    assert set(services) == {"exporter", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert service["read_only"], name
        assert re.fullmatch(r"[\w./-]+:(v?\d+\.\d+\.\d+|local)", service["image"]), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), volume


def test_compose_listens_where_it_publishes_ports_of_the_exporter() -> None:
    exporter = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["exporter"]

    assert "--otlp.grpc-address=:4317" in exporter["command"]
    assert {"127.0.0.1:10042:10042", "127.0.0.1:4317:4317"} <= set(exporter["ports"])


def test_files_copied_into_the_image_exist() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()

    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    assert re.search(r"^USER \d+$", dockerfile, re.MULTILINE)


def test_provisioning_finds_the_dashboard_where_compose_mounts_it() -> None:
    provider = yaml.safe_load(
        (ROOT / "grafana" / "provisioning" / "dashboards" / "llm-quota.yml").read_text()
    )["providers"][0]
    grafana = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["grafana"]

    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]
