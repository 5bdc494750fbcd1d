"""What one decision costs: a forecast of each of 1,000 budgets from five weeks of history.

    python -m tests.benchmarks.decisions [--providers 1000] [--rounds 9]

Processor time of measuring every budget anew, as a scrape does. Exit 1 when the median for daily
budgets is above 50 ms per 1,000.
"""

import argparse
import time
from collections.abc import Iterator
from statistics import median
from zoneinfo import ZoneInfo

import numpy as np

from exporter.core.budget import Budget, Quota
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.quota_forecasts import FORECAST_AGE
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.slots import COARSE, Block
from exporter.core.windows import Period, parse_period
from tests.benchmarks import report

DAYS = 35
NOW = (20_000 + DAYS) * 86_400.0 + 15 * 3600  # three in the afternoon
TARGET = 0.050
MULTIPLES = (0.75, 1.0, 1.25, 1.5, 2.0)
"""Of the usual use, one of which each budget allows."""


def history(providers: int) -> Iterator[Block]:
    """Busy by day, quiet by night, uneven, and different for every provider and day."""
    chance = np.random.default_rng(1)
    rhythm = 1.2 + np.sin(2 * np.pi * (np.arange(COARSE.bins) / COARSE.bins - 0.4))
    last = int(NOW // COARSE.block_seconds)
    for number in range(providers):
        size = np.exp(chance.normal(8, 1.5))
        for day in range(last - DAYS, last + 1):
            used = size * rhythm * chance.gamma(0.5, 2, COARSE.bins)
            if day == last:
                used[int(NOW % 86_400 // 300) :] = 0
            yield Block(Series(f"provider-{number}"), COARSE, day, {0: used.astype(np.int64)})


def measured(providers: int, rounds: int, period: Period) -> tuple[float, float]:
    """Median processor seconds of a decision, and mebibytes of the sums it rests on."""
    names = [f"provider-{number}" for number in range(providers)]
    plain = Budget(1, period)
    ledger = Ledger({name: [plain] for name in names}, DAYS * 86_400.0, NOW)
    ledger.load(history(providers))
    rows = np.array([ledger.index.row(Quota(Scope(name), plain)) for name in names])
    sums, _, _ = ledger.history()
    usual = sums[rows, -1] / DAYS / 86_400 * (period.window(NOW).end - period.window(NOW).start)
    multiple = np.random.default_rng(2).choice(MULTIPLES, providers)
    budgets = {
        name: [Budget(int(tokens), period)]
        for name, tokens in zip(names, multiple * usual, strict=True)
    }
    ledger = Ledger(budgets, DAYS * 86_400.0, NOW)
    ledger.load(history(providers))
    meter = BudgetMeter(ledger)
    times = []
    for turn in range(rounds):
        now = NOW + turn * (FORECAST_AGE + 1)
        ledger.advance(now)
        begun = time.process_time()
        meter.measure(now)
        times.append(time.process_time() - begun)
    return median(times), (ledger.coarse.sums.nbytes + ledger.fine.sums.nbytes) / 2**20


def main() -> None:
    """Measure each kind of budget."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--providers", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(report.machine())
    rows, missed = [], []
    for text in ("day", "week", "5h"):
        period = parse_period(text, ZoneInfo("UTC"))
        seconds, memory = measured(options.providers, options.rounds, period)
        each = seconds * 1000 / options.providers
        rows.append((period.name, f"{each * 1e3:.0f}", f"{memory * 1024 / options.providers:.0f}"))
        if period.name == "day" and each > TARGET:
            missed.append(f"day: {each * 1e3:.0f} ms > 50 ms")
    report.table(("period", "CPU ms per 1,000", "KiB per provider"), rows)
    report.finish(missed)


if __name__ == "__main__":
    main()
