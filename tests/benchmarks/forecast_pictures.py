"""Draw what is said of each shape that a person would judge at a glance: `docs/forecasting.svg`.

    python -m tests.benchmarks.forecast_pictures [--output docs/forecasting.svg]

Of each: the use of the window so far and of the time before it as a line, the budget, now, and the
projection for the window's end with its 10-90 % band. It prints the table of the documentation.
"""

import argparse
from html import escape
from pathlib import Path
from textwrap import wrap

import numpy as np

from tests.core.forecast_shapes import BIN_SECONDS, DAY, SHAPES, Shape, place

COLUMNS = 4
WIDTH, HEIGHT, GAP = 250, 150, 14
TOP, BOTTOM = 40, 8
STYLE = """
text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #1c2333; }
.page { fill: #fff; } .panel { fill: #f6f7fb; } .used { fill: none; stroke: #1c2333;
  stroke-width: 1.5; } .before { fill: none; stroke: #98a2b3; } .budget { stroke: #c2372d; }
.now { stroke: #98a2b3; stroke-dasharray: 2 3; } .band { stroke: #2456d6; stroke-width: 6;
  stroke-opacity: 0.35; } .median { fill: #2456d6; } .p { font-weight: 700; fill: #2456d6; }
@media (prefers-color-scheme: dark) { text { fill: #e6e9f0; } .page { fill: #0f141d; }
  .panel { fill: #1a2130; } .used { stroke: #e6e9f0; } .median, .p { fill: #7ea2ff; }
  .band { stroke: #7ea2ff; } .budget { stroke: #ff8a80; } }
"""


def panel(shape: Shape, left: float, top: float) -> tuple[str, str]:
    """Return the drawing of one shape, and its row in the table."""
    said = shape.said()
    case = shape.case(shape.now)
    start, end = float(case.start[0]), float(case.end[0])
    length = (end - start) / 2 if case.rolling[0] else end - start
    moments = np.linspace(max(start - length, start - 7 * DAY), shape.now, 160)
    bins = [place(moment) for moment in moments.tolist()]
    sums = np.concatenate([[0.0], shape.bins.cumsum()])
    if case.rolling[0]:
        size = int(length / BIN_SECONDS)
        course = np.array([sums[at] - sums[at - size] for at in bins])
    else:
        begins = [place(start - np.ceil(max(start - at, 0) / length) * length) for at in moments]
        course = np.array([sums[at] - sums[begin] for at, begin in zip(bins, begins, strict=True)])
    highest = 1.15 * max(shape.budget, float(course.max()), min(said.upper[0], 2 * shape.budget))
    first, last = moments[0], end

    def x(moment: float) -> float:
        return left + 6 + (moment - first) / (last - first) * (WIDTH - 18)

    def y(tokens: float) -> float:
        room = HEIGHT - TOP - BOTTOM
        return top + HEIGHT - BOTTOM - min(tokens / highest, 1.0) * room

    def path(which: np.ndarray, kind: str) -> str:
        points = " ".join(
            f"{x(at):.1f},{y(tokens):.1f}"
            for at, tokens in zip(moments[which], course[which], strict=True)
        )
        return f'<polyline class="{kind}" points="{points}"/>'

    probability = float(said.probability[0])
    budget, now, right = y(shape.budget), x(shape.now), x(last)
    lower, median, upper = (y(float(each[0])) for each in (said.lower, said.median, said.upper))
    title = wrap(shape.name, 33)[:2]
    drawn = [
        f'<rect class="panel" x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        *(
            f'<text x="{left + 8}" y="{top + 15 + 13 * line}">{escape(text)}</text>'
            for line, text in enumerate(title)
        ),
        path(moments <= max(start, first), "before"),
        path(moments >= start, "used"),
        f'<line class="budget" x1="{left + 6}" x2="{right}" y1="{budget:.1f}" y2="{budget:.1f}"/>',
        f'<line class="now" x1="{now:.1f}" x2="{now:.1f}" y1="{top + TOP}" '
        f'y2="{top + HEIGHT - BOTTOM}"/>',
        f'<line class="band" x1="{right}" x2="{right}" y1="{lower:.1f}" y2="{upper:.1f}"/>',
        f'<circle class="median" cx="{right}" cy="{median:.1f}" r="3"/>',
        f'<text class="p" x="{left + WIDTH - 8}" y="{top + 15}" text-anchor="end">'
        f"{probability:.1%}</text>",
    ]
    wanted = f"at most {shape.high:.0%}" if shape.low == 0 else f"at least {shape.low:.0%}"
    row = f"| {shape.name} | {shape.window} | {wanted} | {probability:.1%} |"
    return "".join(drawn), row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/forecasting.svg"))
    options = parser.parse_args()
    drawn = []
    print("| shape | window | a person would accept | said |\n|---|---|---|---|")
    for number, shape in enumerate(SHAPES):
        row, column = divmod(number, COLUMNS)
        picture, line = panel(shape, GAP + column * (WIDTH + GAP), GAP + row * (HEIGHT + GAP))
        drawn.append(picture)
        print(line)
    rows = -(-len(SHAPES) // COLUMNS)
    width, height = GAP + COLUMNS * (WIDTH + GAP), GAP + rows * (HEIGHT + GAP)
    options.output.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>Shapes of use and what is forecast of them</title><style>{STYLE}</style>"
        f'<rect class="page" width="{width}" height="{height}"/>{"".join(drawn)}</svg>\n',
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
