"""Prometheus' text formats for gauges and counters with plain names.

prometheus_client writes them too, and a test holds this to its bytes. But it validates every name
and escapes every label of every sample anew, and that was two thirds of a scrape of a thousand
providers.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString


def exposition(metrics: Iterable[Metric], *, openmetrics: bool) -> bytes:
    """The metrics as OpenMetrics, or else in Prometheus' older format."""
    lines = []
    for metric in metrics:
        text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
        name = metric.name
        if openmetrics:
            text = text.replace('"', r"\"")
        elif metric.type == "counter":
            name += "_total"
        lines.append(f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n")
        lines += _samples(metric.samples)
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _samples(samples: Iterable[Sample]) -> Iterator[str]:
    """The lines of samples; those of one metric nearly always have the same labels."""
    name, names, line = "", [""], ""
    known = {""}
    for sample in samples:
        labels = sample.labels
        if sample.name != name or labels.keys() != known:
            name, names, known = sample.name, sorted(labels), set(labels)
            pairs = ",".join(f'{label}="%s"' for label in names)
            line = f"{name}{{{pairs}}} %s\n" if pairs else f"{name} %s\n"
        values = [_escaped(labels[label]) for label in names]
        yield line % (*values, floatToGoString(sample.value))


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value
