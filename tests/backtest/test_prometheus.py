"""Past usage read from a Prometheus."""

import argparse
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from exporter.backtest.command import add_arguments, run
from exporter.backtest.prometheus import QUERIES, fetch, parts
from exporter.backtest.range_query import read_series
from exporter.backtest.usage import FileError
from exporter.core.budget import BudgetUnit
from exporter.core.series import Series
from exporter.core.slots import REQUESTS
from tests.real import program

END = int(time.time()) // 86_400 * 86_400.0
DAYS = 4
STARTUP = 30.0  # seconds


def counted(step: int) -> int:
    """What one model's counter shows after so many steps of five minutes."""
    return 10 * step + 3 * (step % 4)


def value(counter: str, step: int) -> float:
    """What another counter of that model shows then."""
    return {"requests": step, "cost_usd": counted(step) / 1000}.get(counter, counted(step))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with four days of two models' counters."""
    folder = tmp_path_factory.mktemp("prometheus")
    lines = []
    begin = END - DAYS * 86_400
    for counter in ("tokens", "requests", "cost_usd"):
        kind = ',kind="output"' if counter == "tokens" else ""
        lines.append(f"# TYPE llm_quota_{counter} counter")
        for model in ("small", "large"):
            lines += [
                f'llm_quota_{counter}_total{{provider="openai",model="{model}"{kind}}} '
                f"{value(counter, step):.6f} {begin + 300 * step}"
                for step in range(DAYS * 288)
            ]
    samples = folder / "samples.txt"
    samples.write_text("\n".join([*lines, "# EOF", ""]))
    subprocess.run(
        [
            program("promtool"),
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            samples,
            folder / "data",
        ],
        check=True,
        capture_output=True,
    )
    (folder / "prometheus.yml").write_text("{}\n")
    port = free_port()
    process = subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=90d",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + STARTUP
        while True:
            try:
                with urlopen(url + "/-/ready", timeout=1):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def test_counters_are_fetched_day_by_day_and_differenced_over_the_joints(prometheus: str) -> None:
    told: list[int] = []
    query = QUERIES[BudgetUnit.TOKENS]
    found = fetch(prometheus, query, END - 4 * 86_400, END, {}, told.append)
    usage, kind, labels = read_series(found, prometheus, BudgetUnit.TOKENS, Series)
    assert kind == "cumulative counters"
    assert told == list(range(1, parts(END - 4 * 86_400, END) + 1))
    assert {series for series, _ in usage} == {Series("openai", "small"), Series("openai", "large")}
    assert labels == {"model"}
    for _, rows in usage:
        assert rows.counts[:, 3].sum() == counted(DAYS * 288 - 1)


def test_increases_may_be_asked_for_instead(prometheus: str) -> None:
    query = "sum by (provider) (increase(llm_quota_tokens_total[5m]))"
    found = fetch(prometheus, query, END - 3 * 86_400, END - 86_400, {}, lambda _: None)
    [(series, rows)], kind, _ = read_series(found, prometheus, BudgetUnit.TOKENS, Series)
    assert kind == "increases"
    assert series == Series("openai")
    used = rows.counts[:, :REQUESTS].sum()
    assert used == pytest.approx(2 * counted(2 * 288), rel=0.01)


def test_an_error_of_prometheus_is_told_in_its_words(prometheus: str) -> None:
    with pytest.raises(FileError, match=r"^http://127\.0\.0\.1:\d+: 400 .*parse error"):
        fetch(prometheus, "sum by (", END - 86_400, END, {}, lambda _: None)


def test_an_answer_without_series_is_empty(prometheus: str) -> None:
    assert fetch(prometheus, "nothing_of_the_kind", END - 86_400, END, {}, lambda _: None) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:9090", "--prometheus: expected http:// or https://, got 'localhost:9090'"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1: [Errno 111] Connection refused"),
    ],
)
def test_a_prometheus_that_cannot_be_asked_is_named(url: str, message: str) -> None:
    with pytest.raises(FileError) as caught:
        fetch(url, QUERIES[BudgetUnit.TOKENS], END - 86_400, END, {}, lambda _: None)
    assert str(caught.value) == message


Start = Callable[..., int]


@pytest.fixture
def backtest(prometheus: str, tmp_path: Path) -> Start:
    """Run it on that Prometheus and budgets that are given as text; other options follow."""

    def start(budgets: str, *options: str) -> int:
        config = tmp_path / "budgets.yml"
        config.write_text(budgets)
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        days = f"{int(time.time() - END) // 3600 + 1 + DAYS * 24}h"
        arguments = ["--prometheus", prometheus, "--days", days, "--config.file", str(config)]
        return run(parser.parse_args([*arguments, "--every", "1h", *options]))

    return start


def test_backtest_scores_what_a_prometheus_kept(
    backtest: Start, prometheus: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backtest("budgets: {openai: 5000}\n") == 0
    shown = capsys.readouterr()
    assert f"{prometheus}: " in shown.err
    assert "cumulative counters of 1 providers" in shown.err
    assert "enough for 95%" in shown.out
    [row] = [line for line in shown.out.splitlines() if line.startswith("openai")]
    # Days of 5,760 tokens: a budget of 5,000 never lasted.
    assert row.split()[2:4] == ["5,000", "4"]


def test_requests_and_cost_are_asked_for_where_budgets_count_them(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    budgets = """budgets:
  openai:
    - {tokens: 5000, weights: {output: 2}}
    - {requests: 250, model: small}
    - {usd: 5, period: day}
    - {requests: 250, per: consumer}
"""
    assert backtest(budgets) == 0
    shown = capsys.readouterr()
    assert "tells no consumers: openai 250 requests per day" in shown.err
    rows = [line.split() for line in shown.out.splitlines() if line.startswith("openai")]
    # Days of 5,760 output tokens that weigh twice; each model 288 requests and 2.88 USD.
    assert sorted(row[-1] for row in rows) == ["$5.77", "11,521", "requests"]
    [small] = [row for row in rows if row[1] == "small"]
    assert small[-2] == "289"


def test_the_unit_of_a_query_may_be_told(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    query = 'label_replace(sum by (provider) (llm_quota_requests_total), "a", "b", "", "")'
    budgets = "budgets: {openai: [5000, {requests: 500}]}\n"
    assert backtest(budgets, "--query", query, "--unit", "requests") == 0
    shown = capsys.readouterr()
    assert "tells no tokens: openai 5000 per day" in shown.err
    [row] = [line for line in shown.out.splitlines() if line.startswith("openai")]
    assert row.split()[2:5] == ["500", "requests", "4"]


def test_a_query_without_an_answer_is_named(
    backtest: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    assert backtest("budgets: {openai: 5000}\n", "--query", "nothing_of_the_kind") == 1
    assert "no usage in the answer to nothing_of_the_kind" in capsys.readouterr().err
