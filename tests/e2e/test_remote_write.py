"""A real Prometheus that has counters already sends them, and needs three lines to do so."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cramjam
import pytest

from tests.e2e.running import Exporter, until
from tests.e2e.test_prometheus import running
from tests.intake.test_remote_write import first_version, second_version, series
from tests.real import program
from tests.storage.servers import free_port

SCRAPES = """
global: {{scrape_interval: 1s, external_labels: {{prometheus_replica: {replica}}}}}
scrape_configs:
  - {{job_name: vllm, scrape_timeout: 1s, static_configs: [{{targets: ["127.0.0.1:{target}"]}}]}}
remote_write:
  - url: {exporter}/api/v1/write
    write_relabel_configs: [{{source_labels: [__name__], regex: "vllm:.*", action: keep}}]
    queue_config: {{batch_send_deadline: 1s}}
"""


class Target:
    """Something that Prometheus scrapes: a vLLM, as far as its counters go."""

    def __init__(self) -> None:
        self.prompts, self.generated = 1000, 100

    def text(self) -> bytes:
        labels = '{model_name="llama"}'
        return (
            f"vllm:prompt_tokens_total{labels} {self.prompts}\n"
            f"vllm:generation_tokens_total{labels} {self.generated}\nother 5\n"
        ).encode()


@contextmanager
def serving(target: Target) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(target.text())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def prometheus(folder: Path, replica: str, target: int, exporter: str) -> Iterator[None]:
    folder.mkdir()
    text = SCRAPES.format(replica=replica, target=target, exporter=exporter)
    (folder / "prometheus.yml").write_text(text)
    port = free_port()
    with running(
        folder,
        f"http://127.0.0.1:{port}",
        program("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ):
        yield


@contextmanager
def vmagent(folder: Path, target: int, exporter: str) -> Iterator[None]:
    """The agent of VictoriaMetrics, which keeps on disk what it could not send."""
    folder.mkdir()
    scraped = f"{{job_name: vllm, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}"
    (folder / "scrape.yml").write_text(
        f"global: {{scrape_interval: 1s}}\nscrape_configs:\n  - {scraped}\n"
    )
    kept = '- {source_labels: [__name__], regex: "vllm:.*", action: keep}\n'
    (folder / "relabel.yml").write_text(kept)
    port = free_port()
    with running(
        folder,
        f"http://127.0.0.1:{port}",
        program("vmagent"),
        "-promscrape.config=scrape.yml",
        f"-remoteWrite.url={exporter}/api/v1/write",
        "-remoteWrite.urlRelabelConfig=relabel.yml",
        "-remoteWrite.tmpDataPath=queue",
        f"-httpListenAddr=127.0.0.1:{port}",
    ):
        yield


def counted(exporter: Exporter, kind: str) -> float:
    labels = {"provider": "vllm", "model": "llama", "kind": kind}
    return exporter.value("llm_quota_tokens_total", **labels) or 0.0


def seen(exporter: Exporter) -> bool:
    labels = {"source": "remote_write", "outcome": "uncharged"}
    return (exporter.value("llm_quota_events_total", **labels) or 0) >= 2


def test_two_prometheus_servers_count_a_restarting_target_once(tmp_path: Path) -> None:
    target = Target()
    with (
        Exporter(tmp_path) as exporter,
        serving(target) as port,
        prometheus(tmp_path / "a", "a", port, exporter.url),
        prometheus(tmp_path / "b", "b", port, exporter.url),
    ):
        until(lambda: seen(exporter), "first samples")
        target.prompts += 500
        target.generated += 50
        until(lambda: counted(exporter, "input") == 500, "what was added")
        until(lambda: counted(exporter, "output") == 50, "what was added")
        target.prompts, target.generated = 7, 3  # it restarted
        until(lambda: counted(exporter, "input") == 507, "what the new one has")
        until(lambda: counted(exporter, "output") == 53, "what the new one has")
        target.prompts += 1
        until(lambda: counted(exporter, "input") == 508, "what was added")
        assert counted(exporter, "output") == 53


def test_the_agent_of_victoria_metrics_brings_what_was_used_while_the_exporter_was_away(
    tmp_path: Path,
) -> None:
    target, address = Target(), f"127.0.0.1:{free_port()}"
    with (
        Exporter(tmp_path, "", f"--web.listen-address={address}") as exporter,
        serving(target) as port,
        vmagent(tmp_path / "agent", port, f"http://{address}"),
    ):
        until(lambda: seen(exporter), "first samples")
        target.prompts += 500
        until(lambda: counted(exporter, "input") == 500, "what was added")
        exporter.kill()
        target.prompts += 70
        exporter.start()
        until(lambda: counted(exporter, "input") == 570, "what was added meanwhile")


@pytest.mark.parametrize("version", [first_version, second_version])
def test_a_write_is_answered_as_senders_expect(tmp_path: Path, version: object) -> None:
    content = {
        first_version: "application/x-protobuf",
        second_version: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    }[version]  # type: ignore[index]  # one of the two
    body = version(series("vllm:prompt_tokens_total", 10, model_name="m"), series("up", 1))  # type: ignore[operator]  # see above
    headers = {"content-encoding": "snappy", "content-type": content}
    with Exporter(tmp_path) as exporter:
        packed = bytes(cramjam.snappy.compress_raw(body))
        answer = exporter.http.post("/api/v1/write", content=packed, headers=headers)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["x-prometheus-remote-write-samples-written"] == "2"
        bad = exporter.http.post("/api/v1/write", content=b"\xff" * 20, headers=headers)
        assert (bad.status_code, "snappy" in bad.text) == (400, True)
        bomb = exporter.http.post(
            "/api/v1/write", content=b"\xff\xff\xff\xff\x0f" + b"\0" * 20, headers=headers
        )
        assert bomb.status_code == 413
