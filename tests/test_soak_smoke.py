"""The soak, long enough to see that it works and that nothing is lost or doubled at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import real

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(600)  # seconds; it starts a program half a dozen times
@pytest.mark.parametrize("options", [[], ["--redis"]], ids=["sqlite", "two replicas on redis"])
def test_everything_sent_is_acknowledged_and_counted_once_across_crashes(
    options: list[str],
) -> None:
    real.program("faketime")
    if options:
        real.program("redis-server")
    command = [sys.executable, "-m", "tests.benchmarks.soak", "--kills", "2", "--pause", "3"]
    soak = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert soak.returncode == 0, soak.stdout + soak.stderr
