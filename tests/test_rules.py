"""Alerts fire when they should, stay quiet when they should, and say what to do."""

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.parts import RUNBOOK as RUNBOOK_URL
from grafana.rules import FILES, as_yaml, evaluated
from tests import real
from tests.dashboard_expressions import ROOT, RULES, RUNBOOK, dashboard
from tests.e2e.running import until
from tests.e2e.test_prometheus import running
from tests.storage.servers import free_port

CONFIG = ROOT / "config"
UNIT_TESTS = sorted((CONFIG / "rules" / "tests").glob("*.yml"))
ALERTS = [
    rule
    for path in RULES
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
CASES = [
    case
    for path in UNIT_TESTS
    for test in yaml.safe_load(path.read_text())["tests"]
    for case in test.get("alert_rule_test", [])
]
EACH_ALERT = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])


def program(name: str) -> str:
    """Path of a real program; skips the test where it is missing, or fails with REQUIRE_REAL=1."""
    path = shutil.which(name)
    if path is None and os.environ.get("REQUIRE_REAL") == "1":
        pytest.fail(f"{name} is not on PATH and REQUIRE_REAL=1")
    if path is None:
        pytest.skip(f"{name} is not on PATH")
    return path


def anchors(page: Path) -> set[str]:
    """What a Markdown page can be linked to, as GitHub names it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def succeeds(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_valid() -> None:
    succeeds(program("promtool"), "check", "rules", *RULES)


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_stay_quiet_as_written(path: Path) -> None:
    succeeds(program("promtool"), "test", "rules", path)


def test_prometheus_accepts_its_configuration() -> None:
    succeeds(program("promtool"), "check", "config", CONFIG / "prometheus.yml")


def test_alertmanager_accepts_its_configuration() -> None:
    succeeds(program("amtool"), "check-config", CONFIG / "alertmanager.yml")


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=critical alertname=LLMQuotaExhausted", "page"),
        ("severity=warning alertname=LLMQuotaDrift", "ticket"),
        ("severity=warning alertname=LLMQuotaBudgetUsed used=95%", "ticket"),
        ("severity=info alertname=LLMQuotaBudgetUsed used=50%", "dashboard-only"),
        ("severity=info alertname=LLMQuotaSeriesFolded", "dashboard-only"),
    ],
)
def test_each_severity_reaches_its_receiver(labels: str, receiver: str) -> None:
    routed = subprocess.run(
        [
            program("amtool"),
            "config",
            "routes",
            "test",
            f"--config.file={CONFIG / 'alertmanager.yml'}",
            *labels.split(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    assert routed.stdout.strip() == receiver


@EACH_ALERT
def test_every_alert_is_tested_both_firing_and_quiet(alert: dict[str, Any]) -> None:
    of_this_alert = [case for case in CASES if case["alertname"] == alert["alert"]]

    assert any(case["exp_alerts"] for case in of_this_alert)
    assert any(not case["exp_alerts"] for case in of_this_alert)


@EACH_ALERT
def test_every_alert_has_a_severity_and_says_what_happened_to_what(alert: dict[str, Any]) -> None:
    severities = set(re.findall(r"critical|warning|info", alert["labels"]["severity"]))
    assert severities in ({"critical"}, {"warning"}, {"info"}, {"critical", "warning"})
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "{{ $labels." in alert["annotations"]["summary"]
    assert "{{ $labels." in alert["annotations"]["description"]


@EACH_ALERT
def test_every_alert_leads_to_its_own_section_of_the_runbook(alert: dict[str, Any]) -> None:
    page, anchor = alert["annotations"]["runbook_url"].split("#")

    assert page == RUNBOOK_URL
    assert anchor == alert["alert"].lower()
    assert anchor in anchors(RUNBOOK)


@pytest.mark.parametrize("name", FILES)
def test_committed_rules_are_exactly_what_the_mixin_gives(name: str) -> None:
    built = as_yaml(evaluated(FILES[name]))

    assert (CONFIG / "rules" / name).read_text() == built, "run: python -m grafana.rules"


def test_the_mixin_brings_the_committed_dashboard() -> None:
    assert evaluated("grafanaDashboards") == {"llm-quota.json": dashboard()}


def test_the_job_the_links_the_owner_and_the_shares_are_settings_of_the_mixin(
    tmp_path: Path,
) -> None:
    settings = {
        "job": "quota",
        "runbookUrl": "https://wiki/quota",
        "dashboardUrl": "https://grafana/d/llm-quota",
        "ownerLabels": ["owner", "pager"],
        "usedShares": [{"share": 0.9, "severity": "info"}],
        "learningDays": 7,
    }
    alerts = as_yaml(evaluated("prometheusAlerts", **settings))
    recorded = as_yaml(evaluated("prometheusRules", **settings))
    (tmp_path / "alerts.yml").write_text(alerts)
    (tmp_path / "recording.yml").write_text(recorded)

    succeeds(program("promtool"), "check", "rules", *sorted(tmp_path.glob("*.yml")))
    assert set(re.findall(r'job="(.*?)"', alerts)) == {"quota"}
    assert "localhost" not in alerts
    assert "group_left (owner, pager)" in alerts
    assert "llm_quota_history_seconds) < 7 * 86400" in alerts
    assert re.findall(r"used: (\S+)", alerts) == ["90%"]
    assert "owner, pager) (llm_quota_budget_info)" in recorded


def test_no_case_is_about_an_alert_that_does_not_exist() -> None:
    assert {case["alertname"] for case in CASES} == {alert["alert"] for alert in ALERTS}


def silenced(tmp_path: Path, *alerts: dict[str, str]) -> list[bool]:
    """Whether a real Alertmanager holds back each of these, all firing at once."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    now = datetime.now(UTC).isoformat()
    with (
        running(
            tmp_path,
            url,
            *(real.program("prometheus-alertmanager"), "--cluster.listen-address="),
            f"--config.file={CONFIG / 'alertmanager.yml'}",
            *(f"--web.listen-address=127.0.0.1:{port}", f"--storage.path={tmp_path}"),
        ) as alertmanager,
    ):
        sent = [{"labels": {"job": "llm", **alert}, "startsAt": now} for alert in alerts]
        alertmanager.post("/api/v2/alerts", json=sent).raise_for_status()

        def known() -> list[bool] | None:
            seen = alertmanager.get("/api/v2/alerts").json()
            states = {frozenset(one["labels"].items()): one["status"] for one in seen}
            found = [states.get(frozenset(one["labels"].items())) for one in sent]
            if any(one is None or one["state"] == "unprocessed" for one in found):
                return None
            return [bool(one and one["inhibitedBy"]) for one in found]

        return until(known, "alerts in Alertmanager")


def test_a_page_hides_no_page_about_another_budget_of_the_same_provider(tmp_path: Path) -> None:
    team = {"provider": "claude-team"}
    five_hours = team | {"period": "5h", "unit": "share"}
    week = team | {"period": "week", "unit": "tokens"}

    assert silenced(
        tmp_path,
        five_hours | {"alertname": "LLMQuotaExhausted", "severity": "critical"},
        five_hours | {"alertname": "LLMQuotaExhaustionImminent", "severity": "critical"},
        five_hours | {"alertname": "LLMQuotaBudgetUsed", "severity": "warning", "used": "95%"},
        week | {"alertname": "LLMQuotaExhaustionImminent", "severity": "critical"},
        week | {"alertname": "LLMQuotaExhaustionLikely", "severity": "warning"},
        week | {"alertname": "LLMQuotaBudgetUsed", "severity": "info", "used": "50%"},
        # The provider's own word is about no budget that is known here.
        {"provider": "openai", "alertname": "LLMQuotaExhausted", "severity": "critical"},
        {"provider": "openai", "alertname": "LLMQuotaBurnTooFast", "severity": "critical"}
        | {"period": "day", "unit": "tokens"},
    ) == [False, True, True, False, True, True, False, False]


def test_the_highest_share_that_is_used_says_enough(tmp_path: Path) -> None:
    budget = {"alertname": "LLMQuotaBudgetUsed", "provider": "openai", "period": "day"}

    assert silenced(
        tmp_path,
        *(budget | {"used": used, "severity": "warning"} for used in ("50%", "80%", "95%")),
        budget | {"used": "50%", "severity": "info", "provider": "groq"},
        budget | {"used": "80%", "severity": "warning", "provider": "groq"},
    ) == [True, True, False, True, False]
