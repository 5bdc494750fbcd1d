"""A real LiteLLM proxy before two providers, with the filter in its configuration by name.

Everything that can take a provider out does so in a real exporter, as it would in the field.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml

from tests import real
from tests.client.upstreams import upstream
from tests.documented import block
from tests.e2e.running import Exporter, until
from tests.storage.servers import free_port

QUOTAS = """
budgets:
  openai: {openai}
  deepseek: {deepseek}
"""
BOTH = {"first", "second"}


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    config = QUOTAS.format(openai=10**6, deepseek=10**6)
    with Exporter(tmp_path_factory.mktemp("exporter"), config) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the proxy."""
    for needed in (
        "fastapi",
        "fastapi_sso",
        "apscheduler",
        "mcp",
        "semver",
        "soundfile",
        "expression",
    ):
        real.module(needed)
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    with upstream("first") as first, upstream("second") as second:
        config = yaml.safe_load(block("routing.md", "LiteLLM", "yaml"))
        for deployment, server in zip(config["model_list"], (first, second), strict=True):
            deployment["litellm_params"] |= {"api_base": server.url, "api_key": "k"}
        config["general_settings"] = {"master_key": "sk-proxy"}
        (folder / "proxy.yml").write_text(yaml.safe_dump(config))
        command = [
            *(Path(sys.executable).with_name("litellm"), "--config", folder / "proxy.yml"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]
        settings = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it would ask the internet for prices
            "LLM_QUOTA_EXPORTER_URL": exporter.url,
        }
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | settings, cwd=folder
            )
        try:
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": "Bearer sk-proxy"},
                timeout=20,
                trust_env=False,
            ) as client:

                def serves() -> bool:
                    assert process.poll() is None, (folder / "log").read_text()
                    with contextlib.suppress(httpx.TransportError):
                        return client.get("/health/liveliness").status_code == 200
                    return False

                until(serves, "answer from the proxy", 120)
                yield client
        finally:
            process.terminate()
            process.wait(30)


def answered_by(proxy: httpx.Client, requests: int = 8) -> set[str]:
    """Who answered; of two the chance that one is never drawn is 1 in 128."""
    names = set()
    for _ in range(requests):
        got = proxy.post(
            "/v1/chat/completions",
            json={"model": "chat", "messages": [{"role": "user", "content": "Hello"}]},
        )
        assert got.status_code == 200, got.text
        names.add(got.json()["choices"][0]["message"]["content"])
    return names


def moves_to(proxy: httpx.Client, expected: set[str]) -> None:
    """Traffic is where it belongs, a moment after the exporter knew."""
    until(lambda: answered_by(proxy) == expected, f"traffic to {expected}")


def override(exporter: Exporter, provider: str, **state: object) -> None:
    """As an operator does."""
    got = exporter.http.put(f"/v1/providers/{provider}/state", json=state)
    assert got.status_code == 200, got.text


def configure(exporter: Exporter, **budgets: int) -> None:
    exporter.config.write_text(QUOTAS.format(**budgets))
    exporter.hang_up()


@pytest.fixture(autouse=True)
def _both_serve(exporter: Exporter, proxy: httpx.Client) -> None:
    moves_to(proxy, BOTH)


def soon(hours: float = 1) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


def test_an_operator_moves_the_traffic_and_lets_it_come_back(
    exporter: Exporter, proxy: httpx.Client
) -> None:
    override(exporter, "openai", state="quota_exhausted", retry_after=soon())
    moves_to(proxy, {"second"})
    override(exporter, "openai", state="auto")
    moves_to(proxy, BOTH)


def test_a_refusal_moves_the_traffic_until_a_success(
    exporter: Exporter, proxy: httpx.Client
) -> None:
    refusal = {
        "provider": "deepseek",
        "status": 429,
        "timestamp": time.time() - 3600,  # long enough ago for a success to disprove it
        "headers": {"retry-after": "7200"},
        "body": {"error": {"code": "insufficient_quota", "type": "insufficient_quota"}},
    }
    assert exporter.http.post("/v1/signals", json=refusal).status_code == 200
    moves_to(proxy, {"first"})
    success = {"provider": "deepseek", "status": 200}
    assert exporter.http.post("/v1/signals", json=success).status_code == 200
    moves_to(proxy, BOTH)


def test_where_all_are_out_the_traffic_goes_on(exporter: Exporter, proxy: httpx.Client) -> None:
    override(exporter, "openai", state="quota_exhausted", retry_after=soon())
    moves_to(proxy, {"second"})
    override(exporter, "deepseek", state="quota_exhausted", retry_after=soon())
    moves_to(proxy, BOTH)
    for provider in ("openai", "deepseek"):
        override(exporter, provider, state="auto")


def test_a_prediction_moves_the_traffic_until_the_budget_is_raised(
    exporter: Exporter, proxy: httpx.Client
) -> None:
    exporter.push({"provider": "deepseek", "tokens": 999_000})
    until(lambda: exporter.provider("deepseek")["reason"] == "predicted", "prediction")
    moves_to(proxy, {"first"})
    configure(exporter, openai=10**6, deepseek=10**9)
    moves_to(proxy, BOTH)


def test_a_spent_budget_moves_the_traffic_until_it_is_raised(
    exporter: Exporter, proxy: httpx.Client
) -> None:
    exporter.push({"provider": "openai", "tokens": 1_000_000})
    moves_to(proxy, {"second"})
    configure(exporter, openai=10**9, deepseek=10**9)
    moves_to(proxy, BOTH)


def test_a_killed_exporter_changes_nothing_for_the_traffic(
    exporter: Exporter, proxy: httpx.Client
) -> None:
    override(exporter, "openai", state="quota_exhausted", retry_after=soon())
    moves_to(proxy, {"second"})
    exporter.kill()
    assert answered_by(proxy, 20) == {"second"}  # the copy is used a while longer
    exporter.start()
    assert answered_by(proxy, 20) == {"second"}
    exporter.stop()
