"""OpenInference, by Arize: what Phoenix and many instrumentations of frameworks speak.

https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md. Cached tokens
are part of the prompt, reasoning is part of the completion.
"""

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

_KIND = "openinference.span.kind"
_CALLS = frozenset({"LLM", "EMBEDDING", ""})
"""Others (chains, agents, tools, rerankers) repeat what the calls in them used."""

_PROVIDER = ("llm.provider", "llm.system")
_MODEL = ("llm.request.model_name",)
_ANSWERED = ("llm.response.model_name", "llm.model_name", "embedding.model_name")
_COST = "llm.cost.total"
_COUNT = "llm.token_count"
_PROMPT = (f"{_COUNT}.prompt",)
_COMPLETION = (f"{_COUNT}.completion",)
_TOTAL = (f"{_COUNT}.total",)
_CACHE_READ = tuple(f"{_COUNT}.prompt_details.{name}" for name in ("cache_read", "cache_input"))
_CACHE_WRITE = (f"{_COUNT}.prompt_details.cache_write",)
_REASONING = (f"{_COUNT}.completion_details.reasoning",)


def read(found: Attributes) -> Call | str:
    """A call of a model or of an embedding."""
    if text(found, _KIND).upper() not in _CALLS:
        return NOT_INFERENCE
    prompt = largest(found, _PROMPT)
    cache_read, cache_write = largest(found, _CACHE_READ), largest(found, _CACHE_WRITE)
    if cache_read + cache_write > prompt:  # beside it, as Anthropic counts
        prompt += cache_read + cache_write
    tokens = disjoint(
        prompt,
        largest(found, _COMPLETION),
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=largest(found, _REASONING),
        total=largest(found, _TOTAL),
    )
    return Call(
        text(found, *_PROVIDER),
        text(found, *_MODEL),
        tokens,
        text(found, *_ANSWERED),
        cost_nano_usd=dollars(found, _COST),
    )


CONVENTION = Convention(
    "OpenInference",
    marks=frozenset({*_PROMPT, *_COMPLETION, *_TOTAL}),
    attributes=frozenset(
        {_KIND, _COST, *_PROVIDER, *_MODEL, *_ANSWERED, *_CACHE_READ, *_CACHE_WRITE, *_REASONING}
    ),
    read=read,
)
