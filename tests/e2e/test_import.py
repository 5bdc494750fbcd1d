"""History that a real Prometheus has kept, in a new installation on its first evening."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.running import Exporter, command
from tests.e2e.test_prometheus import running
from tests.real import program
from tests.storage.servers import free_port

STEP = 300
DAY = 86400


def history(now: int) -> str:
    """Three days of two counters as OpenMetrics; the first restarts once."""
    start, value = now - 3 * DAY, 5000
    lines = ["# TYPE vllm:prompt_tokens counter"]
    for n, at in enumerate(range(start, now, 60)):
        if n == 2000:
            value = 0
        elif n:
            value += n % 7
        lines.append(f'vllm:prompt_tokens_total{{model_name="llama",instance="a"}} {value} {at}')
    lines.append("# TYPE custom counter")
    for n, at in enumerate(range(start, now, 60)):
        lines.append(f'custom_total{{provider="mine",model="m",kind="output"}} {n * 3} {at}')
    return "\n".join([*lines, "# EOF", ""])


@contextmanager
def prometheus(folder: Path, text: str) -> Iterator[str]:
    (folder / "history.txt").write_text(text)
    (folder / "prometheus.yml").write_text("global: {}\n")
    subprocess.run(
        [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "history.txt", "data"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running(
        folder,
        url,
        program("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--storage.tsdb.retention.time=90d",
        f"--web.listen-address=127.0.0.1:{port}",
    ):
        yield url


def counted(exporter: Exporter, provider: str, model: str, kind: str) -> float:
    labels = {"provider": provider, "model": model, "kind": kind}
    return exporter.value("llm_quota_tokens_total", **labels) or 0.0


def test_a_run_counts_what_was_added_and_a_second_one_nothing(tmp_path: Path) -> None:
    now = int(time.time()) // STEP * STEP
    text = history(now)
    values = [
        int(line.split()[1])
        for line in text.splitlines()
        if line.startswith("vllm:prompt_tokens_t")
    ]
    seen = values[::5]  # a sample every five minutes
    expected = sum(
        later - earlier if later >= earlier else later for earlier, later in pairwise(seen)
    )
    with prometheus(tmp_path, text) as url, Exporter(tmp_path, "budgets: {vllm: 1}") as exporter:
        arguments = ("import", "--prometheus", url, "--url", exporter.url, "--since", "4d")
        first = command(*arguments)
        assert (first.returncode, first.stderr) == (0, "")
        assert "vllm:prompt_tokens_total: " in first.stdout
        assert counted(exporter, "vllm", "llama", "input") == pytest.approx(expected, abs=7 * 5)
        total = counted(exporter, "vllm", "llama", "input")
        second = command(*arguments)
        assert second.returncode == 0
        assert counted(exporter, "vllm", "llama", "input") == total
        day = exporter.value("llm_quota_used_tokens", provider="vllm", period="day") or 0
        assert day < total  # the rest stands in the days before


def test_other_counters_are_named_by_a_query(tmp_path: Path) -> None:
    text = history(int(time.time()) // STEP * STEP)
    with prometheus(tmp_path, text) as url, Exporter(tmp_path) as exporter:
        arguments = ("import", "--prometheus", url, "--url", exporter.url)
        done = command(*arguments, "--query", 'custom_total{provider="mine"}', "--since", "2d")
        assert (done.returncode, done.stderr) == (0, "")
        assert counted(exporter, "mine", "m", "output") == pytest.approx(2 * DAY / 60 * 3, rel=0.01)


def test_an_aggregation_is_refused(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        arguments = ("import", "--prometheus", "http://127.0.0.1:1", "--url", exporter.url)
        refused = command(*arguments, "--query", "sum by (model) (x_total)")
        assert refused.returncode == 1
        assert refused.stderr.startswith("--query: expected counters as they are")


def test_an_exporter_that_counts_already_wants_to_know_since_when(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.push({"provider": "openai", "tokens": 5})
        arguments = ("import", "--prometheus", "http://127.0.0.1:1", "--url", exporter.url)
        refused = command(*arguments)
        assert refused.returncode == 1
        assert refused.stderr.startswith("--until: expected, since the exporter counts usage")


def test_a_prometheus_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        refused = command("import", "--prometheus", "http://127.0.0.1:1", "--url", exporter.url)
        assert refused.returncode == 1
        assert refused.stderr.startswith("http://127.0.0.1:1/api/v1/query_range: ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--since", "soon"), "expected a duration like 30s, 1h30m or 7d, got 'soon'"),
        (("--until", "today"), "expected an RFC 3339 time, got 'today'"),
    ],
)
def test_bad_arguments_are_refused(given: tuple[str, str], message: str) -> None:
    refused = command("import", "--prometheus", "http://x", *given)
    assert (refused.returncode, message in refused.stderr) == (2, True)
