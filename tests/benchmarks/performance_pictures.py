"""Draw the tables of `docs/performance.md` that have a number of providers in their first column.

    python -m tests.benchmarks.performance_pictures

Each picture stands below its table, so that what is drawn is what is written.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from exporter.plot.plot import Mark, Plot
from exporter.plot.ticks import round_ticks, short

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
COLOURS = ("#2456d6", "#c2372d", "#1f8a4c", "#8a5a00")
STYLE = """
svg { background: #fff; } text { font: 11px system-ui, "DejaVu Sans", sans-serif; fill: #1c2333; }
.middle { text-anchor: middle; } .end { text-anchor: end; } .grid { stroke: #d9deea; }
.axis { stroke: #98a2b3; } polyline { fill: none; stroke-width: 2; }
"""

Table = list[dict[str, str]]

_TABLE = re.compile(r"((?:^\|.*\n)+)\n!\[[^]]*\]\((\S+\.svg)\)", re.MULTILINE)


def tables(text: str) -> Iterator[tuple[Table, str]]:
    """The tables of a page that a picture stands below, and the names of the pictures."""
    for found in _TABLE.finditer(text):
        head, _, *rows = (
            [cell.strip() for cell in line.strip("|\n").split("|")]
            for line in found[1].splitlines()
        )
        yield [dict(zip(head, row, strict=True)) for row in rows], found[2]


def number(text: str) -> float:
    """A cell as a number."""
    return float(text.replace(",", ""))


def draw(table: Table, columns: list[str], title: str) -> str:
    """Curves of some columns over the logarithm of the first."""
    first = next(iter(table[0]))
    places = [math.log10(number(row[first])) for row in table]
    top = max(number(row[column]) for row in table for column in columns)
    plot = Plot(title, (places[0], places[-1]), (0, top * 1.35))  # the names stand above
    plot.ticks(
        [(place, row[first]) for place, row in zip(places, table, strict=True)],
        [(tick, short(tick)) for tick in round_ticks(top)],
        first,
    )
    style = STYLE
    for at, (column, colour) in enumerate(zip(columns, COLOURS, strict=False)):
        values = [number(row[column]) for row in table]
        plot.line(zip(places, values, strict=True), f"curve c{at}")
        place = (64.0, 26.0 + 15 * at)
        plot.labels.append(Mark("text", f"n{at}", [place], column))
        style += f".c{at} {{ stroke: {colour}; }} .n{at} {{ fill: {colour}; }}\n"
    drawn = str(plot.render()).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return drawn.replace("</title>", f"</title><style>{style}</style>", 1)


PICTURES = {
    "performance-questions.svg": (
        ["healthy CPU us", "availability CPU us", "provider CPU us", "exhausted CPU us"],
        "Processor time of a question",
    ),
    "performance-providers.svg": (
        ["first scrape ms", "scrape ms", "its CPU ms", "memory MiB"],
        "Scrapes and memory",
    ),
}


def pictures() -> dict[str, str]:
    """Name of each picture -> SVG."""
    return {name: draw(table, *PICTURES[name]) for table, name in tables(PAGE.read_text())}


def main() -> None:
    """Write them."""
    for name, drawn in pictures().items():
        (PAGE.parent / name).write_text(drawn)


if __name__ == "__main__":
    main()
