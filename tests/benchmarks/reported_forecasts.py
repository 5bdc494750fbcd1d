"""How well the weekly wall of a subscription is foreseen, of which only a share is reported.

    python -m tests.benchmarks.reported_forecasts [--accounts 6]

Synthetic accounts: work from nine to six and a little in the evenings, in bursts, on days that
differ, of one half on weekdays only; what a token costs of the share wanders by 15 % from hour to
hour. The share is reported in steps of 0.01, at most every ten minutes. Weeks are walls at 0.6 to 2
times the mean use. Every hour while the wall is not hit, the probability is scored when the week is
over, with our own count of tokens and with the reports alone, beside the straight line through the
share. An alert is 0.9 or more, twice in a row; false alarms are of the weeks without a wall, warned
are those of the weeks with one that had an alert an hour before it or earlier.
"""

import argparse
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from exporter.core.budget import DEFAULT_PREDICTION
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.reported_windows import quota_of
from exporter.core.reports import Report, first_report
from exporter.core.series import Series
from exporter.core.signal import Limit
from exporter.core.slots import FINE_SECONDS
from tests.benchmarks import report

HOUR, DAY, WEEK = 3600, 86_400, 604_800
BIN = 300
WEEKS = 3
MONDAY = 1_767_571_200  # 2026-01-05
LEVELS = (0.6, 0.85, 1.0, 1.15, 1.4, 2.0)
WHOLE = 1e7  # tokens
ALERT = 0.9


class Said(NamedTuple):
    """An hour: what was said, what the straight line said, and how far the share was off."""

    week: int
    probability: float
    line: bool
    error: float


def use(seed: int, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and the share that they cost, by five minutes."""
    chance = np.random.default_rng(seed)
    bins = np.arange(WEEKS * WEEK // BIN)
    weekday, hour = bins * BIN // DAY % 7, bins * BIN % DAY / HOUR
    works = (weekday < 5) | (seed % 2 == 1)
    busy = (works & (hour >= 9) & (hour < 18)) + 0.1 * ((hour >= 9) & (hour < 23))
    days = np.repeat(np.exp(chance.normal(0, 0.4, WEEKS * 7)), DAY // BIN)
    tokens = busy * days * chance.gamma(0.3, 1 / 0.3, len(bins))
    tokens *= level * WHOLE * WEEKS / tokens.sum()
    cost = np.repeat(np.exp(chance.normal(0, 0.15, len(bins) // 12)), 12)
    return tokens, tokens * cost / WHOLE


def week(used: float, ends: float) -> Limit:
    """What is reported."""
    return Limit("7d", utilization=round(used, 2), reset_at=ends, unit="share", window=float(WEEK))


def replay(seed: int, level: float, counted: bool) -> tuple[list[Said], dict[int, bool]]:
    """What is said of an account, and in which weeks it hits the wall."""
    quota = quota_of("claude", week(0, MONDAY + WEEK), DEFAULT_PREDICTION)
    assert quota is not None
    ledger = Ledger({"claude": (quota.budget,)}, 35 * DAY, MONDAY)
    meter = BudgetMeter(ledger)
    held: Report | None = None
    said, walls, used, told_at = [], {}, 0.0, 0.0
    for at, (tokens, share) in enumerate(zip(*use(seed, level), strict=True)):
        now = MONDAY + (at + 1) * BIN
        number = at * BIN // WEEK
        if at * BIN % WEEK == 0:
            used = 0.0
        used += share
        walls[number] = used >= 1
        ledger.advance(now)
        if tokens and counted:
            cell = Series("claude"), (now - 5) // FINE_SECONDS
            ledger.add({cell: [0, 0, 0, 0, 0, int(tokens), 1, 0]})
        if tokens and now - told_at >= 2 * BIN:
            told_at = now
            limit = week(used, MONDAY + (number + 1) * WEEK)
            held = held.followed_by(limit, now) if held else first_report(limit, now)
        if held and now % HOUR == 0 and used < 1:
            meter.reported({quota: held})
            elapsed = (now - MONDAY - number * WEEK) / WEEK
            said += [
                Said(number, one.probability, used / elapsed >= 1, abs(one.used - used))
                for one in meter.measure(now)
                if one.window.start == MONDAY + number * WEEK
            ]
    return said, walls


def alerted(said: list[Said], number: int) -> bool:
    """Whether there was an alert in a week."""
    likely = [one.probability >= ALERT for one in said if one.week == number]
    return any(both == (True, True) for both in pairwise(likely))


def share(of: list[bool]) -> str:
    """How many of them."""
    return f"{sum(of)} of {len(of)}"


def main() -> None:
    """Replay and score."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--accounts", type=int, default=6, help="of each level")
    options = parser.parse_args()
    print(report.machine())
    table = []
    for counted in (True, False):
        runs = [
            replay(seed, level, counted) for seed in range(options.accounts) for level in LEVELS
        ]
        for number in range(WEEKS):
            scored = [
                (one.probability, one.line, walls[number], one.error)
                for said, walls in runs
                for one in said
                if one.week == number
            ]
            probability, line, truth, error = np.array(scored, float).T
            alerts = [(walls[number], alerted(said, number)) for said, walls in runs]
            table.append(
                (
                    "tokens and reports" if counted else "reports alone",
                    f"{number + 1}",
                    f"{len(scored):,}",
                    f"{((truth.mean() - truth) ** 2).mean():.3f}",
                    f"{((line - truth) ** 2).mean():.3f}",
                    f"{((probability - truth) ** 2).mean():.3f}",
                    f"{error.mean():.4f}",
                    share([alert for wall, alert in alerts if not wall]),
                    share([alert for wall, alert in alerts if wall]),
                )
            )
    report.table(
        (
            *("known are", "week", "hours", "base rate", "straight line", "forecast"),
            *("share off by", "false alarms", "warned"),
        ),
        table,
    )


if __name__ == "__main__":
    main()
