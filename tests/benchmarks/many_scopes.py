"""One provider with 200 models and 100 consumers: memory, scrapes and pushes.

    python -m tests.benchmarks.many_scopes [--models 200] [--consumers 100]

Each model and each consumer has a daily budget of its own, and every model is asked for by every
consumer, in each of the last two hours. Then memory is read, scrapes are timed, and pushes of one
event each, beside an exporter that has the same usage without consumers and one budget. Exit 1 when
it holds more than 250 MiB.
"""

import argparse
import json
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks import processes, report
from tests.benchmarks.large import scrape

RESIDENT = 250 * 2**20
HOUR, HOURS = 3600, 2
PUSHES, SCRAPES = 500, 10

CONFIG = """\
budgets:
  one:
    - {{tokens: 1G}}
    - {{requests: 1G, per: model}}
    - {{usd: 1_000_000, period: day, per: consumer}}
limits: {{models_per_provider: {models}, consumers_per_provider: {consumers}}}
"""


class Result(NamedTuple):
    """What was measured."""

    name: str
    series: int
    quotas: int
    resident: int
    first: float
    scrape: float
    gzipped: int
    push: float


def push(url: str, events: list[dict[str, object]]) -> None:
    """Push events, and see that all were counted."""
    body = json.dumps(events).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + "/v1/usage", body, headers)
    with urllib.request.urlopen(request, timeout=processes.DEADLINE) as answer:
        found = json.load(answer)
    assert found["accepted"] == len(events), found


def event(model: int, consumer: int | None, at: float) -> dict[str, object]:
    """A request."""
    who = {} if consumer is None else {"consumer": f"team-{consumer}"}
    about = {"provider": "one", "model": f"model-{model}", "timestamp": at, **who}
    return {**about, "tokens": 1000, "cost_usd": 0.01}


def measure(name: str, models: int, consumers: int, config: str) -> Result:
    """Push, and look; without consumers as many events of the models alone."""
    who = range(consumers) if consumers else [None]
    with tempfile.TemporaryDirectory() as directory:
        ours = processes.exporter(Path(directory), config)
        try:
            ours.start()
            now = time.time()
            for hour in range(HOURS):
                at = now - hour * HOUR
                for model in range(models):
                    push(ours.url, [event(model, consumer, at) for consumer in who])
            first, _ = scrape(ours.url)
            found = [scrape(ours.url) for _ in range(SCRAPES)]
            took = []
            for number in range(PUSHES):
                one = event(number % models, number % consumers if consumers else None, now)
                begun = time.perf_counter()
                push(ours.url, [one])
                took.append(time.perf_counter() - begun)
            quotas = ours.get("/metrics").count("\nllm_quota_used_ratio{")
            resident = ours.resident_bytes()
        finally:
            ours.kill()
    seconds, sizes = zip(*found, strict=True)
    series = models * max(1, consumers)
    return Result(name, series, quotas, resident, first, median(seconds), sizes[-1], median(took))


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--consumers", type=int, default=100)
    options = parser.parse_args()
    print(report.machine())
    config = CONFIG.format(models=options.models, consumers=options.consumers)
    plain = f"budgets: {{one: 1G}}\nlimits: {{models_per_provider: {options.models}}}\n"
    results = [
        measure("scopes", options.models, options.consumers, config),
        measure("no scopes", options.models, 0, plain),
    ]
    report.table(
        (
            *("", "series", "quotas", "memory MiB", "first scrape ms", "scrape ms", "gzipped kB"),
            "push ms",
        ),
        [
            (
                one.name,
                f"{one.series:,}",
                f"{one.quotas:,}",
                f"{one.resident / 2**20:.0f}",
                f"{one.first * 1e3:.0f}",
                f"{one.scrape * 1e3:.0f}",
                f"{one.gzipped / 1e3:.0f}",
                f"{one.push * 1e3:.2f}",
            )
            for one in results
        ],
    )
    most = max(one.resident for one in results)
    report.finish([f"memory: {most / 2**20:.0f} MiB"] if most > RESIDENT else [])


if __name__ == "__main__":
    main()
