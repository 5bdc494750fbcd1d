"""The sources that a service may report by, and which says most; what has one source at a time."""

from collections.abc import Mapping
from typing import Literal

from exporter.intake.naming import undated

Source = Literal[
    "traces", "tool_events", "inference_events", "metrics", "inference_metrics", "tool_metrics"
]
"""Spans; the log events of tools like Claude Code, of each call; the log event of the conventions,
which repeats a span; `gen_ai.client.token.usage`; the newer inference counters; and the own metrics
of tools, which say more than what the tool reports in the general form."""

Prefer = Literal["complete", "metrics", "traces"]

_TOOLS = ("gemini-cli", "claude-code", "codex")
"""Beginnings of the `service.name` of tools whose own metrics and events do not tell the provider
that their others tell."""

EACH_CALL: frozenset[Source] = frozenset({"traces", "tool_events", "inference_events"})
"""Sources that report each call by itself."""

_METRICS: tuple[Source, ...] = ("metrics", "inference_metrics", "tool_metrics")
RISING: Mapping[Prefer, tuple[Source, ...]] = {
    # A tool's own words say most. Spans say more than general metrics: the kinds, the request,
    # the cost, and calls that some libraries have no metrics of.
    "complete": (
        "inference_events",
        "metrics",
        "inference_metrics",
        "traces",
        "tool_metrics",
        "tool_events",
    ),
    "metrics": ("inference_events", "traces", *_METRICS, "tool_events"),
    "traces": ("inference_events", *_METRICS, "tool_events", "traces"),
}
"""What is preferred -> sources, those that say more later."""


Keys = tuple[str, ...]
"""Names of one thing that has one source at a time: the first that is known stands for all."""


def keys(service: str, provider: str, *models: str) -> Keys:
    """What has one source at a time: a service may report one model by metrics, one by spans.

    A model may have several names, what was asked for and what answered: metrics often tell only
    one of them. The last key is what earlier versions knew.
    """
    if service.rpartition("/")[2].startswith(_TOOLS):
        return (service,)
    own = dict.fromkeys(undated(model) for model in models if model)
    return (*(f"{service} {provider} {model}" for model in own), f"{service} {provider}")


def is_tool(services: Keys) -> bool:
    """Whether it is a tool with events and metrics of its own."""
    return services[0].rpartition("/")[2].startswith(_TOOLS)
