"""The course of a budget's window: used so far, the usual, what is projected, the budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from exporter.core.budget import BudgetUnit
from exporter.core.forecast import Explanation
from exporter.core.measurement import Measurement
from exporter.core.windows import Calendar
from exporter.plot.plot import Plot, part
from exporter.plot.ticks import round_ticks, short, time_ticks

WIDTH, HEIGHT = 120, 32
"""Of a small curve, in units of the drawing."""


@dataclass(frozen=True, slots=True)
class Course:
    """What is drawn, small or large: points are (Unix seconds, amount).

    Attributes:
        begin, end: of the moments shown.
        top: the highest amount shown.
        used, usual: lines.
        projected: from now on, the lower and the upper end of what is projected.
        median: from now to the projected use.
        budget: the amount that is allowed.
    """

    begin: float
    end: float
    top: float
    used: Sequence[tuple[float, float]]
    usual: Sequence[tuple[float, float]]
    projected: Sequence[tuple[float, float]]
    median: Sequence[tuple[float, float]]
    budget: float


def course(one: Measurement, explained: Explanation | None, now: float) -> Course:
    """The course of a budget at `now`; without an explanation only what is projected."""
    begin, end = one.window
    if one.budget.period.rolling:
        end = now + (end - begin)
    budget = float(one.budget.amount)
    used: list[tuple[float, float]] = []
    usual: list[tuple[float, float]] = []
    if explained is not None and explained.moments:
        past = [at for at in explained.moments if at <= now]
        used = list(zip(past, explained.used, strict=False))
        usual = list(zip(explained.moments, explained.usual, strict=False))
    used.append((now, one.used))
    # What lies far beyond the budget would press the rest into a corner.
    most = max(budget * 2, one.used * 1.5)
    shown = [budget * 1.15, *(min(amount, most) * 1.05 for amount in (one.used, one.median))]
    shown += [min(amount, most) * 1.05 for _, amount in usual]
    return Course(
        begin,
        end,
        max(shown),
        used,
        usual,
        projected=[(now, one.used), (end, one.upper), (end, one.lower)],
        median=[(now, one.used), (end, one.median)],
        budget=budget,
    )


def small(shown: Course) -> dict[str, str]:
    """The points of a small drawing by what they show, as SVG wants them; empty for nothing."""

    def points(line: Sequence[tuple[float, float]]) -> str:
        return " ".join(
            f"{part(x, (shown.begin, shown.end)) * WIDTH:.0f},"
            f"{HEIGHT - part(y, (0.0, shown.top)) * HEIGHT:.1f}"
            for x, y in line
        )

    lines = ("used", "usual", "projected", "median")
    found = {name: points(getattr(shown, name)) for name in lines}
    found["budget"] = f"{HEIGHT - part(shown.budget, (0.0, shown.top)) * HEIGHT:.1f}"
    return found


def large(one: Measurement, shown: Course, now: float, title: str) -> Markup:
    """A chart with axes; moments as the budget's own clocks show them."""
    unit = one.budget.unit
    scale = 0.01 if unit is BudgetUnit.SHARE else unit.scale
    mark = {BudgetUnit.USD: "${}", BudgetUnit.SHARE: "{} %"}.get(unit, "{}")
    plot = Plot(title, (shown.begin, shown.end), (0.0, shown.top), width=640.0, height=260.0)
    ticks = [(each * scale, mark.format(short(each))) for each in round_ticks(shown.top / scale)]
    period = one.budget.period
    zone = period.zone if isinstance(period, Calendar) else None
    moments = time_ticks(shown.begin, shown.end, *([zone] if zone else []))
    plot.ticks(moments, ticks)
    (_, _), (_, upper), (_, lower) = shown.projected
    plot.band([now, shown.end], [one.used, lower], [one.used, upper])
    plot.line(shown.usual, "usual")
    plot.line(shown.median, "median")
    plot.line(shown.used, "used")
    plot.level(shown.budget, "budget", f"budget {mark.format(short(shown.budget / scale))}")
    plot.moment(now, "now", "now")
    if one.exhaustion_at is not None and now < one.exhaustion_at <= shown.end:
        plot.moment(one.exhaustion_at, "spent", "runs out")
    return plot.render()
