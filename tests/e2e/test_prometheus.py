"""A real Prometheus scrapes the exporter, and a real Alertmanager tells somebody.

Rules are as shipped, but for time: they are evaluated every second and every `for` is a second,
so that minutes of agreement need not be waited for. Alertmanager's waits are shortened likewise,
and its webhooks point at this test.
"""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.dashboard_expressions import (
    MISSING,
    ROOT,
    RULES,
    dashboard_expressions,
    rests_on,
    rule_expressions,
)
from tests.e2e.running import DEADLINE, Exporter, until
from tests.e2e.test_exposition import CONFIG, put_into_every_state
from tests.real import program
from tests.storage.servers import free_port

SILENT = frozenset(
    {
        # Alerts about what does not happen here, or only after hours or days.
        "LLMQuotaExhaustionImminent",
        "LLMQuotaExhaustionLikely",  # waits for three days of history
        "LLMQuotaRecoveryPending",
        "LLMQuotaDrift",
        "LLMQuotaProviderCountDiffers",
        "LLMQuotaForecastUntrustworthy",
        "LLMQuotaExporterDown",
        "LLMQuotaNoUsage",
        "LLMQuotaConfigReloadFailed",
        "LLMQuotaStorageDown",
        "LLMQuotaThrottled",
        "LLMQuotaClockJumped",
        "LLMQuotaTaskFailing",
        "LLMQuotaBudgetUnused",
        "LLMQuotaCountedTwice",
        "LLMQuotaUsageNotUnderstood",
    }
)


class Receiver(BaseHTTPRequestHandler):
    """Takes what Alertmanager sends."""

    received: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.received += [alert | {"path": self.path} for alert in json.loads(body)["alerts"]]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address for alerts, and those that came."""
    received: list[dict[str, Any]] = []
    handler = type("Handler", (Receiver,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()


@contextmanager
def running(folder: Path, url: str, *arguments: str) -> Iterator[httpx.Client]:
    """A server program, once it is ready."""
    with (folder / f"{Path(arguments[0]).name}.log").open("w") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=folder)
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=DEADLINE) as client:

            def ready() -> bool:
                assert process.poll() is None, Path(log.name).read_text()
                try:
                    return client.get("/-/ready").status_code == 200
                except httpx.TransportError:
                    return False

            until(ready, f"ready {arguments[0]}")
            yield client
    finally:
        process.terminate()
        process.wait(DEADLINE)


def hurried(rules: str) -> str:
    return re.sub(r"(?m)^( +(?:keep_firing_)?for:) \w+", r"\1 1s", rules)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[httpx.Client, httpx.Client, list[dict[str, Any]]]]:
    """Prometheus, Alertmanager and received alerts around an exporter under traffic."""
    folder = tmp_path_factory.mktemp("world")
    prometheus, alertmanager = program("prometheus"), program("prometheus-alertmanager")
    mine, theirs = free_port(), free_port()
    with webhook() as (hook, received), Exporter(folder, CONFIG) as exporter:
        for path in RULES:
            (folder / path.name).write_text(hurried(path.read_text()))
        shipped = yaml.safe_load((ROOT / "config" / "prometheus.yml").read_text())
        shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        shipped["rule_files"] = [path.name for path in RULES]
        (job,) = shipped["scrape_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{exporter.port}"]}]
        job["scrape_timeout"] = "1s"
        (manager,) = shipped["alerting"]["alertmanagers"]
        manager["static_configs"] = [{"targets": [f"127.0.0.1:{theirs}"]}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(shipped))

        routes = (ROOT / "config" / "alertmanager.yml").read_text()
        routes = re.sub(r"http://localhost:\d+", hook, routes)
        routes = re.sub(r"group_wait: \w+", "group_wait: 1s", routes)
        (folder / "alertmanager.yml").write_text(routes)

        with (
            running(
                folder,
                f"http://127.0.0.1:{theirs}",
                *(alertmanager, "--config.file=alertmanager.yml", "--storage.path=am"),
                *(f"--web.listen-address=127.0.0.1:{theirs}", "--cluster.listen-address="),
            ) as alerts,
            running(
                folder,
                f"http://127.0.0.1:{mine}",
                *(prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"),
                f"--web.listen-address=127.0.0.1:{mine}",
            ) as queries,
            traffic(exporter),
        ):
            until(lambda: ask(queries, "up == 1"), "first scrape")
            # Counters have to be known before they rise.
            put_into_every_state(exporter)
            until(lambda: ask(queries, "increase(llm_quota_folded_total[1m]) > 0"), "increase")
            yield queries, alerts, received


@contextmanager
def traffic(exporter: Exporter) -> Iterator[None]:
    """Pushes, of which a tenth is rejected, and refusals, until it is left."""
    ending = threading.Event()

    def push() -> None:
        with httpx.Client(base_url=exporter.url, verify=False, trust_env=False) as client:
            while not ending.wait(0.02):
                good = {"provider": "fine", "model": "m", "tokens": 2}
                good |= {"consumer": "team", "cost_usd": 0.001}
                client.post("/v1/usage", json=[good] * 9 + [good | {"tokens": -2}])
                refusal = {"provider": "refused", "status": 429, "headers": {"retry-after": "7200"}}
                refusal |= {"body": {"error": {"code": "insufficient_quota"}}}
                client.post("/v1/signals", json=refusal)

    thread = threading.Thread(target=push)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def ask(prometheus: httpx.Client, expression: str) -> list[Any]:
    """What an expression evaluates to now; it must be a good one."""
    answer = prometheus.post("/api/v1/query", data={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    result: list[Any] = answer["data"]["result"]
    return result


World = tuple[httpx.Client, httpx.Client, list[dict[str, Any]]]


@pytest.mark.parametrize(("title", "expression"), dashboard_expressions(interval="5s"))
def test_every_panel_evaluates_and_shows_data(world: World, title: str, expression: str) -> None:
    prometheus, _, _ = world
    if title.startswith("annotation"):  # of at most three providers
        expression = expression.replace('provider=~".+"', 'provider=~"spent|fine"')
    # Scores are known once a window has finished, everything that is pushed here is counted,
    # nothing was used a day ago, nothing fails, and no account is read.
    unseen = ("forecast_", "uncharged", "offset 1d", "failures_total", "jumps_total", "count_drift")
    if any(part in expression for part in unseen) or rests_on(expression) & MISSING:
        ask(prometheus, expression)
    else:
        until(lambda: ask(prometheus, expression), f"data for {title}")


@pytest.mark.parametrize(("name", "expression"), rule_expressions())
def test_every_rule_evaluates_and_those_of_this_world_give_data(
    world: World, name: str, expression: str
) -> None:
    prometheus, _, _ = world
    ask(prometheus, expression)
    if name not in SILENT and "Burn" not in name and not rests_on(expression) & MISSING:
        until(lambda: ask(prometheus, expression), f"data for {name}")


def test_rules_are_healthy_and_recorded(world: World) -> None:
    prometheus, _, _ = world
    groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    for name, expression in rule_expressions():
        if ":" in name and not rests_on(expression) & MISSING:
            until(lambda name=name: ask(prometheus, name), name)


def test_an_exhausted_provider_pages_somebody(world: World) -> None:
    _, alertmanager, received = world

    def paged() -> dict[str, Any] | None:
        return next(
            (
                alert
                for alert in received
                if alert["labels"]["alertname"] == "LLMQuotaExhausted"
                and alert["labels"]["provider"] == "spent"
            ),
            None,
        )

    alert = until(paged, "page about spent", 30.0)
    assert (alert["path"], alert["status"]) == ("/page", "firing")
    assert alert["labels"]["job"] == "llm-quota-exporter"
    assert alert["annotations"]["summary"].startswith("spent is out of quota")
    assert "It frees up in " in alert["annotations"]["description"]
    known = alertmanager.get("/api/v2/alerts").json()
    assert "LLMQuotaExhausted" in {one["labels"]["alertname"] for one in known}


def test_nobody_is_paged_about_an_operators_decision(world: World) -> None:
    _, alertmanager, _ = world
    known = alertmanager.get("/api/v2/alerts").json()
    about = {
        one["labels"].get("provider") for one in known if "Exhausted" in one["labels"]["alertname"]
    }
    assert "overruled" not in about
