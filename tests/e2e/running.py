"""The real program as a user runs it: a process, a port, a log."""

import os
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

COMMAND = str(Path(sys.executable).with_name("llm-quota-exporter"))
ORDINARY = (sys.executable, "-m", "tests.e2e.without_fastpath")
"""The same without its fast path."""

DEADLINE = 20.0  # seconds; on a busy machine everything takes longer

T = TypeVar("T")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def until(ask: Callable[[], T | None], what: str, deadline: float = DEADLINE) -> T:
    """What `ask` answers once it is true; fails when it is not within `deadline` seconds."""
    end = time.monotonic() + deadline
    while True:
        if answer := ask():
            return answer
        assert time.monotonic() < end, f"no {what} within {deadline:.0f} s"
        time.sleep(0.02)


def command(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return subprocess.run(
        [COMMAND, *arguments], input=stdin, capture_output=True, text=True, timeout=DEADLINE
    )


def series(text: str) -> Samples:
    """(name, labels) -> value, of an exposition in the text format."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Exporter:
    """An exporter on a free loopback port; leaving the `with` block must end it with exit 0.

    Attributes:
        folder: where its files are.
        config: its configuration file.
        url: where it listens.
        http: a client for it.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *options: str,
        storage: str | None = None,
        tls: ssl.SSLContext | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = (COMMAND,),
        prefix: str = "",
    ) -> None:
        self.folder = folder
        self.config = folder / "quota.yml"
        self.config.write_text(config)
        self._options = options
        self._storage = storage or f"sqlite:///{folder}/quota.db"
        self._tls = tls
        self._prefix = prefix
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._program = program
        self._log = folder / "log"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        already = len(self.log())
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(*self._program, "serve", f"--config.file={self.config}"),
                    *("--storage.url", self._storage, "--web.listen-address=127.0.0.1:0"),
                    *self._options,
                ],
                stderr=log,
                env=self._environment,
            )

        def address() -> str | None:
            text = self.log()[already:]
            assert self.process.poll() is None, f"it ended at once: {text}"
            found = re.search(r"msg=listening .*address=(\S+)", text)
            return found and found[1]

        where = until(address, "line with the address in the log")
        self.port = int(where.rpartition(":")[2])
        self.url = f"http{'s' if self._tls else ''}://localhost:{self.port}{self._prefix}"
        self.http = httpx.Client(
            base_url=self.url, verify=self._tls or False, timeout=DEADLINE, trust_env=False
        )

        def ready() -> bool:
            try:
                return self.http.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        until(ready, "answer that it is ready")

    def __enter__(self) -> "Exporter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        code = self.stop()
        if error is None:
            assert code == 0, self.log()

    def stop(self) -> int:
        """End it as a service manager does; its exit code."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(DEADLINE)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def hang_up(self) -> None:
        """Ask it to read its configuration again."""
        self.process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """What it has logged since it was made."""
        return self._log.read_text() if self._log.exists() else ""

    def push(self, *events: object, **headers: str) -> httpx.Response:
        """Push events, one by itself and several as an array."""
        body = events[0] if len(events) == 1 else events
        return self.http.post("/v1/usage", json=body, headers=headers)

    def metrics(self) -> Samples:
        """All series as they are now."""
        return series(self.http.get("/metrics").text)

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one series; None when there is none."""
        return self.metrics().get((name, frozenset(labels.items())))

    def provider(self, name: str) -> dict[str, object]:
        """A provider as JSON."""
        shown: dict[str, object] = self.http.get(f"/v1/providers/{name}").json()
        return shown
