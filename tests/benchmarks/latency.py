"""How long a push takes at half the peak rate while Prometheus scrapes every second.

    python -m tests.benchmarks.latency [--rounds 3] [--seconds 5]

The peak is measured first, with wrk. Pushgateway (unchecked) gets the same rate, in turns. Exit 1
when our median 99th percentile is above 10 ms. The last column is by how much the client was late
itself, which is in the others too.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from tests.benchmarks import processes, report, wrk
from tests.benchmarks.paced import Latency, Pushing

TARGET = 0.010
PROVIDERS = 10
CONFIG = "budgets:\n" + "".join(f"  provider-{i}: 2_000_000_000\n" for i in range(PROVIDERS))


def main() -> None:
    """Find the peak, halve it, push at that rate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    print(report.machine())
    found: dict[str, list[Latency]] = {"exporter": [], "pushgateway, unchecked": []}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(processes.exporter(home, CONFIG))
        peer = processes.pushgateway(home, "--push.disable-consistency-check")
        stack.enter_context(peer)
        loads = [wrk.run(ours.url, "single", connections=64, seconds=3) for _ in range(3)]
        rate = median(load.requests / load.seconds for load in loads) / 2
        stack.enter_context(processes.prometheus(home, [ours, peer]))
        for _ in range(options.rounds):
            for name, target in zip(found, (ours, peer), strict=True):
                kind = "pushgateway" if target is peer else "usage"
                pushing = Pushing(target.url, rate, options.seconds, PROVIDERS, kind=kind)
                found[name].append(pushing.finish())
    report.table(
        ("target", "pushes/s", "p50 ms", "p99 ms", "longest ms", "client's p99 ms"),
        [
            (name, f"{rate:,.0f}", *(f"{median(column) * 1e3:.1f}" for column in columns))
            for name, latencies in found.items()
            for columns in [list(zip(*latencies, strict=True))[:4]]
        ],
    )
    p99 = median(one.p99 for one in found["exporter"])
    report.finish([f"p99: {p99 * 1e3:.1f} ms > 10 ms"] if p99 > TARGET else [])


if __name__ == "__main__":
    main()
