"""OpenTelemetry's conventions for generative AI, today's names and those before them.

https://github.com/open-telemetry/semantic-conventions-genai. The cached tokens are part of the
input there; some reporters put them beside it.
"""

from exporter.core.usage import Tokens
from exporter.intake.spans.convention import (
    NOT_INFERENCE,
    Attributes,
    Call,
    Convention,
    dollars,
    largest,
    text,
)
from exporter.intake.usage_object import disjoint

OPERATIONS = frozenset(
    {"chat", "text_completion", "generate_content", "embeddings"}
    | {"completion", "embedding", "responses", "messages"}  # before they had names, or beside them
)
"""Calls of a model. Other spans (agents, workflows, tools) repeat the sum of those inside."""

PROVIDER = ("gen_ai.provider.name", "gen_ai.system")
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
OPERATION = ("gen_ai.operation.name", "llm.request.type")
COST = ("gen_ai.usage.cost",)

PROMPT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
)
CACHE_READ = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
CACHE_WRITE = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
)
REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens",
)
TOTAL = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")

MARKS = frozenset({*PROMPT, *OUTPUT, *TOTAL})
ATTRIBUTES = frozenset(
    {*PROVIDER, *OPERATION, *COST, *CACHE_READ, *CACHE_WRITE, *REASONING}
    | {REQUEST_MODEL, RESPONSE_MODEL, RESPONSE_ID}
)


def read(found: Attributes, *, cache_beside: bool = False) -> Call | str:
    """Whatever names it uses; `cache_beside` says that the input excludes cached tokens."""
    operation = text(found, *OPERATION)
    if operation and operation not in OPERATIONS:
        return NOT_INFERENCE
    return call(found, cache_beside=cache_beside)


def call(found: Attributes, *, cache_beside: bool = False) -> Call:
    """The call, whatever the operation."""
    return Call(
        text(found, *PROVIDER),
        text(found, REQUEST_MODEL),
        _tokens(found, cache_beside),
        text(found, RESPONSE_MODEL),
        text(found, RESPONSE_ID),
        dollars(found, *COST),
    )


def _tokens(found: Attributes, beside: bool) -> Tokens:
    """Cached tokens beside the input show where the parts are larger than the whole, or where
    only that adds up to the total."""
    prompt, output = largest(found, PROMPT), largest(found, OUTPUT)
    cache_read, cache_write = largest(found, CACHE_READ), largest(found, CACHE_WRITE)
    total = largest(found, TOTAL)
    cached = cache_read + cache_write
    if beside or cached > prompt or (cached and total == prompt + cached + output):
        prompt += cached
    return disjoint(
        prompt,
        output,
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=largest(found, REASONING),
        total=total,
    )


CONVENTION = Convention("OpenTelemetry GenAI", MARKS, ATTRIBUTES, read)
