"""A chart as inline SVG: an x and a y scale, and marks between them. Colours are in `plot.css`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup

from exporter.templates import environment

LEFT, RIGHT, TOP, BOTTOM = 52.0, 24.0, 14.0, 38.0
"""Room around the plotting area, in units of the drawing."""

NOTE_HEIGHT, NOTE_LETTER = 14.0, 6.8
"""Room that a line of a note, and a letter of it, takes."""

Scale = tuple[float, float]
Point = tuple[float, float]

_TEMPLATE = environment(__package__).get_template("plot.svg")


class Mark(NamedTuple):
    """One thing that is drawn.

    Attributes:
        tag: the SVG element.
        kind: its classes.
        points: where it is: of a line its ends, of a text and a dot its place.
        text: what is written.
        radius: of a dot.
    """

    tag: str
    kind: str
    points: Sequence[Point]
    text: str = ""
    radius: float = 0.0


@dataclass(slots=True)
class Plot:
    """A drawing under construction.

    Attributes:
        title: what it shows, for those who do not see it.
        x, y: the lowest and the highest value shown.
    """

    title: str
    x: Scale
    y: Scale
    width: float = 520.0
    height: float = 320.0
    marks: list[Mark] = field(default_factory=list)
    labels: list[Mark] = field(default_factory=list)  # over all other marks
    notes: list[tuple[float, float, float]] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """Where a point is drawn; what lies outside is drawn on the edge."""
        return (
            LEFT + part(x, self.x) * (self.width - LEFT - RIGHT),
            self.height - BOTTOM - part(y, self.y) * (self.height - TOP - BOTTOM),
        )

    def ticks(
        self, x: Iterable[tuple[float, str]], y: Iterable[tuple[float, str]], label: str = ""
    ) -> None:
        """Draw labelled grid lines, and what the x axis is."""
        for value, text in y:
            left, level = self.at(self.x[0], value)
            self._line((left, level), self.at(self.x[1], value), "grid")
            self._text(left - 8, level + 4, text, "tick end")
        for value, text in x:
            place, bottom = self.at(value, self.y[0])
            self._line((place, bottom), (place, bottom + 4), "axis")
            self._text(place, bottom + 17, text, "tick middle")
        self._line(self.at(self.x[0], self.y[0]), self.at(self.x[1], self.y[0]), "axis")
        if label:
            middle = (LEFT + self.width - RIGHT) / 2
            self._text(middle, self.height - 4, label, "label middle")

    def line(self, points: Iterable[Point], kind: str) -> None:
        """Join points."""
        self.marks.append(Mark("polyline", kind, [self.at(*point) for point in points]))

    def band(
        self, x: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str = "band"
    ) -> None:
        """Fill what lies between two lines."""
        around = [*zip(x, low, strict=True), *reversed(list(zip(x, high, strict=True)))]
        self.marks.append(Mark("polygon", kind, [self.at(*point) for point in around]))

    def level(self, y: float, kind: str, text: str) -> None:
        """Draw a labelled line across."""
        left, height = self.at(self.x[0], y)
        self._line((left, height), self.at(self.x[1], y), kind)
        self._note(left + 6, height - 5, text, kind, "start")

    def moment(self, x: float, kind: str, text: str) -> None:
        """Draw a labelled line upward."""
        place, top = self.at(x, self.y[1])
        self._line((place, top), self.at(x, self.y[0]), kind)
        right = place > self.width * 0.6
        shift, anchor = (-5, "end") if right else (5, "start")
        self._note(place + shift, top + 11, text, kind, anchor)

    def dot(self, x: float, y: float, radius: float, kind: str) -> None:
        """Draw a dot."""
        self.marks.append(Mark("circle", kind, [self.at(x, y)], radius=radius))

    def render(self) -> Markup:
        """Return the drawing."""
        return Markup(_TEMPLATE.render(plot=self))  # noqa: S704 - the template escaped it

    def _line(self, begin: Point, end: Point, kind: str) -> None:
        self.marks.append(Mark("line", kind, (begin, end)))

    def _note(self, x: float, y: float, text: str, kind: str, anchor: str) -> None:
        """Write where no other note stands: there, or as near below or above as there is room."""
        width = NOTE_LETTER * len(text)
        left = x - width if anchor == "end" else x
        for step in range(40):
            moved = y + (step + 1) // 2 * NOTE_HEIGHT * (1 if step % 2 else -1)
            inside = TOP <= moved <= self.height - BOTTOM
            if inside and all(
                abs(moved - line) >= NOTE_HEIGHT
                or left >= end + NOTE_LETTER
                or left + width + NOTE_LETTER <= begin
                for begin, end, line in self.notes
            ):
                y = moved
                break
        self.notes.append((left, left + width, y))
        self.labels.append(Mark("text", f"note {kind} {anchor}", [(x, y)], text))

    def _text(self, x: float, y: float, text: str, kind: str) -> None:
        self.marks.append(Mark("text", kind, [(x, y)], text))


def part(value: float, scale: Scale) -> float:
    """Where a value lies on a scale: 0 to 1; what lies outside is put on the edge."""
    low, high = scale
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0
