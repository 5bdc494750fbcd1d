"""The chart renders to what Kubernetes accepts, and carries the shipped rules and dashboard."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config import parse
from grafana.rules import evaluated
from tests.dashboard_expressions import ROOT, dashboard
from tests.real import module

CHART = ROOT / "config" / "helm"
EVERYTHING = {
    "config": {"budgets": {"openai": 2_000_000}},
    "configSecret": "tokens",
    "web": {
        "configSecret": "web",
        "scheme": "HTTPS",
        "externalUrl": "https://example.org/quota",
        "routePrefix": "/quota",
    },
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "networkPolicy": {"enabled": True},
    "otlp": {"grpc": {"enabled": True}},
}
REDIS = {"storage": {"kind": "redis"}, "replicas": 3}


@pytest.fixture(scope="module")
def chart() -> Iterator[Any]:
    with module("helm_python").Chart.load(CHART) as loaded:
        yield loaded


def rendered(chart: Any, values: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) -> manifest of everything that the chart installs with these values."""
    files = chart.render(values, name="quota", namespace="llm")
    found = [
        document
        for path, text in files.items()
        if path.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


NAME = "quota-llm-quota-exporter"


@pytest.mark.parametrize(
    "values", [{}, EVERYTHING, REDIS, EVERYTHING | REDIS], ids=["default", "all", "redis", "both"]
)
def test_kubernetes_accepts_every_manifest(
    chart: Any, values: dict[str, Any], tmp_path: Path
) -> None:
    own = {"ServiceMonitor", "PrometheusRule"}  # of the Prometheus operator
    for (kind, name), manifest in rendered(chart, values).items():
        if kind not in own:
            (tmp_path / f"{kind}-{name}.yaml").write_text(yaml.safe_dump(manifest))
    checked = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_helm_finds_nothing_to_complain_about() -> None:
    found = module("helm_python").lint(CHART)

    assert not [one for one in json.loads(json.dumps(found, default=str)) if "ERROR" in str(one)]


def test_sqlite_is_one_replica_with_a_volume_and_redis_several_without(chart: Any) -> None:
    single = rendered(chart, {})
    several = rendered(chart, REDIS)

    assert single["StatefulSet", NAME]["spec"]["replicas"] == 1
    assert single["StatefulSet", NAME]["spec"]["volumeClaimTemplates"]
    assert several["Deployment", NAME]["spec"]["replicas"] == 3
    assert ("PodDisruptionBudget", NAME) in several
    assert ("PodDisruptionBudget", NAME) not in single
    container = several["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0]
    assert "--storage.url=$(STORAGE_URL)" in container["args"]


def test_an_installed_redis_keeps_what_was_acknowledged(chart: Any) -> None:
    redis = rendered(chart, REDIS)["StatefulSet", f"{NAME}-redis"]
    arguments = " ".join(redis["spec"]["template"]["spec"]["containers"][0]["args"])

    for promise in ("appendonly yes", "appendfsync always", "maxmemory-policy noeviction"):
        assert promise in arguments


def test_a_redis_of_your_own_is_known_by_a_secret_alone(chart: Any) -> None:
    own = {"storage": {"kind": "redis", "redis": {"urlSecret": "my-redis"}}}
    installed = rendered(chart, own)

    assert ("StatefulSet", f"{NAME}-redis") not in installed
    (variable,) = installed["Deployment", NAME]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "my-redis", "key": "url"}}


def test_pods_run_with_no_rights(chart: Any) -> None:
    for (kind, name), manifest in rendered(chart, EVERYTHING | REDIS).items():
        if kind not in {"Deployment", "StatefulSet"}:
            continue
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"], name
            assert rights["allowPrivilegeEscalation"] is False, name
            assert rights["capabilities"] == {"drop": ["ALL"]}, name


@pytest.mark.parametrize("scheme", ["HTTP", "HTTPS"])
def test_otlp_over_grpc_is_let_through_from_the_service_to_the_exporter(
    chart: Any, scheme: str
) -> None:
    values = {
        "otlp": {"grpc": {"enabled": True, "port": 4444}},
        "networkPolicy": {"enabled": True},
        "web": {"scheme": scheme},
    }
    installed = rendered(chart, values)
    (container,) = installed["StatefulSet", NAME]["spec"]["template"]["spec"]["containers"]
    ports = installed["Service", NAME]["spec"]["ports"]
    (rule,) = installed["NetworkPolicy", NAME]["spec"]["ingress"]

    assert "--otlp.grpc-address=:4444" in container["args"]
    assert {"name": "otlp-grpc", "containerPort": 4444} in container["ports"]
    assert [(one["name"], one["port"], one["targetPort"]) for one in ports] == [
        ("http", 10042, "http"),
        ("otlp-grpc", 4444, "otlp-grpc"),
    ]
    assert ports[1]["appProtocol"] == {"HTTP": "kubernetes.io/h2c", "HTTPS": "grpc"}[scheme]
    assert [one["port"] for one in rule["ports"]] == ["http", "otlp-grpc"]


def test_without_it_nothing_is_open_but_http(chart: Any) -> None:
    installed = rendered(chart, {"networkPolicy": {"enabled": True}})
    (container,) = installed["StatefulSet", NAME]["spec"]["template"]["spec"]["containers"]
    (rule,) = installed["NetworkPolicy", NAME]["spec"]["ingress"]

    assert not [one for one in container["args"] if "grpc" in one]
    assert [one["name"] for one in container["ports"]] == ["http"]
    assert [one["name"] for one in installed["Service", NAME]["spec"]["ports"]] == ["http"]
    assert [one["port"] for one in rule["ports"]] == ["http"]


def test_the_exporter_accepts_the_configuration(chart: Any) -> None:
    text = rendered(chart, EVERYTHING)["ConfigMap", NAME]["data"]["quota.yml"]

    (budget,) = parse(text, "quota.yml").budgets["openai"]
    assert yaml.safe_load(text)["budgets"] == {"openai": 2_000_000}
    assert budget


def test_rules_and_dashboard_are_the_shipped_ones(chart: Any) -> None:
    installed = rendered(chart, EVERYTHING)
    groups = evaluated("prometheusRules")["groups"] + evaluated("prometheusAlerts")["groups"]

    assert installed["PrometheusRule", NAME]["spec"]["groups"] == groups
    shown = installed["ConfigMap", f"{NAME}-dashboard"]["data"]["llm-quota.json"]
    assert json.loads(shown) == dashboard()


def test_the_job_of_the_rules_is_the_one_that_the_monitor_gives(chart: Any) -> None:
    values = EVERYTHING | {
        "prometheusRule": {
            "enabled": True,
            "job": "quota",
            "dashboardUrl": "https://grafana/d/x",
            "runbookUrl": "https://wiki/x",
        }
    }
    installed = rendered(chart, values)
    groups = evaluated(
        "prometheusAlerts",
        job="quota",
        dashboardUrl="https://grafana/d/x",
        runbookUrl="https://wiki/x",
    )["groups"]

    assert installed["PrometheusRule", NAME]["spec"]["groups"][1:] == groups
    label = installed["ServiceMonitor", NAME]["spec"]["jobLabel"]
    assert installed["Service", NAME]["metadata"]["labels"][label] == "quota"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"storage": {"kind": "postgres"}}, "kind"),
        ({"replica": 2}, "replica"),
        ({"replicas": 0}, "replicas"),
        ({"image": {"repository": "x", "digest": "latest"}}, "digest"),
        ({"otlp": {"grpc": {"port": 0}}}, "port"),
        ({"otlp": {"grpc": True}}, "grpc"),
    ],
)
def test_a_mistaken_value_is_named(chart: Any, values: dict[str, Any], named: str) -> None:
    with pytest.raises(module("helm_python").HelmError, match=named):
        chart.validate_schema(values)
