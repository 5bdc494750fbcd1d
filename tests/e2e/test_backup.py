"""Backups of the running program, restored and exported by its commands."""

import csv
import io
import json
import os
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import Exporter, command, until
from tests.storage.servers import RedisServer

CONFIG = "budgets: {openai: 1000000}\n"


def counted(exporter: Exporter) -> float:
    return exporter.value("llm_quota_requests_total", provider="openai", model="m") or 0.0


def test_a_backup_under_load_restores_what_was_acknowledged(tmp_path: Path) -> None:
    live, restored = tmp_path / "live", tmp_path / "restored"
    live.mkdir()
    restored.mkdir()
    acknowledged, stop = [0] * 4, threading.Event()
    with Exporter(live, CONFIG) as exporter:

        def push(which: int) -> None:
            with httpx.Client(base_url=exporter.url, trust_env=False) as http:
                while not stop.is_set():
                    event = {"provider": "openai", "model": "m", "tokens": 1}
                    assert http.post("/v1/usage", json=event).status_code == 200
                    acknowledged[which] += 1

        threads = [threading.Thread(target=push, args=(n,)) for n in range(len(acknowledged))]
        for thread in threads:
            thread.start()
        until(lambda: sum(acknowledged) > 200, "pushes")
        before = sum(acknowledged)
        done = command("backup", tmp_path / "backup.db", "--url", exporter.url)
        after = sum(acknowledged) + len(acknowledged)  # of each one may be on its way
        stop.set()
        for thread in threads:
            thread.join()
        assert done.returncode == 0, done.stderr
        assert not list(live.glob("*.backup*"))
    url = f"sqlite:///{restored}/quota.db"
    done = command("restore", tmp_path / "backup.db", "--storage.url", url)
    assert (done.returncode, done.stdout) == (0, f"{restored}/quota.db: restored\n")
    with Exporter(restored, CONFIG) as exporter:
        assert before <= counted(exporter) <= after
        used = exporter.value("llm_quota_used_tokens", provider="openai", period="day")
        assert used == counted(exporter)
        refused = command("restore", tmp_path / "backup.db", "--storage.url", url)
        assert "another process has it open: stop the exporter first" in refused.stderr


def test_an_export_is_read_by_the_backtest_and_pushed_elsewhere(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    now = time.time()
    with Exporter(one, CONFIG) as exporter:
        for days in (9, 5, 0):
            at = now - days * 86400
            exporter.push(
                {"provider": "openai", "model": "m", "consumer": "web", "timestamp": at}
                | {"input_tokens": 7, "output_tokens": 5, "requests": 3, "cost_usd": 0.25},
                {"provider": "openai", "model": "m", "consumer": "web", "timestamp": at}
                | {"tokens": 11},
                {"provider": "gemini", "timestamp": at, "requests": 2},
            )
        table = command("export", "--url", exporter.url).stdout
        (tmp_path / "usage.csv").write_text(table)
        assert command("backup", tmp_path / "b.db", "--url", exporter.url).returncode == 0
        totals = {
            key: value
            for key, value in exporter.metrics().items()
            if key[0].endswith(("_tokens_total", "_requests_total", "cost_usd_total"))
            and not any(other in key[0] for other in ("exporter", "unpriced"))
        }
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)
    last = {"provider": "openai", "model": "m", "consumer": "web", "tokens": "23"}
    last |= {"input_tokens": "7", "output_tokens": "5", "requests": "4", "cost_usd": "0.25"}
    assert last.items() <= rows[-1].items()
    assert len(rows) == 6

    config = tmp_path / "budgets.yml"
    config.write_text("budgets: {openai: 20}\n")
    usage = ("--usage", tmp_path / "usage.csv", "--config.file", config)
    backtest = command("backtest", *usage, "--every", "6h")
    assert "3 rows of 1 providers" in backtest.stderr, backtest.stderr

    lines = command("export", tmp_path / "b.db", "--format", "jsonl").stdout
    with Exporter(other, CONFIG) as exporter:
        pushed = command("push", "--url", exporter.url, stdin=lines)
        assert pushed.returncode == 0, pushed.stderr
        assert totals.items() <= exporter.metrics().items()
    recent = command("export", tmp_path / "b.db", "--format", "jsonl", "--since", "6d").stdout
    assert len(lines.splitlines()) == 9
    assert len(recent.splitlines()) == 6
    assert json.loads(recent.splitlines()[0])["timestamp"] >= now - 6 * 86400 - 300


def test_a_redis_has_means_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with (
        RedisServer(tmp_path / "redis") as redis,
        Exporter(tmp_path, CONFIG, storage=redis.url) as exporter,
    ):
        done = command("backup", tmp_path / "b.db", "--url", exporter.url)
        assert done.returncode == 1
        assert "501 a Redis is backed up by its own means" in done.stderr
    assert not list(tmp_path.glob("b.db*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("backup", "/nowhere/b.db"), "/nowhere/b.db: cannot write it: No such file or directory"),
        (("restore", "/nowhere/b.db"), "/nowhere/b.db: expected a database: unable to open"),
        (("restore", "b.db", "--storage.url=memory://"), "--storage.url: expected sqlite:///path"),
        (("export", "/nowhere/b.db"), "/nowhere/b.db: expected a database: unable to open"),
    ],
)
def test_what_cannot_be_done_is_told(arguments: tuple[str, ...], told: str) -> None:
    done = command(*arguments)
    assert (done.returncode, told in done.stderr) == (1, True), done.stderr


def test_a_backup_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("the one before")
    done = command("backup", tmp_path / "b.db", "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert (tmp_path / "b.db").read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [tmp_path / "b.db"]


def test_one_backup_at_a_time_is_handed_out_and_a_slow_reader_is_left(tmp_path: Path) -> None:
    limits = "limits: {request_timeout: 2s}\n"
    (tmp_path / "quota.db.backup-copying").write_text("of a process that was killed")
    with Exporter(tmp_path, CONFIG + limits) as exporter:
        assert not list(tmp_path.glob("*copying"))
        padding = [{"provider": "openai", "tokens": 1, "id": f"{n}" * 40} for n in range(20_000)]
        for at in range(0, len(padding), 10_000):
            exporter.push(*padding[at : at + 10_000])
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", exporter.port))
            slow.sendall(b"POST /v1/backup HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            assert slow.recv(16).startswith(b"HTTP/1.1 200")
            refused = exporter.http.post("/v1/backup")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
            assert refused.json() == {"error": "another backup is being made, or handed out"}
            until(lambda: exporter.http.post("/v1/backup").status_code == 200, "another backup")
        assert not list(tmp_path.glob("*copying"))
        held = Path(f"/proc/{exporter.process.pid}/fd")
        until(
            lambda: not any("copying" in os.path.realpath(one) for one in held.iterdir()),
            "copy that is closed",
        )
