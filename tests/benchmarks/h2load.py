"""Questions at a steady rate by h2load: a client in Python would itself be late at such rates."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 32


class Latency(NamedTuple):
    """Seconds within which that share of the questions was answered, from when each was sent; and
    how many were answered each second. Less than was wanted means that some were sent late, because
    answers were: their wait is in no percentile."""

    p50: float
    p99: float
    longest: float
    rate: float


class Asking:
    """The load in a process of its own."""

    def __init__(self, url: str, targets: Sequence[str], rate: float, seconds: int) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._log, self._seconds = folder / "log", seconds
        asked = folder / "asked"
        asked.write_text("\n".join(url + target for target in targets))
        command = ["h2load", "--h1", f"--clients={CONNECTIONS}", f"--duration={seconds}"]
        command += [f"--rps={max(1, round(rate / CONNECTIONS))}", f"--input-file={asked}"]
        command += [f"--log-file={self._log}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def finish(self) -> Latency:
        """Wait until all are answered."""
        output, _ = self._process.communicate()
        if self._process.returncode or b" 0 failed, 0 errored" not in output:
            raise RuntimeError(output.decode())
        with self._folder:
            lines = (line.split("\t") for line in self._log.read_text().splitlines())
            took = sorted(int(microseconds) / 1e6 for _, _, microseconds in lines)
        count = len(took)
        return Latency(took[count // 2], took[count * 99 // 100], took[-1], count / self._seconds)
