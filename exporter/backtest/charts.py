"""What a backtest shows: calibration, the trade-off of alerts, and single windows."""

from datetime import UTC
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from exporter.backtest.replay import LOWER, MEDIAN, UPPER
from exporter.backtest.scores import Judge, Scores
from exporter.backtest.truth import Episode
from exporter.core.budget import BudgetUnit
from exporter.core.windows import Calendar
from exporter.plot.plot import Plot
from exporter.plot.ticks import round_ticks, short, time_ticks

SHARES = [(share / 5, f"{share * 20} %") for share in range(6)]


def calibration(scores: Scores) -> Markup:
    """What was said against how often it came true; a dot's area tells how often it was said."""
    plot = Plot("Calibration", (0, 1), (0, 1))
    plot.ticks(SHARES, SHARES, "probability that was said")
    plot.line([(0, 0), (1, 1)], "ideal")
    said, came, count = scores.calibration
    known = count > 0
    plot.line(zip(said[known].tolist(), came[known].tolist(), strict=True), "curve chosen")
    for x, y, number in zip(said[known], came[known], count[known], strict=True):
        plot.dot(x, y, 3 + 9 * float(np.sqrt(number / count.max())), "chosen soft")
    return plot.render()


class Point(NamedTuple):
    """A dot of the trade-off, for its legend.

    Attributes:
        kind: the class of its colour.
        name: the method, and its threshold where it has one.
        warned, false: shares of windows.
    """

    kind: str
    name: str
    warned: float
    false: float


def trade_off(scores: dict[str, Scores], method: str) -> tuple[Markup, list[Point]]:
    """Recall against false alarms, for every threshold of every method; and what its dots are."""
    legend = []
    drawn = [(at.false_share, at.recall) for one in scores.values() for at in one.alerts]
    widest = max((false for false, _ in drawn if not np.isnan(false)), default=0.0)
    plot = Plot("Recall against false alarms", (0, min(1.0, max(0.1, widest * 1.3))), (0, 1))
    plot.ticks(
        [(each, f"{each * 100:.3g} %") for each in round_ticks(plot.x[1])],
        SHARES,
        "good windows with an alert for nothing",
    )
    for rank, (name, one) in enumerate(scores.items()):
        kind = "chosen" if name == method else f"rule{rank % 4}"
        shown = one.trade_off[0] <= plot.x[1]  # not a number is not shown either
        plot.line(one.trade_off[:, shown].T.tolist(), f"curve {kind}")
        sure = one.is_certain
        for at in one.alerts[:1] if sure else one.alerts:
            if not np.isnan(at.false_share + at.recall):
                text = name if sure else f"{name}, p ≥ {at.threshold}"
                shape = f"{kind} hollow" if at is not one.alerts[0] else kind
                plot.dot(at.false_share, at.recall, 5, shape)
                legend.append(Point(shape, text, at.recall, at.false_share))
    return plot.render(), legend


def episode(judge: Judge, method: str, one: Episode, threshold: float) -> Markup:
    """One window: used, the projection as it was said, the budget, alert and exhaustion."""
    decisions = judge.decisions
    budget = decisions.cases[one.case].budget
    scale = budget.unit.scale
    steps = slice(one.first, one.end)
    times = decisions.times[steps]
    used = decisions.used[steps, one.case] / scale
    begin, end = float(times[0]), float(times[-1])
    points = list(zip(times.tolist(), used.tolist(), strict=True))
    if isinstance(budget.period, Calendar):
        end = budget.period.window(begin).end
        points.append((end, float(judge.truth.final[one.first, one.case]) / scale))
    lasting = judge.lasting(method, one)
    said = decisions.said[method][:, one.first : one.first + len(lasting), one.case]
    lower, median, upper = (said[which] / scale for which in (LOWER, MEDIAN, UPPER))
    allowed = budget.amount / scale
    top = 1.1 * max(
        allowed * 1.15, points[-1][1], *used, min(np.max(median, initial=0), 2 * allowed)
    )
    plot = Plot("One window", (begin, end), (0, float(top)), height=260)
    zone = budget.period.zone if isinstance(budget.period, Calendar) else UTC
    plot.ticks(
        time_ticks(begin, end, zone), [(each, short(each)) for each in round_ticks(float(top))]
    )
    ahead = times[: len(lasting)].tolist()
    if len(ahead) > 1:
        plot.band(ahead, lower.tolist(), upper.tolist())
        plot.line(zip(ahead, median.tolist(), strict=True), "median")
    plot.line(points, "used")
    mark = "$" if budget.unit is BudgetUnit.USD else ""
    plot.level(allowed, "budget", f"budget {mark}{short(allowed)}")
    fired = np.flatnonzero(lasting >= threshold)
    if len(fired):
        plot.moment(float(times[fired[0]]), "alert", "alert")
    if not np.isnan(one.moment):
        plot.moment(one.moment, "spent", "spent")
    return plot.render()
