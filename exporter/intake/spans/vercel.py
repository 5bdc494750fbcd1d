"""Vercel's AI SDK: `ai.*`, with a span around the one of each call.

https://ai-sdk.dev/docs/ai-sdk-core/telemetry. `ai.generateText` repeats what the
`ai.generateText.doGenerate` in it used.
"""

from exporter.core.usage import Tokens
from exporter.intake.spans import gen_ai
from exporter.intake.spans.convention import (
    NOT_INFERENCE,
    Attributes,
    Call,
    Convention,
    largest,
    text,
)
from exporter.intake.usage_object import disjoint

_OPERATION = "ai.operationId"
_CALLS = ("doGenerate", "doStream", "doEmbed")

_PROVIDER = ("ai.model.provider", *gen_ai.PROVIDER)
_MODEL = ("ai.model.id", gen_ai.REQUEST_MODEL)
_ANSWERED = ("ai.response.model", gen_ai.RESPONSE_MODEL)
_ID = ("ai.response.id", gen_ai.RESPONSE_ID)

_INPUT = ("ai.usage.inputTokens", "ai.usage.promptTokens", *gen_ai.PROMPT)
_OUTPUT = ("ai.usage.outputTokens", "ai.usage.completionTokens", *gen_ai.OUTPUT)
_TOTAL = ("ai.usage.totalTokens", *gen_ai.TOTAL)
_EMBEDDED = ("ai.usage.tokens",)
_CACHE_READ = (
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "ai.usage.cachedInputTokens",
    *gen_ai.CACHE_READ,
)
_CACHE_WRITE = ("ai.usage.inputTokenDetails.cacheWriteTokens", *gen_ai.CACHE_WRITE)
_REASONING = (
    "ai.usage.outputTokenDetails.reasoningTokens",
    "ai.usage.reasoningTokens",
    *gen_ai.REASONING,
)
_USAGE = frozenset({*_INPUT, *_OUTPUT, *_TOTAL, *_EMBEDDED})


def read(found: Attributes) -> Call | str | None:
    """The innermost span of a call."""
    if not _USAGE & found.keys():
        return None
    if text(found, _OPERATION).rpartition(".")[2] not in _CALLS:
        return NOT_INFERENCE
    return Call(
        text(found, *_PROVIDER),
        text(found, *_MODEL),
        _tokens(found),
        text(found, *_ANSWERED),
        text(found, *_ID),
    )


def _tokens(found: Attributes) -> Tokens:
    """Before version 5 the input of Anthropic's models came without its cached tokens, and with
    their number apart; there the parts can be larger than the whole."""
    prompt = largest(found, _INPUT) + largest(found, _EMBEDDED)
    cache_read, cache_write = largest(found, _CACHE_READ), largest(found, _CACHE_WRITE)
    if cache_read + cache_write > prompt:
        prompt += cache_read + cache_write
    return disjoint(
        prompt,
        largest(found, _OUTPUT),
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=largest(found, _REASONING),
        total=largest(found, _TOTAL),
    )


CONVENTION = Convention(
    "Vercel AI SDK",
    marks=frozenset({_OPERATION}),
    attributes=_USAGE
    | {*_PROVIDER, *_MODEL, *_ANSWERED, *_ID, *_CACHE_READ, *_CACHE_WRITE, *_REASONING},
    read=read,
)
