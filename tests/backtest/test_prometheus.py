"""Past usage read from a Prometheus."""

import argparse
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from exporter.backtest.command import add_arguments, run
from exporter.backtest.prometheus import QUERY, fetch, parts
from exporter.backtest.usage import FileError
from tests.real import program

END = int(time.time()) // 86_400 * 86_400.0
DAYS = 4
STARTUP = 30.0  # seconds


def counted(step: int) -> int:
    """What one model's counter shows after so many steps of five minutes."""
    return 10 * step + 3 * (step % 4)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus with four days of two models' counters."""
    folder = tmp_path_factory.mktemp("prometheus")
    lines = ["# TYPE llm_quota_tokens counter"]
    begin = END - DAYS * 86_400
    for model in ("small", "large"):
        lines += [
            f'llm_quota_tokens_total{{provider="openai",model="{model}"}} {counted(step)} '
            f"{begin + 300 * step}"
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
    usage, kind = fetch(prometheus, QUERY, END - 4 * 86_400, END, {}, told.append)
    assert kind == "cumulative counters"
    assert told == list(range(1, parts(END - 4 * 86_400, END) + 1))
    assert list(usage) == ["openai"]
    assert usage["openai"].tokens.sum() == 2 * counted(DAYS * 288 - 1)


def test_increases_may_be_asked_for_instead(prometheus: str) -> None:
    query = "sum by (provider) (increase(llm_quota_tokens_total[5m]))"
    usage, kind = fetch(prometheus, query, END - 3 * 86_400, END - 86_400, {}, lambda _: None)
    assert kind == "increases"
    assert usage["openai"].tokens.sum() == pytest.approx(2 * counted(2 * 288), rel=0.01)


def test_an_error_of_prometheus_is_told_in_its_words(prometheus: str) -> None:
    with pytest.raises(FileError, match=r"^http://127\.0\.0\.1:\d+: 400 .*parse error"):
        fetch(prometheus, "sum by (", END - 86_400, END, {}, lambda _: None)


def test_an_answer_without_series_is_named_with_its_query(prometheus: str) -> None:
    with pytest.raises(FileError, match="no usage in the answer to nothing_of_the_kind"):
        fetch(prometheus, "nothing_of_the_kind", END - 86_400, END, {}, lambda _: None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:9090", "--prometheus: expected http:// or https://, got 'localhost:9090'"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1: [Errno 111] Connection refused"),
    ],
)
def test_a_prometheus_that_cannot_be_asked_is_named(url: str, message: str) -> None:
    with pytest.raises(FileError) as caught:
        fetch(url, QUERY, END - 86_400, END, {}, lambda _: None)
    assert str(caught.value) == message


def test_backtest_scores_what_a_prometheus_kept(
    prometheus: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "budgets.yml"
    config.write_text("budgets: {openai: 5000}\n")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    days = f"{int(time.time() - END) // 3600 + 1 + DAYS * 24}h"
    arguments = ["--prometheus", prometheus, "--days", days, "--config.file", str(config)]
    assert run(parser.parse_args([*arguments, "--every", "1h"])) == 0
    shown = capsys.readouterr()
    assert f"{prometheus}: " in shown.err
    assert "cumulative counters of 1 providers" in shown.err
    assert "enough for 95%" in shown.out
    [row] = [line for line in shown.out.splitlines() if line.startswith("openai")]
    # Days of 5,760 tokens: a budget of 5,000 never lasted.
    assert row.split()[2:4] == ["5,000", "4"]
