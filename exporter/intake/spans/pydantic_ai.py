"""Pydantic AI: OpenTelemetry's names, with what a provider says beside them, and the cost.

https://ai.pydantic.dev/logfire, `pydantic_ai/models/instrumented.py`. The span of an agent has the
sum of its calls, under names of its own.
"""

from exporter.intake.spans import gen_ai
from exporter.intake.spans.convention import (
    NOT_INFERENCE,
    Attributes,
    Call,
    Convention,
    dollars,
    largest,
)

_SUMS = frozenset(f"gen_ai.aggregated_usage.{kind}" for kind in ("input_tokens", "output_tokens"))
_REASONING = ("gen_ai.usage.details.reasoning_tokens", *gen_ai.REASONING)
_COST = "operation.cost"


def read(found: Attributes) -> Call | str:
    """A call of a model."""
    if gen_ai.MARKS.isdisjoint(found):
        return NOT_INFERENCE
    call = gen_ai.read(found)
    if isinstance(call, str):
        return call
    written = call.tokens.output + call.tokens.reasoning
    reasoning = min(largest(found, _REASONING), written)
    tokens = call.tokens._replace(output=written - reasoning, reasoning=reasoning)
    return call._replace(tokens=tokens, cost_nano_usd=dollars(found, _COST))


CONVENTION = Convention(
    "Pydantic AI",
    gen_ai.MARKS | _SUMS,
    gen_ai.ATTRIBUTES | {*_REASONING, _COST},
    read,
    library="pydantic-ai",
)
