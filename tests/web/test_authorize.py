"""Auth subrequests, by hand and by a real nginx in front of two providers."""

import contextlib
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests import real
from tests.client.upstreams import Upstream, upstream
from tests.documented import block, replaced
from tests.e2e.running import Exporter, until
from tests.storage.servers import free_port

CONFIG = """
budgets:
  openai: 1000
  azure: 1000
prediction: {exhausted_at: off}
"""


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path, CONFIG) as running:
        yield running


def ask(exporter: Exporter, path: str = "", method: str = "GET", **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return exporter.http.request(method, "/v1/authorize" + path, headers=names)


def mark(exporter: Exporter, provider: str, seconds: float | None) -> None:
    """As an operator does."""
    state: dict[str, str] = {"state": "available"}
    if seconds is not None:
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        state = {"state": "quota_exhausted", "retry_after": end.isoformat()}
    assert exporter.http.put(f"/v1/providers/{provider}/state", json=state).status_code == 200


def test_who_has_quota_may_pass_and_who_has_none_may_not(exporter: Exporter) -> None:
    allowed = ask(exporter, x_provider="openai", x_model="gpt", x_consumer="team")
    assert (allowed.status_code, allowed.content) == (200, b"")
    exporter.push({"provider": "openai", "tokens": 1000})
    denied = ask(exporter, x_provider="openai", x_model="gpt")
    assert denied.status_code == 429
    assert 0 < int(denied.headers["retry-after"]) <= 86400
    assert denied.json()["error"].startswith("openai is out of quota (budget) until 2")
    assert ask(exporter, x_provider="azure").status_code == 200
    assert ask(exporter, x_provider="never-heard-of").status_code == 200


def test_a_provider_is_known_by_its_other_names(exporter: Exporter) -> None:
    mark(exporter, "azure", 3600)
    assert ask(exporter, x_provider="azure.ai.openai").status_code == 429


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_envoy_asks_with_method_and_path_of_the_request_in_hand(
    exporter: Exporter, method: str
) -> None:
    mark(exporter, "openai", 3600)
    path = "/v1/chat/completions?stream=true"
    assert ask(exporter, path, method, x_provider="openai").status_code == 429
    assert ask(exporter, path, method, x_provider="azure").status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "message"),
    [
        ("", {}, "x-provider: expected the name of a provider, got none"),
        ("", {"x_provider": "p" * 200}, "x-provider: expected at most 128 characters, got 200"),
        (
            "",
            {"x_provider": "p", "x_model": "m" * 200},
            "x-model: expected at most 128 characters, got 200",
        ),
        ("?denied=500", {"x_provider": "p"}, "denied: expected 403 or 429, got '500'"),
    ],
)
def test_a_question_that_makes_no_sense_is_named(
    exporter: Exporter, path: str, headers: dict[str, str], message: str
) -> None:
    got = ask(exporter, path, **headers)
    assert (got.status_code, got.json()) == (400, {"error": message})


NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {documented}
}}
"""


@pytest.fixture
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    with upstream("first") as first, upstream("second") as second:
        yield first, second


@pytest.fixture
def gateway(
    exporter: Exporter, upstreams: tuple[Upstream, Upstream], tmp_path: Path
) -> Iterator[httpx.Client]:
    """A client of nginx."""
    first, second = upstreams
    file, port = tmp_path / "nginx.conf", free_port()
    where = exporter.url.replace("localhost", "127.0.0.1")
    shown = replaced(block("routing.md", "nginx", "nginx"), first=first.url, second=second.url)
    for what, instead in (
        ("server exporter:10042;", f"server {where.removeprefix('http://')};"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
    ):
        assert shown.count(what) == 1
        shown = shown.replace(what, instead)
    file.write_text(NGINX.format(folder=tmp_path, documented=shown))
    nginx = subprocess.Popen([real.program("nginx"), "-c", str(file), "-p", str(tmp_path)])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

            def listens() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return client.get("/").status_code == 200
                return False

            until(listens, "answer from nginx")
            yield client
    finally:
        nginx.terminate()
        nginx.wait(20)


def answered_by(gateway: httpx.Client) -> str:
    got = gateway.post("/v1/chat/completions", json={"model": "gpt-x"})
    assert got.status_code == 200
    name: str = got.json()["choices"][0]["message"]["content"]
    return name


def test_nginx_sends_requests_elsewhere_while_a_quota_is_spent(
    exporter: Exporter, gateway: httpx.Client
) -> None:
    assert answered_by(gateway) == "first"
    exporter.push({"provider": "openai", "tokens": 1000})
    assert answered_by(gateway) == "second"
    mark(exporter, "openai", None)
    assert answered_by(gateway) == "first"
    mark(exporter, "openai", 3600)
    assert answered_by(gateway) == "second"


def test_nginx_keeps_its_connections_to_the_exporter(
    exporter: Exporter, gateway: httpx.Client
) -> None:
    def clients() -> set[str]:
        """The ports that are connected to the exporter."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        here = f":{exporter.port:04X}"
        return {row[2] for row in rows if row[1].endswith(here) and row[3] == "01"}

    exporter.http.close()
    answered_by(gateway)
    before = clients()
    assert before
    for _ in range(20):
        answered_by(gateway)
    assert clients() >= before


def test_nginx_goes_on_without_the_exporter(exporter: Exporter, gateway: httpx.Client) -> None:
    mark(exporter, "openai", 3600)
    assert answered_by(gateway) == "second"
    exporter.stop()
    assert answered_by(gateway) == "first"
