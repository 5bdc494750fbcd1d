"""Decisions about past usage, taken by the code that serves `/metrics`, in the order of time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exporter.backtest.usage import Rows
from exporter.config import Config
from exporter.core.budget import Budget, Method, Quota
from exporter.core.forecast import Cases, Forecast, Profile, linear, predict_linear
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.measurement import Measurement
from exporter.core.quota_index import Terms
from exporter.core.series import Series
from exporter.core.slots import COARSE_SECONDS, FINE_SECONDS, Increments, add
from exporter.core.windows import Period

Floats = NDArray[np.float64]
Said = NDArray[np.float32]

RULES = {
    "linear": None,
    "predict_linear_1h": 3600.0,
    "predict_linear_6h": 6 * 3600.0,
}
"""The customary rules every backtest is compared with; seconds that PromQL would look back."""

PROBABILITY, LOWER, MEDIAN, UPPER, WAIT = range(5)
"""Columns of what was said; WAIT is seconds until the exhaustion that is expected."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """Everything said, by step and case.

    Attributes:
        times: Unix seconds of every step.
        until: when the usage ends; a window that ends later is incomplete.
        cases: the quota of every case.
        counted: of every case the series that count towards it, and what their counts add.
        used: what is used in the running window, a row per step and a column per case; like all
            amounts in what the budget counts (USD in nano-dollars).
        said: method -> what was said, by column (see `PROBABILITY`), step and case.
    """

    times: Floats
    until: float
    cases: list[Quota]
    counted: list[list[tuple[Series, Terms]]]
    used: Floats
    said: dict[str, Said]

    def periods(self) -> dict[Period, list[int]]:
        """Return the cases of every period."""
        found: dict[Period, list[int]] = {}
        for index, quota in enumerate(self.cases):
            found.setdefault(quota.budget.period, []).append(index)
        return found


def steps(usage: Mapping[Series, Rows], every: float) -> tuple[Floats, float]:
    """Return when decisions are taken, and when the usage ends: at the step after the last row."""
    first = min(rows.timestamps[0] for rows in usage.values())
    last = max(rows.timestamps[-1] for rows in usage.values())
    until = (last // every + 1) * every
    return np.arange(-(-first // every), until / every) * every, until


def replay(
    usage: Mapping[Series, Rows],
    config: Config,
    method: str,
    times: Floats,
    until: float,
    progress: Callable[[int], None],
) -> Decisions:
    """Take a decision for every quota at each of `times`, as it could be known then."""
    shown = Method(method) if method in list(Method) else Method.LINEAR
    budgets = {
        name: [_projected(budget, shown) for budget in those]
        for name, those in config.budgets.items()
    }
    ledger = Ledger(budgets, config.retention, times[0])
    counted = _counted(ledger, usage)
    cases = list(ledger.index.quotas)
    meter = BudgetMeter(ledger)
    rules = _Rules(ledger)
    measures = [method] if method in list(Method) else []
    used = np.zeros((len(times), len(cases)))
    shape = (5, len(times), len(cases))
    said = {name: np.zeros(shape, np.float32) for name in dict.fromkeys([*measures, *RULES])}
    feed = _Feed(usage, times)
    for step, now in enumerate(times.tolist()):
        ledger.advance(now)
        ledger.add(feed.before(step))
        measured = meter.measure(now)
        used[step] = [one.used for one in measured]
        for name, forecast in rules.say(measured, now):
            said[name][:, step] = (
                forecast.probability,
                forecast.lower,
                forecast.median,
                forecast.upper,
                forecast.exhaustion_at - now,
            )
        for name in measures:
            said[name][:, step] = _columns(measured, now)
        progress(step + 1)
    return Decisions(times, until, cases, counted, used, said)


def _counted(ledger: Ledger, usage: Iterable[Series]) -> list[list[tuple[Series, Terms]]]:
    """Let every quota come up that `usage` has; return what counts towards each."""
    on_row: dict[int, list[tuple[Series, Terms]]] = {}
    for series in usage:
        for row, terms in ledger.members(series):
            on_row.setdefault(row, []).append((series, terms))
    return [on_row.get(row, []) for row in ledger.index.rows]


def _projected(budget: Budget, method: Method) -> Budget:
    return replace(budget, prediction=replace(budget.prediction, method=method))


def _columns(measured: Sequence[Measurement], now: float) -> Floats:
    columns = [
        (one.probability, one.lower, one.median, one.upper, one.exhaustion_at) for one in measured
    ]
    values = np.array(columns, np.float64).T  # None becomes nan
    values[WAIT] -= now
    return values


class _Feed:
    """All usage in the order of time."""

    def __init__(self, usage: Mapping[Series, Rows], times: Floats) -> None:
        moments = np.concatenate([rows.timestamps for rows in usage.values()])
        order = np.argsort(moments, kind="stable")
        self._slots = (moments[order] // FINE_SECONDS).astype(np.int64)
        self._counts = np.concatenate([rows.counts for rows in usage.values()])[order]
        sizes = [len(rows.timestamps) for rows in usage.values()]
        self._which = np.repeat(np.arange(len(sizes)), sizes)[order]
        self._series = list(usage)
        self._ends = [0, *np.searchsorted(moments[order], times, side="left").tolist()]

    def before(self, step: int) -> Increments:
        """Return what was used since the step before, strictly before this one."""
        part = slice(self._ends[step], self._ends[step + 1])
        found: Increments = {}
        for which, slot, counts in zip(
            self._which[part].tolist(),
            self._slots[part].tolist(),
            self._counts[part].tolist(),
            strict=True,
        ):
            add(found, (self._series[which], slot), counts)
        return found


class _Rules:
    """What the customary rules say of the windows that were measured."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows = np.array(ledger.index.rows)
        budgets = [quota.budget for quota in ledger.index.quotas]
        self._spent_at = np.array([budget.spent_at for budget in budgets])
        self._rolling = np.array([budget.period.rolling for budget in budgets], bool)

    def say(self, measured: Sequence[Measurement], now: float) -> list[tuple[str, Forecast]]:
        windows = np.array([one.window for one in measured])
        start, end = windows[:, 0], windows[:, 1]
        cases = Cases(
            series=self._rows,
            start=start,
            end=np.where(self._rolling, 2 * now - start, end),
            used=np.array([one.used for one in measured]),
            budget=self._spent_at,
            rolling=self._rolling,
            utc_offset=np.zeros(len(measured)),
        )
        edges, origin, since = self._ledger.history()
        settled = int((now - origin) // COARSE_SECONDS)
        profile = Profile(origin, edges[:, : settled + 1], since)
        recent = np.diff(edges[:, settled : settled + 2], axis=1)
        return [
            (
                name,
                linear(now, cases)
                if span is None
                else predict_linear(profile, recent, now, cases, span),
            )
            for name, span in RULES.items()
        ]
