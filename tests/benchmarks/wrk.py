"""wrk, the load generator, with the requests of `load.lua`."""

import re
import resource
import secrets
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.processes import find

_SCRIPT = Path(__file__).with_name("load.lua")


class Load(NamedTuple):
    """What a run of wrk did.

    Attributes:
        requests: answered.
        seconds: how long it took.
        p99: seconds within which 99 % were answered.
        busy: share of one core that wrk itself used; near 1, it was the limit.
    """

    requests: int
    seconds: float
    p99: float
    busy: float


def run(url: str, scenario: str, *size: int, connections: int, seconds: int) -> Load:
    """Ask or push as fast as it goes, over connections that stay open.

    `size` is how many providers, and models of each, there are to ask about.

    Raises:
        RuntimeError: anything but 2xx was answered.
    """
    command = [
        *(find("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(_SCRIPT)),
        *(url, "--", scenario, secrets.token_hex(4), *map(str, size)),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+)$", output, re.MULTILINE)
    if found is None or found[4] != "0":
        raise RuntimeError(f"{scenario}: {output}")
    took = int(found[2]) / 1e6
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Load(int(found[1]), took, int(found[3]) / 1e6, spent / took)
