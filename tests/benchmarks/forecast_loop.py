"""Let routers act on the predicted state, and see what that does to the use and the state.

    python tests/benchmarks/forecast_loop.py [--days 14] [--series 1] [--window day --window 5h]

Everything but the routers is real: usage is added to a ledger, measured by the meter, and settled
by the quota states, whose outages the meter is told. Demand is 90 to 200 % of the budget, at office
hours, evenly, in bursts, or growing. A router that obeys sends nothing while a provider is out, one
that half obeys half of the demand.

    had       what was used within budgets, of what could be had: used by a router that obeys
              where nothing is predicted
    beyond    use beyond the budget at the end of a day (rolling: the most in a day), in budgets, on
              days on which demand exceeds it
    changes   into and out of the predicted state, on such a day
    early     demand turned away on such a day while the budget had room for it, in budgets
    kept      predictions after which the provider was out until the `retry_after` they announced
    false     days on which demand does not exceed the budget, but which see the predicted state
"""

import argparse
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np

from exporter.core.budget import Budget, PredictionSettings
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.quota_state import Reason
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.slots import FINE_SECONDS
from exporter.core.windows import parse_period
from exporter.quota_states import QuotaStates

STEP, DAY = 1200, 86400
PER_DAY = DAY // STEP
MONDAY = 1_736_121_600.0
AMOUNT = 1_000_000
FACTORS = (0.9, 1.1, 1.3, 1.6, 2.0)
OBEYING = {"obeying": 1.0, "half-obeying": 0.5, "ignoring": 0.0}
POLICIES = {
    "no prediction": PredictionSettings(exhausted_at=None),
    "0.95, released below 0.7": PredictionSettings(from_used=0.0, release_below=0.7),
    "0.95, stays": PredictionSettings(from_used=0.0),
    "0.95 from 98 % used, stays": PredictionSettings(),
}


def demand(days: int, rng: np.random.Generator) -> np.ndarray:
    """Return demand per step that is 1 on a usual busy day, of four kinds."""
    hour = np.arange(days * PER_DAY) % PER_DAY / (PER_DAY / 24)
    day = np.arange(days * PER_DAY) // PER_DAY
    office = ((hour >= 8) & (hour < 18)) * (day % 7 < 5) / (10 * PER_DAY / 24)
    noise = np.exp(rng.normal(0, 0.15, days))[day]
    even = np.ones(hour.size) / PER_DAY
    bursts = rng.poisson(office * 40) * rng.gamma(0.7, 1 / 0.7, hour.size) / 40
    growing = office * 1.02**day
    uneven = rng.gamma(2.0, 0.5, hour.size)
    return np.array([office * noise * uneven, even * noise * uneven, bursts, growing * uneven])


def held(use: np.ndarray, window: str) -> np.ndarray:
    """Return what the window holds after each step: of a day since it began, else the last 5 h."""
    sums = np.cumsum(use, axis=1)
    steps = np.arange(use.shape[1])
    begin = (
        steps - steps % PER_DAY if window == "day" else np.maximum(steps + 1 - 5 * 3600 // STEP, 0)
    )
    before = np.where(begin > 0, sums[:, np.maximum(begin - 1, 0)], 0.0)
    return sums - before


def most(use: np.ndarray, window: str) -> np.ndarray:
    """Return the most that the window held on each day."""
    peaks: np.ndarray = held(use, window).reshape(len(use), -1, PER_DAY).max(axis=2)
    return peaks


def within(use: np.ndarray, window: str) -> float:
    """Return what was used without what was beyond the budget."""
    return float(use.sum() - np.maximum(most(use, window) - 1, 0).sum())


def usual(days: int, window: str, rng: np.random.Generator) -> np.ndarray:
    """Return demand that fills the window's budget once on a usual busy day."""
    wanted = demand(days, rng)
    if window == "day":
        return wanted
    busy: np.ndarray = np.quantile(most(wanted, window), 0.7, axis=1)
    return wanted / busy[:, None]


@dataclass
class Run:
    """What became of one policy with one kind of router; a row per provider."""

    used: np.ndarray
    changes: np.ndarray
    early: np.ndarray
    kept: list[bool] = field(default_factory=list)


def run(wanted: np.ndarray, window: str, settings: PredictionSettings, obeying: float) -> Run:
    """Step through all days."""
    count, size = wanted.shape
    names = [f"p{number:03}" for number in range(count)]
    budget = Budget(AMOUNT, parse_period(window, ZoneInfo("UTC")), prediction=settings)
    ledger = Ledger(dict.fromkeys(names, (budget,)), 35 * DAY, MONDAY)
    meter, states = BudgetMeter(ledger), QuotaStates()
    early = np.zeros((count, size // PER_DAY))
    result = Run(np.zeros((count, size)), np.zeros(early.shape), early)
    announced: dict[int, float] = {}
    before: list[Reason | None] = [None] * count
    for step in range(size):
        now = MONDAY + step * STEP
        ledger.advance(now)
        meter.was_out(states.outages.all())
        room = np.zeros(count)
        for one in meter.measure(now):
            states.settle(one.scope, [one], meter.freed_at, now)
            room[int(one.scope.provider[1:])] = max(AMOUNT - one.used, 0.0)
        for row, name in enumerate(names):
            view = states.scope(Scope(name), now).view
            until = announced.get(row)
            if until is not None and (view.reason is None or now >= until):
                result.kept.append(now >= until - STEP)
                del announced[row]
            predicted, was = view.reason is Reason.PREDICTED, before[row] is Reason.PREDICTED
            if predicted and not was:
                announced[row] = view.retry_at or 0.0
            result.changes[row, step // PER_DAY] += predicted is not was
            before[row] = view.reason
            asked = wanted[row, step] * AMOUNT
            sent = round(asked * (1 - obeying if view.reason else 1.0))
            if predicted:
                before_now = early[row, step // PER_DAY]
                refused = before_now + (asked - sent) / AMOUNT
                early[row, step // PER_DAY] = max(before_now, min(refused, room[row] / AMOUNT))
            result.used[row, step] = sent / AMOUNT
            if sent:
                at = int((now + STEP / 2) // FINE_SECONDS)
                ledger.advance(now + STEP / 2)
                ledger.add({(Series(name), at): [0, 0, 0, 0, 0, sent, 1, 0]})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--series", type=int, default=1, help="of each kind and size")
    parser.add_argument("--window", action="append", choices=["day", "5h"])
    options = parser.parse_args()
    for window in options.window or ["day", "5h"]:
        rng = np.random.default_rng(5)
        wanted = np.concatenate(
            [
                FACTORS[number % len(FACTORS)] * usual(options.days, window, rng)
                for number in range(options.series * len(FACTORS))
            ]
        )
        exceeding = most(wanted, window) >= 1
        share = exceeding.mean()
        print(f"\n{window}: {len(wanted)} series, demand exceeds the budget on {share:.0%} of days")
        could = within(run(wanted, window, POLICIES["no prediction"], 1.0).used, window)
        columns = "had   beyond  changes  early   kept  false"
        for router, obeying in OBEYING.items():
            print(f"{router:28} {columns}")
            for name, settings in POLICIES.items():
                found = run(wanted, window, settings, obeying)
                beyond = np.maximum(most(found.used, window) - 1, 0)[exceeding].mean()
                kept = np.mean(found.kept) if found.kept else np.nan
                print(
                    f"{name:28} {within(found.used, window) / could:.3f} {beyond:6.3f}  "
                    f"{found.changes[exceeding].mean():6.2f}  "
                    f"{found.early[exceeding].mean():6.3f} {kept:6.2f} "
                    f"{(found.changes[~exceeding] > 0).mean():6.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
