"""Prometheus' text formats for gauges, counters and histograms with plain names.

prometheus_client writes them too, and a test holds this to its bytes. But it makes an object of
every sample, validates every name and escapes every label anew, and that was most of a scrape of a
thousand providers. Here a scrape costs what changed since the last one.
"""

from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple

from prometheus_client.utils import floatToGoString

from exporter.core.histogram import Distribution

PREFIX = "llm_quota_"

_COUNT, _SUM = "_count", "_sum"

Labels = tuple[str, ...]
"""The values of a series' labels, in the order of their names."""


class Family:
    """A metric with all its series.

    Attributes:
        kind: `gauge`, `counter` or `histogram`.
        name: of the metric; of a counter without the `_total` of its samples.
        text: what it means.
        labels: the names of its labels.
        optional: those of them, the last ones, that a series has only where they have a value.
        samples: the value of every series; see `Family.add` for those of a histogram.
    """

    __slots__ = ("kind", "labels", "name", "optional", "samples", "text")

    def __init__(
        self, kind: str, name: str, text: str, *labels: str, optional: tuple[str, ...] = ()
    ) -> None:
        self.kind, self.name, self.text = kind, name, text
        self.labels, self.optional = (*labels, *optional), frozenset(optional)
        self.samples: dict[Labels, float] = {}

    def add(self, labels: Labels, found: Distribution) -> None:
        """The series of a histogram under these labels.

        In `samples` the labels of each are followed by the bound of its bucket, or by `_count` or
        `_sum`.
        """
        count = 0
        for bound, observed in zip((*found.bounds, inf), found.counts, strict=True):
            count += observed
            self.samples[*labels, floatToGoString(bound)] = count
        self.samples[*labels, _COUNT] = count
        self.samples[*labels, _SUM] = found.total


def gauge(name: str, text: str, *labels: str, optional: tuple[str, ...] = ()) -> Family:
    """A gauge of ours."""
    return Family("gauge", PREFIX + name, text, *labels, optional=optional)


def counter(name: str, text: str, *labels: str, optional: tuple[str, ...] = ()) -> Family:
    """A counter of ours; its samples end in `_total`, `name` does not."""
    return Family("counter", PREFIX + name, text, *labels, optional=optional)


def histogram(name: str, text: str, *labels: str) -> Family:
    """A histogram of ours."""
    return Family("histogram", PREFIX + name, text, *labels)


class _Written(NamedTuple):
    """The samples of a family as they were last written; `lines` lacks the values."""

    series: list[Labels]
    lines: str
    values: list[float]
    texts: list[str]


class Exposition:
    """Writes families, each time with the lines and numbers of the last time where these hold.

    A zero stays as it was first written, with its sign or without. May be used by several threads
    at once.
    """

    def __init__(self) -> None:
        self._written: dict[tuple[str, ...], _Written] = {}

    def write(self, families: Iterable[Family], *, openmetrics: bool) -> bytes:
        """The families as OpenMetrics, or else in Prometheus' older format."""
        parts = []
        for family in families:
            text = family.text.replace("\\", r"\\").replace("\n", r"\n")
            name = family.name
            if openmetrics:
                text = text.replace('"', r"\"")
            elif family.kind == "counter":
                name += "_total"
            parts.append(f"# HELP {name} {text}\n# TYPE {name} {family.kind}\n")
            parts.append(self._samples(family))
        if openmetrics:
            parts.append("# EOF\n")
        return "".join(parts).encode()

    def _samples(self, family: Family) -> str:
        series, values = list(family.samples), list(family.samples.values())
        key = (family.kind, family.name, *family.labels)
        last = self._written.get(key)
        if last is None or series != last.series:
            last = _Written(series, _lines(family), values, list(map(floatToGoString, values)))
        elif values != last.values:
            texts = [
                text if value == before else floatToGoString(value)
                for value, before, text in zip(values, last.values, last.texts, strict=True)
            ]
            last = last._replace(values=values, texts=texts)
        self._written[key] = last
        return last.lines % tuple(last.texts)


def _lines(family: Family) -> str:
    """A line for every series, with %s for its value."""
    if family.kind == "histogram":
        bucket = _line(family.name + "_bucket", (*family.labels, "le"))
        others = {end: _line(family.name + end, family.labels) for end in (_COUNT, _SUM)}
        lines = []
        for labels in family.samples:
            other = others.get(labels[-1])
            lines.append(bucket(labels) if other is None else other(labels[:-1]))
        return "".join(lines)
    name = family.name + "_total" * (family.kind == "counter")
    if family.optional:
        return "".join([_partial_line(name, family, labels) for labels in family.samples])
    return "".join(map(_line(name, family.labels), family.samples))


def _partial_line(name: str, family: Family, labels: Labels) -> str:
    """The line of a series without its optional labels that have no value."""
    pairs = [
        (label, value)
        for label, value in zip(family.labels, labels, strict=True)
        if value or label not in family.optional
    ]
    return _line(name, tuple(label for label, _ in pairs))(tuple(value for _, value in pairs))


def _line(name: str, names: Labels) -> Callable[[Labels], str]:
    """Writes the line of a series from the values of its labels."""
    order = sorted(range(len(names)), key=names.__getitem__)
    pairs = ",".join(f'{names[at]}="%s"' for at in order)
    line = f"{name}{{{pairs}}} %%s\n" if pairs else f"{name} %%s\n"
    return lambda labels: line % tuple([_escaped(labels[at]) for at in order])


def _escaped(value: str) -> str:
    """A label's value as it is written, and kept from being taken for a place of a value."""
    if "\\" in value or '"' in value or "\n" in value:
        value = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value.replace("%", "%%")
