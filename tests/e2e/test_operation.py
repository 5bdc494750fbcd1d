"""Running it: it stops when it is told to, whatever goes on, and reloads what changed."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.running import COMMAND, DEADLINE, Exporter, until
from tests.real import program
from tests.storage.servers import free_port

DAY = 86400.0


@pytest.fixture
def black_hole() -> Iterator[socket.socket]:
    """Somebody who accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.settimeout(DEADLINE)
        yield listener


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


# -- probes --


@pytest.mark.parametrize("count", [6, 40])
def test_probes_that_are_never_answered_hold_up_neither_scrapes_nor_the_stop(
    count: int, black_hole: socket.socket, tmp_path: Path
) -> None:
    names = [f"provider-{number}" for number in range(count)]
    probes = "".join(
        f"  {name}: {{probe: {{url: 'http://127.0.0.1:{port_of(black_hole)}/', interval: 1s}}}}\n"
        for name in names
    )
    with Exporter(tmp_path, f"providers:\n{probes}") as exporter:
        for name in names:
            wish = {"state": "quota_exhausted", "retry_after": time.time() + 0.2}
            exporter.http.put(f"/v1/providers/{name}/state", json=wish)
        asked = [black_hole.accept()[0] for _ in names]  # all at once
        for path in ("/metrics", "/v1/providers", "/", "/-/healthy"):
            assert exporter.http.get(path).status_code == 200
        assert exporter.stop() == 0
        for one in asked:
            one.close()


# -- the end --


def serve(*options: str, **environment: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "exporter", "serve", "--web.listen-address=127.0.0.1:0")
    return subprocess.Popen(
        [*command, *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
    )


def test_a_stop_while_the_store_does_not_answer_is_a_stop(
    black_hole: socket.socket, tmp_path: Path
) -> None:
    config = tmp_path / "quota.yml"
    config.write_text("budgets: {openai: 1000}\n")
    store = f"redis://127.0.0.1:{port_of(black_hole)}"
    with serve(f"--config.file={config}", f"--storage.url={store}") as one, black_hole.accept()[0]:
        one.send_signal(signal.SIGTERM)
        _, log = one.communicate(timeout=DEADLINE)
    assert one.returncode == 0, log
    assert 'msg="stopped while starting"' in log


def test_a_stop_while_the_configuration_is_read_is_a_stop(tmp_path: Path) -> None:
    fifo = tmp_path / "quota.yml"
    os.mkfifo(fifo)
    # Opening it waits until it is open at the other end.
    with serve(f"--config.file={fifo}", "--storage.url=memory://") as one, fifo.open("w"):
        one.send_signal(signal.SIGTERM)
        _, log = one.communicate(timeout=DEADLINE)
    assert one.returncode == 0, log


# -- the start --


def test_a_start_says_which_store_it_is_and_what_it_holds(tmp_path: Path) -> None:
    here = os.path.relpath(tmp_path / "quota.db")
    with Exporter(tmp_path, storage=f"sqlite:///{here}") as exporter:
        where = f"storage=sqlite:///{tmp_path.resolve()}/quota.db"
        assert re.search(rf'"store is empty" {where} created=\S+Z providers=0 ', exporter.log())
        old = time.time() - 9.5 * DAY
        exporter.push({"provider": "openai", "tokens": 5, "timestamp": old})
        exporter.push({"provider": "gemini", "tokens": 5})
        exporter.stop()
        exporter.start()
        found = rf'"store opened" {where} created=\S+Z providers=2 history_days=9\.5\n'
        assert re.search(found, exporter.log())


# -- reloading --


def test_a_reload_says_what_changed(tmp_path: Path) -> None:
    with Exporter(
        tmp_path, "budgets: {openai: 1000, gemini: 5}\n", "--web.enable-lifecycle"
    ) as exporter:

        def reload(config: str) -> str:
            exporter.config.write_text(config)
            assert exporter.http.post("/-/reload").status_code == 200
            return exporter.log().splitlines()[-1].partition("msg=")[2]

        done = '"configuration reloaded" changed='
        assert reload("budgets: {openai: 1000, gemini: 5}\n") == done + "nothing"
        new = "budgets: {openai: 2000, mistral: 5}\nretention: 40d\nlimits: {providers: 5}\n"
        said = '"budgets: +mistral -gemini ~openai; limits; retention"'
        assert reload(new) == done + said
        assert reload(new + "deduplication: 3d\n") == '"deduplication changes with the next start"'


def test_history_is_kept_as_long_as_a_reload_says(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budgets: {openai: 1000}\n") as exporter:
        old = {"provider": "openai", "tokens": 5, "timestamp": time.time() - 38 * DAY}
        assert exporter.push(old).status_code == 400
        exporter.config.write_text("budgets: {openai: 1000}\nretention: 40d\n")
        exporter.hang_up()
        until(lambda: "changed=retention" in exporter.log(), "reload")
        assert exporter.push(old).json()["accepted"] == 1


def test_files_are_read_again_when_they_hold_something_else(tmp_path: Path) -> None:
    """As Kubernetes changes a ConfigMap: the file is a link into a folder that is a link."""
    mount = tmp_path / "mount"
    mount.mkdir()

    def swap(version: int, content: str) -> None:
        folder = mount / f"..{version}"
        folder.mkdir()
        (folder / "quota.yml").write_text(content)
        (mount / "..new").symlink_to(folder.name)
        (mount / "..new").replace(mount / "..data")

    swap(1, "budgets: {openai: 1000}\n")
    (mount / "quota.yml").symlink_to("..data/quota.yml")
    options = (
        f"--config.file={mount / 'quota.yml'}",
        "--config.enable-auto-reload",
        "--config.auto-reload-interval=1s",
    )
    with Exporter(tmp_path, "", *options) as exporter:
        assert exporter.value("llm_quota_budget_tokens", provider="openai", period="day") == 1000
        swap(2, "budgets: {openai: 2000}\n")
        until(lambda: "~openai" in exporter.log(), "reload")
        assert exporter.value("llm_quota_budget_tokens", provider="openai", period="day") == 2000
        swap(3, "budgets: {openai: -5}\n")
        until(lambda: "reload failed" in exporter.log(), "failed reload")
        swap(4, "budgets: {openai: 3000}\n")
        until(lambda: exporter.log().count("~openai") == 2, "second reload")
        assert exporter.log().count("reload failed") == 1  # once for each content


# -- the clock --


def faked(folder: Path) -> dict[str, str]:
    """An environment in which the wall clock, and it alone, follows the file `time`."""
    program("faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    (folder / "time").write_text("+0")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(folder / "time"),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@pytest.mark.parametrize("days", ["+1", "+400", "-1", "-400"])
def test_a_clock_that_is_set_and_set_right_again_loses_nothing(days: str, tmp_path: Path) -> None:
    budgets = "{tokens: 1000, period: 5h}, {tokens: 1000, period: week}"
    config = f"budgets: {{openai: [{budgets}]}}\n"
    environment = faked(tmp_path)

    def set_clock(offset: str) -> None:
        (tmp_path / "new").write_text(offset)
        (tmp_path / "new").replace(tmp_path / "time")

    def jumps() -> float:
        return sum(
            value
            for (name, _), value in exporter.metrics().items()
            if name == "llm_quota_exporter_clock_jumps_total"
        )

    with Exporter(tmp_path, config, environment=environment) as exporter:

        def used(period: str) -> float | None:
            return exporter.value("llm_quota_used_tokens", provider="openai", period=period)

        exporter.push({"provider": "openai", "tokens": 7})
        assert (used("5h"), used("week")) == (7, 7)
        set_clock(f"{days}d")
        assert used("5h") == 0  # at once, and without an error
        exporter.push({"provider": "openai", "tokens": 100})
        assert used("5h") == 100
        set_clock("+0")
        assert used("5h") == 7
        exporter.push({"provider": "openai", "tokens": 5})
        assert used("5h") == 12
        assert exporter.value("llm_quota_requests_total", provider="openai", model="") == 3
        assert exporter.http.get("/-/healthy").status_code == 200
        assert jumps() == exporter.log().count("clock was set") == 2


def test_a_machine_that_starts_with_a_wrong_clock_counts_once_it_is_right(tmp_path: Path) -> None:
    environment = faked(tmp_path)
    (tmp_path / "time").write_text("+1d")
    with Exporter(
        tmp_path, "budgets: {openai: {tokens: 1000, period: 5h}}\n", environment=environment
    ) as exporter:
        (tmp_path / "time").write_text("+0")
        exporter.push({"provider": "openai", "tokens": 5})
        assert exporter.value("llm_quota_used_tokens", provider="openai", period="5h") == 5


# -- where it listens --


def test_it_listens_on_every_address_that_it_is_given(tmp_path: Path) -> None:
    other = free_port()
    with Exporter(tmp_path, "", f"--web.listen-address=localhost:{other}") as exporter:
        found = re.search(r"address=127\.0\.0\.1:(\d+),127\.0\.0\.1:(\d+) ", exporter.log())
        assert found
        assert int(found[2]) == other
        for port in (int(found[1]), other):
            assert httpx.get(f"http://127.0.0.1:{port}/-/healthy").status_code == 200


def test_it_listens_on_the_sockets_that_systemd_passes(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "quota.yml"
    config.write_text("")
    options = (f"--config.file={config}", "--storage.url=memory://", "--web.systemd-socket")
    activate = [program("systemd-socket-activate"), f"--listen=127.0.0.1:{port}"]
    passed = [f"--setenv={name}" for name in ("PATH", "PYTHONPATH") if name in os.environ]
    with subprocess.Popen([*activate, *passed, COMMAND, "serve", *options]) as one:

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        until(answers, "answer")
        one.terminate()
        assert one.wait(DEADLINE) == 0


def test_sockets_that_systemd_does_not_pass_are_missed(tmp_path: Path) -> None:
    config = tmp_path / "quota.yml"
    config.write_text("")
    command = [COMMAND, "serve", f"--config.file={config}", "--web.systemd-socket"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 1
    assert "web.systemd-socket: expected systemd to pass sockets" in done.stderr


# -- what goes on behind it --


def test_a_background_task_that_fails_shows_and_is_started_again(tmp_path: Path) -> None:
    """The defect is put in from outside: the real process, with one function that raises."""
    (tmp_path / "sitecustomize.py").write_text(DEFECT)
    path = os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))
    with Exporter(tmp_path, "", environment={"PYTHONPATH": path}) as exporter:
        name = "llm_quota_exporter_task_failures_total"
        until(lambda: exporter.value(name, task="tick"), "failure that is counted")
        answer = exporter.http.get("/-/healthy")
        assert (answer.status_code, answer.text) == (
            503,
            "Background task tick fails: KeyError.\n",
        )
        assert "KeyError: 'a defect'" in exporter.log()
        until(lambda: "it runs again" in exporter.log(), "restart")


DEFECT = """
from importlib import abc, machinery
import sys

class Finder(abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "exporter.service":
            return None
        sys.meta_path.remove(self)
        spec = machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
            tick, calls = module.Service.tick, []
            async def defective(self, now):
                calls.append(now)
                if len(calls) == 1:
                    raise KeyError("a defect")
                if len(calls) == 2:
                    module.log.info("it runs again")
                await tick(self, now)
            module.Service.tick = defective
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
"""
