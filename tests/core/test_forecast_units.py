"""Budgets in requests and in USD are forecast by the same model, as rightly as those in tokens."""

from zoneinfo import ZoneInfo

import numpy as np

from exporter.core.budget import NANO, Budget, BudgetUnit
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.series import Series
from exporter.core.slots import FINE_SECONDS, Cell, Counts
from exporter.core.windows import Calendar, Unit

HOUR, DAY = 3600, 86_400
MONDAY = 1_736_121_600
DAYS, LEARNT = 35, 21
UTC_DAY = Calendar(Unit.DAY, ZoneInfo("UTC"))
AGENT = Series("agent")
TOKENS, REQUESTS, COST = 5, 6, 7
COLUMN = {BudgetUnit.TOKENS: TOKENS, BudgetUnit.REQUESTS: REQUESTS, BudgetUnit.USD: COST}
MULTIPLES = (0.6, 0.8, 1.0, 1.2, 1.5)


def working_weeks(rng: np.random.Generator) -> dict[Cell, Counts]:
    """Calls at office hours, more on some days than on others, of uneven size and price."""
    found: dict[Cell, Counts] = {}
    for day in range(DAYS):
        level = np.exp(rng.normal(0, 0.35)) * (1.0 if day % 7 < 5 else 0.15)
        for half_hour in range(16, 38):
            calls = int(rng.poisson(12 * level))
            tokens = int(rng.gamma(2, 1500, calls).sum())
            # Half of what is paid for is paid by the call.
            cost = int(calls * 0.01 * NANO + tokens * 3000)
            at = (MONDAY + day * DAY + half_hour * HOUR // 2) // FINE_SECONDS
            found[AGENT, at] = [0, 0, 0, 0, 0, tokens, calls, cost]
    return found


def brier_scores() -> dict[BudgetUnit, tuple[float, float]]:
    """By unit: the score of what is said every two hours of two weeks, and of the base rate."""
    usage = working_weeks(np.random.default_rng(11))
    daily = {unit: np.zeros(DAYS) for unit in COLUMN}
    for (_, slot), counts in usage.items():
        for unit, column in COLUMN.items():
            daily[unit][(slot * FINE_SECONDS - MONDAY) // DAY] += counts[column]
    usual = {unit: int(np.median(total[:LEARNT])) for unit, total in daily.items()}
    budgets = [
        Budget(int(multiple * usual[unit]), UTC_DAY, unit=unit)
        for unit in COLUMN
        for multiple in MULTIPLES
    ]
    ledger = Ledger({"agent": budgets}, 40 * DAY, MONDAY)
    meter = BudgetMeter(ledger)
    said: dict[BudgetUnit, list[tuple[float, bool]]] = {unit: [] for unit in COLUMN}
    waiting = sorted(usage.items(), key=lambda item: item[0][1])
    for now in range(MONDAY + LEARNT * DAY, MONDAY + DAYS * DAY, 2 * HOUR):
        ledger.advance(now)
        while waiting and waiting[0][0][1] * FINE_SECONDS < now:
            cell, counts = waiting.pop(0)
            ledger.add({cell: counts})
        for one in meter.measure(now):
            if not one.exceeded:
                unit = one.budget.unit
                truth = daily[unit][(now - MONDAY) // DAY] >= one.budget.amount
                said[unit].append((one.probability, bool(truth)))
    scores = {}
    for unit, pairs in said.items():
        probability, truth = np.array(pairs, float).T
        scores[unit] = (float(((probability - truth) ** 2).mean()), float(truth.mean()))
    return {unit: (brier, rate * (1 - rate)) for unit, (brier, rate) in scores.items()}


def test_requests_and_usd_are_forecast_as_rightly_as_tokens() -> None:
    scores = brier_scores()
    for brier, base in scores.values():
        assert brier < 0.5 * base
    worst = max(brier for brier, _ in scores.values())
    assert worst < 1.3 * scores[BudgetUnit.TOKENS][0]


def test_of_equal_use_the_unit_makes_no_difference() -> None:
    budgets = [
        Budget(1000, UTC_DAY),
        Budget(1000, UTC_DAY, unit=BudgetUnit.REQUESTS),
        Budget(1000 * NANO, UTC_DAY, unit=BudgetUnit.USD),
    ]
    ledger = Ledger({"agent": budgets}, 35 * DAY, MONDAY)
    rng = np.random.default_rng(3)
    now = MONDAY + 20 * DAY + 11 * HOUR
    for hour in range((now - MONDAY) // HOUR):
        ledger.advance(MONDAY + hour * HOUR)
        one = int(rng.poisson(40))
        at = (MONDAY + hour * HOUR) // FINE_SECONDS
        ledger.add({(AGENT, at): [0, 0, 0, 0, 0, one, one, one * NANO]})
    tokens, requests, usd = BudgetMeter(ledger).measure(now)
    assert 0.05 < tokens.probability < 0.95
    assert requests.probability == tokens.probability
    assert abs(usd.probability - tokens.probability) < 1e-6
    assert abs(usd.median / NANO / tokens.median - 1) < 1e-3


if __name__ == "__main__":
    for unit, (brier, base) in brier_scores().items():
        print(f"{unit}: Brier {brier:.4f}, base rate {base:.4f}")
