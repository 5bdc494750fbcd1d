"""Prometheus' text formats for gauges and counters with plain names.

prometheus_client writes them too, and a test holds this to its bytes. But it validates every name
and escapes every label of every sample anew, and that was two thirds of a scrape of a thousand
providers.
"""

from collections.abc import Iterable

from prometheus_client import Metric
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
        lines += [
            f"{one.name}{_labels(one.labels)} {floatToGoString(one.value)}\n"
            for one in metric.samples
        ]
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = [f'{name}="{_escaped(value)}"' for name, value in sorted(labels.items())]
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value
