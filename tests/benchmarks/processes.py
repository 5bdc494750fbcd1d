"""Programs under measurement: on free loopback ports, watched through /proc, ended for sure."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

DEADLINE = 60.0
_ANYBODY = ssl._create_unverified_context()  # a certificate of a minute ago, on loopback
_TICK = os.sysconf("SC_CLK_TCK")


def find(program: str) -> str:
    """The path of an installed program; ends this one when there is none."""
    path = shutil.which(program)
    if path is None:
        sys.exit(f"no {program} on PATH: apt-get install {program}")
    return path


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Program:
    """A server in its own process; a context that ends it.

    Attributes:
        port: where it listens.
        url: the same as an address, without a slash at the end.
    """

    def __init__(
        self,
        command: list[str],
        port: int,
        ready: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        *,
        tls: bool = False,
    ) -> None:
        self._environment = {**os.environ, **(environment or {})}
        self.port = port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        self._command = command
        self._ready = self.url + ready
        self._log = directory / f"{Path(command[0]).name}-{port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Program":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> float:
        """Start it; the seconds until it said that it is ready."""
        begun = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment
            )
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._command[0]} ended: {self._log.read_text()[-2000:]}")
            if time.perf_counter() - begun > DEADLINE:
                raise TimeoutError(f"{self._command[0]} not ready within {DEADLINE:.0f} s")
            time.sleep(0.005)
        return time.perf_counter() - begun

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self._ready, timeout=DEADLINE, context=_ANYBODY) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Ask it to end (SIGTERM), and wait; its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(DEADLINE)

    def log(self) -> str:
        """What it has said since it was started for the first time."""
        return self._log.read_text()

    def cpu_seconds(self) -> float:
        """Processor time it has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def resident_bytes(self) -> int:
        """Memory it holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def get(self, path: str) -> str:
        """The body at `path`."""
        with urllib.request.urlopen(self.url + path, timeout=DEADLINE) as answer:
            text: str = answer.read().decode()
            return text


class Clock:
    """The wall clock of a program, which can be set while it runs.

    Attributes:
        environment: what the program has to be started with.
    """

    def __init__(self, directory: Path) -> None:
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            sys.exit("no libfaketime: apt-get install faketime")
        self._file = directory / "clock"
        self.set(0.0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: float) -> None:
        """Set it so many seconds ahead of this machine's, or back where less than zero."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{ahead:+.0f}")
        written.replace(self._file)


def exporter(
    directory: Path,
    config: str,
    *options: str,
    storage: str = "",
    environment: Mapping[str, str] | None = None,
    tls: bool = False,
) -> Program:
    """This project's exporter; without `storage` on a SQLite file in `directory`."""
    port = free_port()
    file = directory / "quota.yml"
    file.write_text(config)
    command = [
        *(sys.executable, "-m", "exporter", "serve"),
        *("--config.file", str(file)),
        *("--storage.url", storage or f"sqlite:///{directory}/quota.db"),
        *("--web.listen-address", f"127.0.0.1:{port}"),
        *options,
    ]
    return Program(command, port, "/-/ready", directory, environment, tls=tls)


def pushgateway(directory: Path, *options: str) -> Program:
    """A Pushgateway, which keeps everything in memory."""
    port = free_port()
    command = [find("prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{port}", *options]
    return Program(command, port, "/-/ready", directory)


def victoria_metrics(directory: Path) -> Program:
    """A VictoriaMetrics with its data in `directory`."""
    port = free_port()
    command = [
        find("victoria-metrics"),
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={directory}/victoria-metrics",
    ]
    return Program(command, port, "/health", directory)


def prometheus(directory: Path, targets: Iterable[Program]) -> Program:
    """A Prometheus that scrapes the targets every second."""
    port = free_port()
    hosts = ", ".join(f'"{target.url.removeprefix("http://")}"' for target in targets)
    file = directory / "prometheus.yml"
    file.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: all, static_configs: [{{targets: [{hosts}]}}]}}]\n"
    )
    command = [
        find("prometheus"),
        f"--config.file={file}",
        f"--storage.tsdb.path={directory}/prometheus",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    return Program(command, port, "/-/ready", directory)


class Redis(Program):
    """A Redis that syncs every write; `url` is what the exporter connects to."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        command = [
            *(find("redis-server"), "--bind", "127.0.0.1", "--port", str(port)),
            *("--dir", str(directory), "--save", "", "--maxmemory-policy", "noeviction"),
            *("--appendonly", "yes", "--appendfsync", "always"),
        ]
        super().__init__(command, port, "", directory)
        self.url = f"redis://127.0.0.1:{port}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64) == b"+PONG\r\n"
        except OSError:
            return False


def sums(exposition: str, sample: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of a name on `/metrics`, summed by some of their labels."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(exposition):
        for one in family.samples:
            if one.name == sample:
                key = tuple(one.labels.get(label, "") for label in labels)
                found[key] = found.get(key, 0.0) + one.value
    return found
