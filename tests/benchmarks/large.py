"""A thousand providers with 35 days of history, and how the cost grows to ten thousand.

    python -m tests.benchmarks.large [--providers 100 1000 3000 10000]

The history is written by the store itself for a few providers, and copied under other names in
the order in which time would have written it: 70 % of all five-minute bins hold use of two kinds.
Scrapes are timed while pushes arrive, their processor time while none do. Exit 1 when a target
for 1,000 providers is missed.
"""

import argparse
import random
import sqlite3
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import NamedTuple

from exporter.core.series import Series
from exporter.core.slots import COARSE_SECONDS, FINE_SECONDS, Cell, Counts
from exporter.storage import open_store
from exporter.storage.contract import Batch
from tests.benchmarks import processes, report
from tests.benchmarks.paced import Pushing

DAY = 86400
DAYS = 35
FILLED = 0.7
WRITTEN = 20  # histories that differ
RATE = 500  # pushes per second meanwhile
ACCEPT = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"  # as Prometheus sends it
)
SCRAPE, RESIDENT, READY, P99 = 0.250, 200 * 2**20, 2.0, 0.050


class Result(NamedTuple):
    """What a number of providers costs; seconds and bytes.

    The processor time is the server's: of a start, and of a scrape while nothing is pushed.
    """

    providers: int
    stored: int
    ready: float
    ready_cpu: float
    first: float
    scrape: float
    scrape_cpu: float
    exposition: int
    resident: int
    p99: float


def history(generator: random.Random, provider: str, now: float) -> Batch:
    """One provider's events of 35 days."""
    increments: dict[Cell, Counts] = {}
    for begin in range(int(now) - DAYS * DAY + COARSE_SECONDS, int(now), COARSE_SECONDS):
        if generator.random() < FILLED:
            into, out = generator.randrange(200, 60_000), generator.randrange(100, 20_000)
            cell = (Series(provider, "model"), begin // FINE_SECONDS)
            increments[cell] = [into, 0, 0, out, 0, 0, 10, 0]
    return Batch(increments, events=10 * len(increments))


def write(path: Path, providers: int) -> None:
    """Fill a database."""
    now = time.time()
    store = open_store(f"sqlite:///{path}", retention=DAYS * DAY, deduplication=DAY, now=now)
    generator = random.Random(1)
    for number in range(WRITTEN):
        store.commit([history(generator, f"provider-{number}", now)], now)
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TEMP TABLE copy AS SELECT * FROM block")
        database.execute("CREATE TEMP TABLE copied AS SELECT * FROM series")
        database.execute("DELETE FROM block")
        database.execute("DELETE FROM series")
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) "
            "INSERT INTO series SELECT i + 1, json_array('provider-' || i, 'model'), counts, "
            "touched FROM copied, n WHERE labels = json_array('provider-' || (i % ?), 'model')",
            (providers, WRITTEN),
        )
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?) "
            "INSERT INTO block SELECT i + 1, tier, number, body FROM copy, n, copied "
            "WHERE copy.series = copied.id AND labels = json_array('provider-' || (i % ?), "
            "'model') ORDER BY tier, number, i",
            (providers, WRITTEN),
        )
    database.close()


def scrape(url: str) -> tuple[float, int]:
    """Seconds and bytes of one scrape as Prometheus does it."""
    request = urllib.request.Request(
        url + "/metrics", headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"}
    )
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=processes.DEADLINE) as answer:
        body = answer.read()
    return time.perf_counter() - begun, len(body)


def measure(providers: int, scrapes: int) -> Result:
    """Write a database of that size, serve it, scrape it."""
    config = "budgets:\n" + "".join(f"  provider-{i}: 300_000_000\n" for i in range(providers))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "quota.db")
        write(path, providers)
        stored = path.stat().st_size
        ours = processes.exporter(Path(directory), config)
        try:
            ready = ours.start()
            ready_cpu = ours.cpu_seconds()
            first, exposition = scrape(ours.url)
            begun = ours.cpu_seconds()
            for _ in range(scrapes):
                scrape(ours.url)
            scrape_cpu = (ours.cpu_seconds() - begun) / scrapes
            pushing = Pushing(ours.url, RATE, scrapes * 0.5, providers)
            times = []
            for _ in range(scrapes):
                time.sleep(0.5)
                times.append(scrape(ours.url)[0])
            p99 = pushing.finish().p99
            resident = ours.resident_bytes()
        finally:
            ours.kill()
    return Result(
        *(providers, stored, ready, ready_cpu, first, median(times), scrape_cpu),
        *(exposition, resident, p99),
    )


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--providers", type=int, nargs="+", default=[100, 1000, 3000, 10_000])
    parser.add_argument("--scrapes", type=int, default=20)
    options = parser.parse_args()
    print(report.machine())
    results = [measure(providers, options.scrapes) for providers in options.providers]
    report.table(
        (
            *("providers", "database MB", "ready s", "its CPU s", "first scrape ms"),
            *("scrape ms", "its CPU ms", "gzipped kB", "memory MiB", "push p99 ms"),
        ),
        [
            (
                f"{one.providers:,}",
                f"{one.stored / 1e6:.0f}",
                f"{one.ready:.2f}",
                f"{one.ready_cpu:.2f}",
                f"{one.first * 1e3:.0f}",
                f"{one.scrape * 1e3:.0f}",
                f"{one.scrape_cpu * 1e3:.0f}",
                f"{one.exposition / 1e3:.0f}",
                f"{one.resident / 2**20:.0f}",
                f"{one.p99 * 1e3:.1f}",
            )
            for one in results
        ],
    )
    missed = []
    for one in results:
        if one.providers == 1000:
            limits = {
                "scrape": (one.scrape, SCRAPE),
                "memory": (one.resident, RESIDENT),
                "ready": (one.ready, READY),
                "push p99": (one.p99, P99),
            }
            missed = [
                f"{name}: {value:.4g} > {most:.4g}"
                for name, (value, most) in limits.items()
                if value > most
            ]
    report.finish(missed)


if __name__ == "__main__":
    main()
