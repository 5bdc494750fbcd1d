"""How well budgets of parts of a provider are foreseen, in every unit, on the recorded trace.

    python -m tests.benchmarks.scoped_forecasts [--budgets 30] [--trace FILE.csv.gz]

Clients of the file are consumers of five providers and ask for three models, as in
`replay_consumers`; a request stands for a thousand tokens, and models cost 1, 5 and 15 USD per
million. Daily budgets are multiples of the mean of the first three days, of the consumers, models
and providers that use most. Every half hour while a budget is not spent the probability is taken
from the ledger and meter that serve `/metrics`, and scored when the day is over, on days 4 to 14,
beside the straight line from midnight and the base rate.
"""

import argparse
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np

from exporter.core.budget import Budget, BudgetUnit, Quota
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.slots import FINE_SECONDS, Counts, Increments, add
from exporter.core.windows import Calendar, Unit
from tests.benchmarks import report
from tests.benchmarks.replay_consumers import Event, events
from tests.benchmarks.replay_trace import DAY, TRACE, Row, read

DAYS = 14
KNOWN = 3
EVERY = 1800
MULTIPLES = (0.75, 1.0, 1.25, 1.5, 2.0)
PRICES = {"model-0": 1_000, "model-1": 5_000, "model-2": 15_000}  # nano-dollars a token
BIN = 600
UTC_DAY = Calendar(Unit.DAY, ZoneInfo("UTC"))

SCOPES = {
    "provider": lambda one: Scope(one.provider),
    "model": lambda one: Scope(one.provider, one.model),
    "consumer": lambda one: Scope(one.provider, "", one.consumer),
}
UNITS = (BudgetUnit.TOKENS, BudgetUnit.REQUESTS, BudgetUnit.USD)


class Said(NamedTuple):
    """A decision: what was said of a day, and what the straight line said."""

    day: int
    probability: float
    line: bool


def counts(one: Event) -> Counts:
    """What an event counts."""
    return [0, 0, 0, 0, 0, one.tokens, one.tokens // 1000 + 1, one.tokens * PRICES[one.model]]


def amounts(those: Iterable[Event], begin: int) -> Mapping[tuple[str, BudgetUnit, Scope], float]:
    """By kind of scope, unit and scope: the mean of the first days."""
    found: dict[tuple[str, BudgetUnit, Scope], float] = {}
    for one in those:
        if one.timestamp < begin + KNOWN * DAY:
            *_, tokens, requests, cost = counts(one)
            for kind, scope_of in SCOPES.items():
                for unit, amount in zip(UNITS, (tokens, requests, cost), strict=True):
                    key = kind, unit, scope_of(one)
                    found[key] = found.get(key, 0.0) + amount / KNOWN
    return found


def chosen(means: Mapping[tuple[str, BudgetUnit, Scope], float], most: int) -> list[Quota]:
    """The budgets of the scopes that use most."""
    quotas = []
    for number, ((kind, unit, scope), mean) in enumerate(
        sorted(means.items(), key=lambda item: (item[0][0], item[0][1], -item[1]))
    ):
        budget = Budget(
            max(1, int(mean * MULTIPLES[number % len(MULTIPLES)])),
            UTC_DAY,
            unit=unit,
            model=scope.model,
            consumer=scope.consumer,
        )
        if sum(_kind(one) == (kind, unit) for one in quotas) < most:
            quotas.append(Quota(scope, budget))
    return quotas


def _kind(quota: Quota) -> tuple[str, BudgetUnit]:
    scope = quota.scope
    kind = "consumer" if scope.consumer else "model" if scope.model else "provider"
    return kind, quota.budget.unit


def replay(those: list[Event], quotas: list[Quota], begin: int) -> dict[Quota, list[Said]]:
    """Replay the usage, and take a decision every half hour."""
    budgets: dict[str, list[Budget]] = {}
    for scope, budget in quotas:
        budgets.setdefault(scope.provider, []).append(budget)
    ledger = Ledger(budgets, 35 * DAY, begin)
    meter = BudgetMeter(ledger)
    said: dict[Quota, list[Said]] = {quota: [] for quota in quotas}
    bins = {at: list(some) for at, some in groupby(those, key=lambda one: one.timestamp // BIN)}
    for now in range(begin, begin + DAYS * DAY, BIN):
        if now % EVERY == 0:
            ledger.advance(now)
            for one in meter.measure(now):
                if one.exceeded or not one.used:
                    continue
                elapsed = (now - one.window.start) / DAY
                line = elapsed > 0 and one.used / elapsed >= one.budget.amount
                said[one.quota].append(Said((now - begin) // DAY, one.probability, line))
        increments: Increments = {}
        for event in bins.get(now // BIN, ()):
            cell = Series(event.provider, event.model, event.consumer), now // FINE_SECONDS
            add(increments, cell, counts(event))
        ledger.advance(now + BIN - 1)
        ledger.add(increments)
    return said


def truths(those: list[Event], quotas: list[Quota], begin: int) -> dict[Quota, set[int]]:
    """The days on which each budget was spent."""
    used: dict[tuple[BudgetUnit, Scope], np.ndarray] = {}
    for one in those:
        *_, tokens, requests, cost = counts(one)
        for scope_of in SCOPES.values():
            for unit, amount in zip(UNITS, (tokens, requests, cost), strict=True):
                days = used.setdefault((unit, scope_of(one)), np.zeros(DAYS))
                days[(one.timestamp - begin) // DAY] += amount
    return {
        quota: {
            day
            for day, total in enumerate(used[quota.budget.unit, quota.scope])
            if total >= quota.budget.amount
        }
        for quota in quotas
    }


def main() -> None:
    """Replay and score."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--budgets", type=int, default=30, help="of each kind and unit")
    parser.add_argument("--trace", default=TRACE)
    options = parser.parse_args()
    print(report.machine())
    end = (20_000 + DAYS) * DAY
    rows: list[Row] = []
    for day in range(DAYS):
        rows += read(options.trace, day, end - (DAYS - 1 - day) * DAY)
    begin = end - DAYS * DAY
    those = list(events(rows))
    quotas = chosen(amounts(those, begin), options.budgets)
    said, spent = replay(those, quotas, begin), truths(those, quotas, begin)
    table = []
    for kind, unit in sorted({_kind(quota) for quota in quotas}):
        mine = [quota for quota in quotas if _kind(quota) == (kind, unit)]
        scored = [
            (one.probability, one.line, one.day in spent[quota])
            for quota in mine
            for one in said[quota]
            if one.day >= KNOWN
        ]
        probability, line, truth = np.array(scored, float).T
        table.append(
            (
                kind,
                unit.value,
                f"{len(mine)}",
                f"{len(scored):,}",
                f"{((truth.mean() - truth) ** 2).mean():.3f}",
                f"{((line - truth) ** 2).mean():.3f}",
                f"{((probability - truth) ** 2).mean():.3f}",
                f"{abs(probability.mean() - truth.mean()):.3f}",
            )
        )
    report.table(
        ("of", "unit", "budgets", "decisions", "base rate", "straight line", "forecast", "bias"),
        table,
    )


if __name__ == "__main__":
    main()
