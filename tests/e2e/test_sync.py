"""A power cut leaves what was synced: the kernel's own record of what came before each answer."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.running import DEADLINE, Exporter, until
from tests.real import program

CALLS = "trace=pwrite64,write,sendto,sendmsg,fdatasync,fsync"


@contextmanager
def traced(exporter: Exporter, record: Path) -> Iterator[None]:
    """Write down the exporter's writes and syncs, in the order in which they ended."""
    arguments = ["-f", "-y", "-e", CALLS, "-o", str(record), "-p", str(exporter.process.pid)]
    tracer = subprocess.Popen([program("strace"), *arguments], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.wait(DEADLINE)
        pytest.skip(f"this machine does not let a process be traced: {said}")
    try:
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=DEADLINE)


def test_every_answer_comes_after_a_sync_of_what_it_acknowledges(tmp_path: Path) -> None:
    record = tmp_path / "trace"
    with Exporter(tmp_path) as exporter:
        with traced(exporter, record):
            for number in range(20):
                exporter.push({"provider": "openai", "tokens": 1}, {"provider": "x", "tokens": 1})
                exporter.push({"provider": "openai", "tokens": 1, "id": str(number)})
        until(record.exists, "trace")
    steps = ""
    for line in record.read_text().splitlines():
        if re.search(r"pwrite64\(\d+<\S+quota\.db-wal>", line):
            steps += "w"
        elif re.search(r"f(data)?sync.*= 0$", line):
            steps += "s"
        elif '"HTTP/1.1 200 OK' in line:
            steps += "a"
    acknowledged = steps.rpartition("a")[0].split("a")
    assert len(acknowledged) == 40
    for before in acknowledged:
        assert re.search(r"w+s", before), steps
