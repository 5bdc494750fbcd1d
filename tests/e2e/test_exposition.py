"""The metrics in every state there is, as Prometheus' own tools read them."""

import gzip
import math
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.dashboard_expressions import METRICS, MISSING, UNSHOWN
from tests.e2e.running import Exporter, series, until
from tests.real import program

CONFIG = """\
budgets:
  spent: 1000
  doomed: {tokens: 1_000_000, period: month}
  fine: 1_000_000_000
  limited: {tokens: 1000, period: 5h}
  rolling: {tokens: 1_000, period: 1h}
  likely: {tokens: 1_000_000, period: month, prediction: {exhausted_at: off}}
  scoped:
    - {requests: 250, model: gemini-3-pro*}
    - {usd: 500, period: month}
    - {usd: 20, per: consumer}
limits: {providers: 14, models_per_provider: 16}
"""
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def put_into_every_state(exporter: Exporter) -> None:
    """Providers with and without budgets, spent, doomed, refused, throttled, overruled, folded."""
    now = time.time()
    exporter.push(
        {"provider": "spent", "tokens": 2000},
        {"provider": "doomed", "tokens": 990_000},
        {"provider": "likely", "tokens": 990_000},
        {"provider": "fine", "model": "m", "input_tokens": 5, "output_tokens": 5},
        {"provider": "rolling", "tokens": 600, "timestamp": now - 2000},
        {"provider": 'odd "name"\\', "model": "ünï", "tokens": 1},
        *({"provider": "fine", "model": f"model-{number}", "tokens": 1} for number in range(30)),
        {"provider": "fine", "tokens": -1},
        {
            "provider": "scoped",
            "model": "gemini-3-pro",
            "consumer": "team",
            "tokens": 10,
            "cost_usd": 0.5,
        },
    )
    exporter.push({"provider": "fine", "tokens": 1, "id": "once"})
    exporter.push({"provider": "fine", "tokens": 1, "id": "once"})
    for provider, headers, body in (
        ("refused", {"retry-after": "7200"}, {"error": {"code": "insufficient_quota"}}),
        ("throttled", {"retry-after": "30"}, {"error": {"code": "rate_limit_exceeded"}}),
    ):
        exporter.http.post(
            "/v1/signals",
            json={"provider": provider, "status": 429, "headers": headers, "body": body},
        )
    exporter.http.post(
        "/v1/signals",
        json={
            "provider": "limited",
            "status": 200,
            "headers": {
                "anthropic-ratelimit-tokens-limit": "1000",
                "anthropic-ratelimit-tokens-remaining": "250",
                "anthropic-ratelimit-unified-5h-utilization": "0.5",
                "anthropic-ratelimit-unified-5h-reset": f"{now + 3600:.0f}",
                "anthropic-ratelimit-tokens-reset": f"{time.strftime('%Y-%m-%dT23:59:59Z')}",
            },
        },
    )
    for provider, until_then in (("overruled", now + 3600), ("recovering", now + 0.3)):
        wish = {"state": "quota_exhausted", "retry_after": until_then}
        exporter.http.put(f"/v1/providers/{provider}/state", json=wish)
    for below, wish in (("budget", {"amount": "2e9", "until": "1h"}), ("silence", {"until": "1h"})):
        exporter.http.put(f"/v1/providers/fine/{below}", json=wish).raise_for_status()
    exporter.push(*({"provider": f"many-{number}", "tokens": 1} for number in range(40)))
    until(
        lambda: exporter.value("llm_quota_recovery_pending", provider="recovering"),
        "pending recovery",
    )


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with Exporter(tmp_path_factory.mktemp("rich"), CONFIG) as exporter:
        put_into_every_state(exporter)
        yield exporter


def scrape(exporter: Exporter, **headers: str) -> httpx.Response:
    return exporter.http.get("/metrics", headers={"accept-encoding": "identity"} | headers)


def test_promtool_has_nothing_to_say(rich: Exporter) -> None:
    text = scrape(rich).text
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_every_state_and_reason_shows(rich: Exporter) -> None:
    seen = rich.metrics()
    reasons = {
        (dict(labels)["provider"], dict(labels)["reason"])
        for (name, labels), value in seen.items()
        if name == "llm_quota_exhausted_info" and value == 1
    }
    assert reasons == {
        ("spent", "budget"),
        ("doomed", "predicted"),
        ("refused", "provider"),
        ("overruled", "operator"),
    }
    throttled = [dict(ls)["provider"] for (n, ls) in seen if n.startswith("llm_quota_throttled_")]
    assert throttled == ["throttled"]
    limits = {
        name.removeprefix("llm_quota_provider_"): value
        for (name, labels), value in seen.items()
        if {("provider", "limited"), ("limit", "tokens")} <= labels
    }
    assert (limits["limit"], limits["remaining"]) == (1000, 250)
    assert seen["llm_quota_folded_total", frozenset({("what", "provider")})] > 20
    assert seen["llm_quota_folded_total", frozenset({("what", "model")})] > 10


def test_each_provider_is_in_exactly_one_state(rich: Exporter) -> None:
    states: dict[tuple[str, ...], float] = {}
    for (name, labels), value in rich.metrics().items():
        if name == "llm_quota_state":
            told = dict(labels)
            scope = tuple(told.get(label, "") for label in ("provider", "model", "consumer"))
            states[scope] = states.get(scope, 0) + value
    assert set(states.values()) == {1}
    whole = {provider for provider, *part in states if not any(part)}
    assert {"spent", "doomed", "fine", "rolling", "scoped", "other"} <= whole
    assert {("scoped", "gemini-3-pro*", ""), ("scoped", "", "team")} <= states.keys()


def test_no_series_is_anything_but_a_finite_number(rich: Exporter) -> None:
    assert all(math.isfinite(value) for value in rich.metrics().values())


def test_names_are_those_that_the_dashboard_and_the_rules_rest_on(rich: Exporter) -> None:
    exposed = {name for name, _ in rich.metrics()}
    # Scores come from finished windows, and everything that is pushed here is counted.
    unseen = {name for name in METRICS if "_forecast_" in name} | {"llm_quota_uncharged_total"}
    unseen |= {name for name in METRICS if "_provider_count" in name}  # of accounts that are read

    assert METRICS - MISSING - {"up"} - unseen <= exposed
    assert {name for name in exposed if name.startswith("llm_quota_")} <= METRICS | UNSHOWN


def test_an_open_metrics_client_gets_open_metrics(rich: Exporter) -> None:
    answer = scrape(rich, accept=OPEN_METRICS)
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family for family in open_metrics_families(answer.text)}
    assert families["llm_quota_tokens"].type == "counter"
    plain = {family.name for family in text_string_to_metric_families(scrape(rich).text)}
    assert families.keys() == plain


@pytest.mark.parametrize("accept", ["text/plain", OPEN_METRICS])
def test_a_client_that_unpacks_gets_the_same_packed(rich: Exporter, accept: str) -> None:
    with rich.http.stream(
        "GET", "/metrics", headers={"accept": accept, "accept-encoding": "gzip"}
    ) as answer:
        packed = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert "accept-encoding" in answer.headers["vary"]
    names = {
        line.split()[2]
        for line in gzip.decompress(packed).decode().splitlines()
        if " TYPE " in line
    }
    plain = scrape(rich, accept=accept).text
    assert names == {line.split()[2] for line in plain.splitlines() if " TYPE " in line}


def test_odd_names_come_back_as_they_were(rich: Exporter) -> None:
    labels = frozenset({("provider", 'odd "name"\\'), ("model", "ünï")})
    assert series(scrape(rich).text)["llm_quota_requests_total", labels] == 1


def test_the_documented_metrics_of_the_exporter_are_those_it_has(rich: Exporter) -> None:
    table = Path(__file__).parents[2].joinpath("docs", "metrics.md").read_text()
    described = dict(re.findall(r"^\| `(llm_quota_exporter_\w+)` \| (\w+) \|", table, re.MULTILINE))
    shown = {
        family.name + "_total" * (family.type == "counter"): family.type
        for family in text_string_to_metric_families(scrape(rich).text)
        if family.name.startswith("llm_quota_exporter_")
    }
    # The server has no clock but where it is Redis.
    assert described == shown | {"llm_quota_exporter_clock_ahead_of_storage_seconds": "gauge"}


def test_requests_are_counted_by_route_and_code_on_every_way_in(tmp_path: Path) -> None:
    event = {"provider": "openai", "tokens": 1}
    with Exporter(tmp_path, "limits: {body_bytes: 1KiB}\n") as exporter:
        for _ in range(3):
            exporter.push(event)  # the short way
        exporter.push({"provider": "openai", "tokens": -1})
        exporter.http.post("/v1/usage", json=event, headers={"x-other": "1"})  # the ordinary way
        exporter.http.post("/v1/usage", content=b" " * 2000)
        exporter.http.get("/v1/providers/some/one")
        exporter.http.get("/made/up")
        exporter.http.get("/v1/signals")
        exporter.http.post("/-/reload")
        with socket.create_connection(("127.0.0.1", exporter.port)) as noise:
            noise.sendall(b"no HTTP\r\n\r\n")
            noise.recv(1000)
        seen = exporter.metrics()
        counted = {
            (labels["route"], labels["code"]): value
            for (name, pairs), value in seen.items()
            for labels in [dict(pairs)]
            if name == "llm_quota_exporter_http_requests_total" and labels["route"] != "/-/ready"
        }
        assert counted == {
            ("/-/healthy", "200"): 0,  # from the start on
            ("/v1/usage", "200"): 4,
            ("/v1/usage", "400"): 1,
            ("/v1/usage", "413"): 1,
            ("/v1/providers/{provider}", "200"): 1,
            ("/v1/signals", "405"): 1,
            ("/-/reload", "403"): 1,
            ("other", "404"): 1,
            ("other", "400"): 1,
        }
        labels = {("route", "/v1/usage"), ("code", "200")}
        name = "llm_quota_exporter_http_request_duration_seconds"
        assert seen[name + "_count", frozenset(labels)] == 4
        assert seen[name + "_bucket", frozenset({*labels, ("le", "+Inf")})] == 4
        assert 0 < seen[name + "_sum", frozenset(labels)] < 20
