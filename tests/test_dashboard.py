"""The committed dashboard is what the code gives, and everything it asks for exists."""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboard_expressions import (
    DASHBOARD,
    METRICS,
    ROOT,
    RUNBOOK,
    dashboard,
    dashboard_expressions,
    metrics_in,
    rule_expressions,
    runbook_expressions,
)
from tests.test_rules import anchors, program

EXPRESSIONS = dashboard_expressions()
PANELS = [element["spec"] for element in dashboard()["elements"].values()]


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

    assert used == METRICS


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".")
    assert panel["data"]["spec"]["queries"]
    for query in panel["data"]["spec"]["queries"]:
        assert query["spec"]["query"]["datasource"]["name"] == "${datasource}"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_what_to_do_leads_to_a_section_of_the_runbook(panel: dict[str, Any]) -> None:
    for link in panel["links"]:
        page, anchor = link["url"].rsplit("/", 1)[1].split("#")
        assert page == "runbook.md"
        assert anchor in anchors(RUNBOOK)


def test_panels_fill_the_rows_without_gap_or_overlap() -> None:
    shown = []
    for row in dashboard()["layout"]["spec"]["rows"]:
        items = [item["spec"] for item in row["spec"]["layout"]["spec"]["items"]]
        shown += [item["element"]["name"] for item in items]
        lines: dict[int, list[dict[str, Any]]] = {}
        for item in items:
            lines.setdefault(item["y"], []).append(item)
        for top, line in lines.items():
            line.sort(key=lambda item: item["x"])
            assert line[0]["x"] == 0
            assert all(left["x"] + left["width"] == right["x"] for left, right in pairwise(line))
            assert line[-1]["x"] + line[-1]["width"] == 24
            assert {item["y"] + item["height"] for item in line} <= {*lines, _bottom(items)}, top
    assert sorted(shown) == sorted(dashboard()["elements"])


def _bottom(items: list[dict[str, Any]]) -> int:
    return max(int(item["y"] + item["height"]) for item in items)


def test_panel_numbers_are_unique() -> None:
    numbers = [panel["id"] for panel in PANELS]

    assert len(set(numbers)) == len(numbers)


def test_variables_are_the_data_source_the_provider_and_the_period() -> None:
    variables = {
        variable["spec"]["name"]: variable["spec"] for variable in dashboard()["variables"]
    }

    assert list(variables) == ["datasource", "provider", "period"]
    assert variables["provider"]["multi"]
    assert variables["provider"]["includeAll"]
    assert variables["provider"]["allValue"] == ".+"


def test_table_columns_come_from_labels_and_queries_that_exist() -> None:
    for panel in PANELS:
        queries = panel["data"]["spec"]["queries"]
        values = (
            {f"Value #{query['spec']['refId']}" for query in queries}
            if len(queries) > 1
            else {"Value"}
        )
        for transformation in panel["data"]["spec"]["transformations"]:
            if transformation["group"] != "organize":
                continue
            named = set(transformation["spec"]["options"]["renameByName"])
            labels = {
                label.strip()
                for query in queries
                for by in re.findall(r"by \(([^)]*)\)", query["spec"]["query"]["spec"]["expr"])
                for label in by.split(",")
            }
            assert named <= values | labels, panel["title"]


def test_compose_mounts_files_that_exist_and_pins_every_image() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]

    assert set(services) == {"exporter", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert service["read_only"], name
        assert re.fullmatch(r"[\w./-]+:(v?\d+\.\d+\.\d+|local)", service["image"]), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), volume


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
