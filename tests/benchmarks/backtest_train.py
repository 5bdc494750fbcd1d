"""Run the real `backtest` on the cases by which predictions are judged, and time it.

A case is a client of the trace with traffic on ten days or more, or a sum of five of them, with a
daily budget of a multiple of the mean of its first three days.

    LLM_QUOTA_TRACE=trace.csv.gz python tests/benchmarks/backtest_train.py [option of backtest]…
"""

import csv
import gzip
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TRACE = os.environ.get("LLM_QUOTA_TRACE", "../shared/traces/servegen-train.csv.gz")
MULTIPLES = (0.75, 1.0, 1.25, 1.5, 2.0)
DAY = 86_400
SUMS, OF = 40, 5


def series(path: str) -> dict[str, Counter[int]]:
    """Tokens by time of every client with traffic on ten days, and of sums of such clients."""
    clients: dict[str, Counter[int]] = {}
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            clients.setdefault(row["provider"], Counter())[int(row["timestamp"])] += int(
                row["tokens"]
            )
    first = min(min(use) for use in clients.values()) // DAY * DAY
    busy = {
        name: use
        for name, use in sorted(clients.items())
        if len({at // DAY for at, tokens in use.items() if tokens}) >= 10
        and any(at < first + 3 * DAY for at in use)
    }
    draw = random.Random(7)
    sums = {}
    for number in range(SUMS):
        sums[f"sum-{number}"] = sum(
            (busy[name] for name in draw.sample(sorted(busy), OF)), Counter()
        )
    return busy | sums


def write(found: dict[str, Counter[int]], folder: Path) -> tuple[Path, Path]:
    """Write usage and budgets: a provider per case."""
    first = min(at for use in found.values() for at in use) // DAY * DAY
    usage, config = folder / "usage.csv", folder / "budgets.yml"
    with usage.open("w") as rows, config.open("w") as budgets:
        rows.write("timestamp,provider,tokens\n")
        budgets.write("budgets:\n")
        for name, use in found.items():
            mean = sum(tokens for at, tokens in use.items() if at < first + 3 * DAY) / 3
            for multiple in MULTIPLES:
                case = f"{name}@{multiple}"
                budgets.write(f"  {case}: {max(1, round(mean * multiple))}\n")
                rows.writelines(f"{at},{case},{tokens}\n" for at, tokens in use.items())
    return usage, config


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        usage, config = write(series(TRACE), Path(folder))
        began = time.monotonic()
        command = [sys.executable, "-m", "exporter", "backtest"]
        files = ["--usage", str(usage), "--config.file", str(config)]
        subprocess.run([*command, *files, *sys.argv[1:]], check=True)
        took = time.monotonic() - began
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{took:.1f} s, at most {memory:.0f} MiB")


if __name__ == "__main__":
    main()
