"""The series that a forecast is fitted on and scored by: the traces, and simulated shapes.

The traces are described in `README.md` beside them: clients of an LLM service over 14 days, and
counts with true weekdays. The simulated ones have what those lack: many weeks of office hours,
scheduled jobs, growth, and sudden changes.
"""

import csv
import gzip
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from exporter.core.forecast import BIN_SECONDS

TRACES = Path(os.environ.get("LLM_QUOTA_TRACES", "../shared/traces"))
STEP, DAY = 600, 144
PER_STEP = STEP // BIN_SECONDS
FOLDS = 5
MONDAY = 1_736_121_600.0


@dataclass
class Grid:
    """Series over the same time.

    Attributes:
        first: Unix seconds of the first step.
        names: of the series.
        bins: tokens per series and history bin.
        fold: the part of a cross-validation that each series belongs to.
    """

    first: float
    names: list[str]
    bins: np.ndarray
    fold: np.ndarray

    @property
    def usage(self) -> np.ndarray:
        """Tokens per series and step."""
        return self.bins.reshape(len(self.bins), -1, PER_STEP).sum(axis=2)

    def where(self, chosen: np.ndarray) -> "Grid":
        names = [self.names[number] for number in np.arange(len(self.names))[chosen]]
        return Grid(self.first, names, self.bins[chosen], self.fold[chosen])


def read(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return moments and tokens by series."""
    found: dict[str, list[tuple[int, float]]] = {}
    with gzip.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["provider"], []).append(
                (int(row["timestamp"]), float(row["tokens"]))
            )
    return found


def gridded(found: dict[str, list[tuple[int, float]]], fold: np.ndarray) -> Grid:
    """Lay series of about the same time on one grid that begins with a step."""
    first = min(at for rows in found.values() for at, _ in rows) // STEP * STEP
    last = max(at for rows in found.values() for at, _ in rows)
    names = sorted(found)
    steps = (last - first) // STEP + 1
    bins = np.zeros((len(names), steps * PER_STEP))
    for number, name in enumerate(names):
        for at, tokens in found[name]:
            bins[number, (at - first) // BIN_SECONDS] += tokens
    return Grid(float(first), names, bins, fold)


def servegen(rng: np.random.Generator) -> Grid:
    """Return the clients of the service, each in a random fifth."""
    found = read(TRACES / "servegen-train.csv.gz")
    fold = np.empty(len(found), int)
    fold[rng.permutation(len(found))] = np.arange(len(found)) % FOLDS
    return gridded(found, fold)


def weekly() -> list[Grid]:
    """Return the mentions, each in a fold of its own, and the rides, with the last of them."""
    found = read(TRACES / "weekly.csv.gz")
    mentions = {name: rows for name, rows in found.items() if name.startswith("tweets")}
    rides = {name: rows for name, rows in found.items() if name not in mentions}
    return [
        gridded(mentions, np.arange(len(mentions)) % FOLDS),
        gridded(rides, np.full(len(rides), FOLDS - 1)),
    ]


def scored(usage: np.ndarray) -> np.ndarray:
    """Return the clients that are scored: traffic on ten days, and in the first three."""
    whole = usage.shape[1] // DAY * DAY
    days = usage[:, :whole].reshape(len(usage), -1, DAY).sum(axis=2)
    return np.flatnonzero(((days > 0).sum(axis=1) >= 10) & (days[:, :3].sum(axis=1) > 0))


WEEKS = 8


def simulated(count: int, rng: np.random.Generator, real: np.ndarray | None = None) -> np.ndarray:
    """Return the usage per step over eight weeks from a Monday 0:00 of `count` simulated series.

    `real` has usage of clients per step, whose days are recombined for a part of them.
    """
    makers = [_office, _office, _job, _job, _steady, _steady, _agent, _growing, _growing, _hardly]
    series = np.zeros((count, WEEKS * 7 * DAY))
    for number in range(count):
        if real is not None and number % 4 == 0:
            made = _recombined(real[rng.integers(len(real))], rng)
        else:
            made = makers[rng.integers(len(makers))](rng)
            if rng.random() < 0.12:
                other = makers[rng.integers(len(makers))](rng)
                made = made / max(made.mean(), 1e-9) + rng.random() * other / max(
                    other.mean(), 1e-9
                )
        if rng.random() < 0.5:
            made = _changed(made, rng)
        if rng.random() < 0.5:
            made[: rng.integers(0, 6 * 7) * DAY + rng.integers(0, 2) * rng.integers(0, DAY)] = 0.0
        series[number] = made * np.exp(rng.normal(8, 2))
    return series


_STEPS = np.arange(WEEKS * 7 * DAY)
_DAY_OF, _HOUR_OF = _STEPS // DAY, _STEPS % DAY / 6


def _daily(rng: np.random.Generator, spread: float) -> np.ndarray:
    """A level for each day: noise and a slow wander."""
    days = WEEKS * 7
    wander = np.zeros(days)
    drift = rng.choice([0.0, 0.02, 0.08])
    for day in range(1, days):
        wander[day] = 0.9 * wander[day - 1] + rng.normal(0, drift)
    return np.exp(rng.normal(0, spread, days) + wander)[_DAY_OF]


def _week(rng: np.random.Generator) -> np.ndarray:
    """A factor for each day: weekends, and the odd holiday."""
    weekend = rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 0.5), 1.0])
    factor = np.append(rng.normal(1, rng.choice([0.0, 0.05, 0.2]), 5), [weekend, weekend])
    days = np.tile(np.maximum(factor, 0), WEEKS)
    days[rng.random(days.size) < rng.choice([0.0, 0.0, 0.02])] *= weekend
    return days[_DAY_OF]


def _noisy(rate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Requests of uneven size at a rate, many or few of them."""
    kind = rng.random()
    if kind < 0.35:
        return rate
    if kind < 0.5:
        return rate * np.exp(rng.normal(0, rng.uniform(0.02, 0.5), rate.size))
    a_day = np.exp(rng.uniform(np.log(8), np.log(5000)))
    number = rng.poisson(rate / max(rate.mean(), 1e-9) * a_day / DAY)
    shape = rng.uniform(0.3, 4)
    return np.where(number > 0, rng.gamma(np.maximum(number, 1) * shape) / shape, 0.0)


def _office(rng: np.random.Generator) -> np.ndarray:
    begin, end = rng.uniform(6, 11), rng.uniform(14, 22)
    steep = rng.uniform(0.05, 1.5)
    day = 1 / (1 + np.exp((begin - _HOUR_OF) / steep)) / (1 + np.exp((_HOUR_OF - end) / steep))
    if rng.random() < 0.5:
        day = np.where((begin <= _HOUR_OF) & (end > _HOUR_OF), 1.0, rng.choice([0, 0, 0.03, 0.2]))
    if rng.random() < 0.4:
        day = day * np.where(abs(_HOUR_OF - 12.5) < 0.5, rng.random(), 1.0)
    rate = day * _week(rng) * _daily(rng, rng.choice([0.0, 0.05, 0.15, 0.4]))
    shift = rng.integers(0, DAY) if rng.random() < 0.3 else 0
    return np.roll(_noisy(rate, rng), shift)


def _job(rng: np.random.Generator) -> np.ndarray:
    made = np.zeros(_STEPS.size)
    for _ in range(rng.integers(1, 4)):
        size = rng.choice([0.0, 0.0, 0.0, 0.02, 0.1, 0.4])
        length = rng.choice([1, 1, 2, 3, 6, 12, 24])
        begin = rng.integers(0, DAY)
        every = rng.choice([DAY, DAY, DAY, DAY, 6, 18, 36, 7 * DAY])
        days = rng.choice([7, 7, 5])
        amount = np.exp(rng.normal(0, 0.7))
        for start in range(begin if every >= DAY else begin % every, _STEPS.size, every):
            if start // DAY % 7 >= days or rng.random() < 0.003:
                continue
            late = rng.poisson(0.3) if size > 0.05 else 0
            part = slice(start + late, min(start + late + length, _STEPS.size))
            made[part] += amount / length * np.exp(rng.normal(0, size))
    return made


def _steady(rng: np.random.Generator) -> np.ndarray:
    return _noisy(_daily(rng, rng.choice([0.0, 0.0, 0.1, 0.3])), rng)


def _growing(rng: np.random.Generator) -> np.ndarray:
    rate = rng.uniform(-0.1, 0.15)
    period = rng.integers(7, 30)
    offset = rng.integers(0, period)
    smooth = _STEPS / DAY if rng.random() < 0.5 else _DAY_OF
    level = np.exp(rate * ((smooth + offset) % period)) * np.exp(
        rng.normal(0, 0.5, 60)[((_DAY_OF + offset) // period)]
    )
    base = rng.choice([_steady, _office, _office, _job])(rng)
    return base * level


def _agent(rng: np.random.Generator) -> np.ndarray:
    """Somebody who works with an agent now and then, heavily."""
    made = np.zeros(_STEPS.size)
    week = np.append(np.ones(5), np.full(2, rng.choice([0.1, 0.5, 1.0])))
    sessions = rng.uniform(0.3, 5)
    middle, wide = rng.uniform(10, 21), rng.uniform(1, 4)
    for day in range(WEEKS * 7):
        level = np.exp(rng.normal(0, 0.5))
        for _ in range(rng.poisson(sessions * week[day % 7])):
            begin = day * DAY + int(np.clip(rng.normal(middle, wide), 0, 23.9) * 6)
            length = 1 + int(rng.exponential(8))
            part = slice(begin, min(begin + length, _STEPS.size))
            rate = level * np.exp(rng.normal(0, 0.7))
            made[part] += rate * rng.gamma(0.7, size=part.stop - part.start)
    return made


def _hardly(rng: np.random.Generator) -> np.ndarray:
    """A few tries, days before it is used in earnest, if ever."""
    made = np.zeros(_STEPS.size)
    begin = rng.integers(0, 6 * 7 * DAY)
    for _ in range(rng.integers(1, 4)):
        made[begin + rng.integers(0, DAY // 2)] = np.exp(rng.normal(-7, 2))
    if rng.random() < 0.3:
        later = _office(rng) if rng.random() < 0.5 else _steady(rng)
        after = begin + rng.integers(DAY, 14 * DAY)
        made[after:] += later[after:] / max(later.mean(), 1e-9) / DAY
    return made


def _changed(made: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another level for some hours or days, or from some moment on."""
    made = made.copy()
    for _ in range(rng.choice([1, 3, 8])):
        begin = rng.integers(0, made.size)
        length = rng.choice([36, 72, DAY, 2 * DAY, 3 * DAY, made.size])
        factor = rng.choice([0.0, 0.0, 0.3, 2.0, 4.0, 10.0, 10.0]) * np.exp(rng.normal(0, 0.2))
        made[begin : begin + length] *= factor
    return made


def _recombined(client: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Days of a client in another order, under a week."""
    days = client.reshape(-1, DAY)
    first = np.flatnonzero(days.sum(axis=1) > 0)
    days = days[first[0] if first.size else 0 :]
    order = rng.integers(0, len(days), WEEKS * 7)
    made = days[order].ravel() * _week(rng) * _daily(rng, rng.choice([0.0, 0.1]))
    return made / max(made.mean(), 1e-9)
