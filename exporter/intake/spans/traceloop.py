"""OpenLLMetry, by Traceloop: OpenTelemetry's names, and spans of frameworks that say so.

https://github.com/traceloop/openllmetry, package `opentelemetry-semantic-conventions-ai`.
"""

from exporter.intake.spans import gen_ai
from exporter.intake.spans.convention import NOT_INFERENCE, Attributes, Call, Convention

_PART_OF_A_FRAMEWORK = "traceloop.span.kind"
"""`workflow`, `task`, `agent` or `tool`: spans that repeat what the calls in them used."""


def read(found: Attributes) -> Call | str | None:
    """Nothing counts; a span without usage has nothing to say."""
    return NOT_INFERENCE if gen_ai.MARKS & found.keys() else None


CONVENTION = Convention(
    "OpenLLMetry", frozenset({_PART_OF_A_FRAMEWORK}), gen_ai.MARKS | gen_ai.ATTRIBUTES, read
)
