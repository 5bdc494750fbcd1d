"""The formats of pushes there are: routes, rights, counters and the description derive from this.

A new one is a file with a `FORMAT`, and a line here.
"""

from exporter.intake import (
    litellm,
    native,
    otlp_logs,
    otlp_metrics,
    otlp_traces,
    remote_write,
    webhook,
)
from exporter.intake.format import Format
from exporter.intake.signals import items

FORMATS: tuple[Format, ...] = (
    native.FORMAT,
    items.FORMAT,
    litellm.FORMAT,
    otlp_metrics.FORMAT,
    otlp_traces.FORMAT,
    otlp_logs.FORMAT,
    remote_write.FORMAT,
    webhook.FORMAT,
)
