"""Let routers act on the predicted state, and see what that does to the use and the state.

    python tests/benchmarks/forecast_loop.py [--days 21] [--series 4]

Demand is 90 to 200 % of a daily budget, at office hours, evenly, in bursts, or growing. Every ten
minutes a forecast is made from what was used until then and from when the provider was out; a
router that obeys sends nothing while it is out, one that half obeys half of the demand.

    had       what was used, of what could be had: the smaller of demand and budget
    beyond    what was used beyond the budget, of the budget
    changes   of the predicted state, on a day on which demand exceeds the budget
    early     demand turned away while the budget still had room for all of it, of the budget
    kept      predicted states that lasted until the `retry_after` they were announced with
    page      days on which demand exceeds the budget and p >= 0.9 held for 30 minutes before
              the provider was out
    false     predicted states on days on which demand does not exceed the budget, of such days
"""

import argparse
from dataclasses import dataclass, field

import numpy as np

from exporter.core.forecast import BIN_SECONDS, Cases, Outage, TurnedAway, learn, predict

DAY_BINS, STEP_BINS = 288, 2
MONDAY = 1_736_121_600.0
FACTORS = (0.9, 1.1, 1.3, 1.6, 2.0)
OBEYING = {"obeying": 1.0, "half-obeying": 0.5, "ignoring": 0.0}


@dataclass(frozen=True)
class Policy:
    """When a prediction takes a provider out.

    Attributes:
        enter, leave: probabilities.
        from_used: share of the budget that must be used by then.
        stays: until the window's end, whatever the probability becomes.
        told: whether the forecast knows when the provider was out.
    """

    enter: float
    leave: float = 0.7
    from_used: float = 0.0
    stays: bool = False
    told: bool = True


POLICIES = {
    "no prediction": Policy(2.0),
    "0.95 / 0.7, outages learnt as idle": Policy(0.95, told=False),
    "0.95 / 0.7": Policy(0.95),
    "0.95, stays": Policy(0.95, stays=True),
    "0.95 from 98 % used, stays": Policy(0.95, from_used=0.98, stays=True),
    "0.95 from 99 % used, stays": Policy(0.95, from_used=0.99, stays=True),
    "0.7 from 98 % used, stays": Policy(0.7, from_used=0.98, stays=True),
}


def demand(days: int, rng: np.random.Generator) -> np.ndarray:
    """Return demand per bin that is 1 on a usual busy day, of four kinds."""
    hour = np.arange(days * DAY_BINS) % DAY_BINS / 12
    day = np.arange(days * DAY_BINS) // DAY_BINS
    office = ((hour >= 8) & (hour < 18)) * (day % 7 < 5) / (10 * 12)
    noise = np.exp(rng.normal(0, 0.15, days))[day]
    even = np.ones(hour.size) / DAY_BINS
    bursts = rng.poisson(office * 40) * rng.gamma(0.7, 1 / 0.7, hour.size) / 40
    growing = office * 1.02**day
    uneven = rng.gamma(2.0, 0.5, hour.size)
    return np.array([office * noise * uneven, even * noise * uneven, bursts, growing * uneven])


@dataclass
class Run:
    """One policy against one kind of router."""

    used: np.ndarray
    outages: list[list[Outage]]
    entries: np.ndarray
    exits: np.ndarray
    kept: list[bool] = field(default_factory=list)
    early: np.ndarray | None = None
    paged: np.ndarray | None = None


def run(wanted: np.ndarray, policy: Policy, obeying: float) -> Run:
    """Step through all days; the budget is 1 a day."""
    count, size = wanted.shape
    days = size // DAY_BINS
    used = np.zeros((count, size))
    shape = (count, days)
    result = Run(used, [[] for _ in range(count)], np.zeros(shape, int), np.zeros(shape, int))
    result.early, result.paged = np.zeros(shape), np.zeros(shape, bool)
    out, predicted = np.zeros(count, bool), np.zeros(count, bool)
    held = np.zeros(count, int)
    profile = learn(used[:, :0], MONDAY, MONDAY)
    for at in range(0, size, STEP_BINS):
        day, of_day = divmod(at, DAY_BINS)
        now = MONDAY + at * BIN_SECONDS
        begin = MONDAY + day * DAY_BINS * BIN_SECONDS
        today = used[:, day * DAY_BINS : at].sum(axis=1)
        spent = today >= 1
        if of_day == 0:
            result.kept += [True] * int(predicted.sum())
            predicted[:] = False
            held[:] = 0
        if at % 12 == 0:
            profile = learn(used[:, :at], MONDAY, now)
            if policy.told:
                profile = TurnedAway().put_into(
                    profile, dict(enumerate(result.outages)), range(count)
                )
        p = _probability(profile, used, at, now, begin, today)
        held = np.where(p >= 0.9, held + 1, 0)
        result.paged[:, day] |= (held > 3) & ~out
        enters = ~predicted & ~spent & (p >= policy.enter) & (today >= policy.from_used)
        leaves = predicted & ~spent & (p < policy.leave) & (not policy.stays)
        result.entries[:, day] += enters
        result.exits[:, day] += leaves
        result.kept += [False] * int(leaves.sum())
        predicted = (predicted | enters) & ~leaves
        was, out = out, predicted | spent
        for row in np.flatnonzero(out & ~was).tolist():
            result.outages[row].append((now, np.inf))
        for row in np.flatnonzero(was & ~out).tolist():
            result.outages[row][-1] = (result.outages[row][-1][0], now)
        part = slice(at, at + STEP_BINS)
        sent = wanted[:, part] * np.where(out, 1 - obeying, 1.0)[:, None]
        used[:, part] = sent
        refused = wanted[:, part].sum(axis=1) - sent.sum(axis=1)
        room = np.maximum(1 - today, 0.0) - result.early[:, day]
        result.early[:, day] += np.clip(np.minimum(refused, room), 0.0, None)
    return result


def _probability(profile, used, at, now, begin, today) -> np.ndarray:
    one = np.ones(len(used))
    settled = profile.cumulative.shape[1] - 1
    cases = Cases(
        series=np.arange(len(used)),
        start=one * begin,
        end=one * (begin + DAY_BINS * BIN_SECONDS),
        used=today,
        budget=one,
        rolling=one < 0,
        utc_offset=one * 0,
    )
    return predict(profile, used[:, settled:at], now, cases).probability


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=21)
    parser.add_argument("--series", type=int, default=2, help="of each kind and size")
    options = parser.parse_args()
    rng = np.random.default_rng(5)
    wanted = np.concatenate(
        [factor * demand(options.days, rng) for factor in FACTORS for _ in range(options.series)]
    )
    daily = wanted.reshape(len(wanted), -1, DAY_BINS).sum(axis=2)
    exceeding = daily >= 1
    print(f"{len(wanted)} series, {exceeding.mean():.0%} of their days exceed the budget")
    columns = "had   beyond  changes  early  kept   page   false"
    for router, obeying in OBEYING.items():
        print(f"\n{router:38} {columns}")
        for name, policy in POLICIES.items():
            found = run(wanted, policy, obeying)
            total = found.used.reshape((*daily.shape, -1)).sum(axis=2)
            could = np.minimum(daily, 1).sum()
            had = np.minimum(total, 1).sum() / could
            beyond = np.maximum(total - 1, 0).sum() / exceeding.sum()
            changes = (found.entries + found.exits)[exceeding].mean()
            changes += (found.entries > 0)[exceeding].mean()  # the end of the window
            kept = np.mean(found.kept) if found.kept else np.nan
            false = (found.entries[~exceeding] > 0).mean()
            print(
                f"{name:38} {had:.3f} {beyond:6.3f}  {changes:6.2f}  "
                f"{found.early[exceeding].mean():6.3f} {kept:6.2f} "
                f"{found.paged[exceeding].mean():6.2f} {false:6.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
