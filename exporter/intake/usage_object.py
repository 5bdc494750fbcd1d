"""A provider's own usage object, recognised by its shape, as disjoint token kinds.

Formats disagree on what contains what. OpenAI (chat and Responses) and Gemini count cached
tokens inside the prompt, Anthropic and Bedrock beside it. OpenAI and Anthropic count
reasoning inside the output, Gemini beside it; a few services speaking the OpenAI format put
it beside too, which their own total gives away. This module is the one place that knows.

Sources: the type definitions of the openai (`CompletionUsage`, `ResponseUsage`) and anthropic
(`Usage`) packages, the Gemini API's `UsageMetadata`, the Bedrock Converse `TokenUsage`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from exporter.core.usage import Tokens
from exporter.intake.reading import shown

LARGEST_COUNT = 2**53
"""Above this a JSON number is no longer exact, and no provider hands out so many tokens."""


def normalise(obj: Mapping[str, Any]) -> Tokens:
    """The tokens of a usage object by disjoint kind.

    The sum is the format's own total: a part larger than its whole is cut to the whole, a
    total larger than all its parts leaves the rest `unspecified`.

    Raises:
        ValueError: the shape is unknown or ambiguous, or a count is not one; names the field
            and the value.
    """
    readings = [
        (name, read(obj))
        for name, fields, read in _SHAPES
        if any(obj.get(field) is not None for field in fields)
    ]
    if not readings and obj.get("total_tokens") is not None:
        return Tokens(unspecified=_at(obj, "total_tokens"))
    if not readings:
        raise ValueError(f"no token counts of a known format, got fields {shown([*obj])}")
    # Gateways fill the fields of a second format with zeros, or repeat themselves in it.
    spent = [(name, tokens) for name, tokens in readings if any(tokens)] or readings
    (name, tokens), *others = spent
    for other, also in others:
        if sum(also) != sum(tokens):
            raise ValueError(
                f"ambiguous: read as {name} it is {sum(tokens)} tokens, as {other} {sum(also)}"
            )
    return tokens


MAX_DOLLARS = 1e6
"""Of one usage, far beyond any."""


class UsageObject(NamedTuple):
    """What a usage object says.

    Attributes:
        tokens: by disjoint kind.
        cost_nano_usd: what the provider charged, in whole nano-US-dollars; None when not said.
        cache_write_1h: the part of `tokens.cache_write` that is kept for an hour.
    """

    tokens: Tokens
    cost_nano_usd: int | None = None
    cache_write_1h: int = 0


def read_usage(obj: Mapping[str, Any]) -> UsageObject:
    """Everything a usage object says; OpenRouter puts the cost into it, in US dollars.

    Raises:
        ValueError: see `normalise`; a cost that is none.
    """
    tokens, cost = normalise(obj), obj.get("cost")
    written_1h = min(_at(obj, "cache_creation.ephemeral_1h_input_tokens"), tokens.cache_write)
    return UsageObject(tokens, None if cost is None else nano_usd(cost, "cost"), written_1h)


def nano_usd(dollars: object, field: str = "cost_usd") -> int:
    """US dollars as whole nano-dollars, to the nearest.

    Raises:
        ValueError: not a number from 0 to `MAX_DOLLARS`; names `field`.
    """
    number = isinstance(dollars, int | float) and not isinstance(dollars, bool)
    if not number or not 0 <= dollars <= MAX_DOLLARS:  # type: ignore[operator]  # a number
        raise ValueError(
            f"{field}: expected US dollars from 0 to {MAX_DOLLARS:.0f}, got {shown(dollars)}"
        )
    return round(dollars * 1e9)  # type: ignore[operator]  # a number


def count(value: object, field: str) -> int:
    """`value` as a number of tokens; None is 0.

    Raises:
        ValueError: not a whole number from 0 to `LARGEST_COUNT`; names `field`.
    """
    if value is None:
        return 0
    whole = type(value) is int or (isinstance(value, float) and value.is_integer())
    if not whole or not 0 <= value <= LARGEST_COUNT:  # type: ignore[operator]  # a number, see `whole`
        raise ValueError(
            f"{field}: expected a whole number from 0 to {LARGEST_COUNT}, got {shown(value)}"
        )
    return int(value)  # type: ignore[call-overload, no-any-return]  # a number, see `whole`


def disjoint(
    prompt: int,
    output: int,
    *,
    cache_read: int = 0,
    cache_write: int = 0,
    reasoning: int = 0,
    total: int = 0,
    reasoning_inside: bool = True,
) -> Tokens:
    """Disjoint kinds from a `prompt` that includes its cached tokens.

    A `total` that adds up in only one way decides whether `output` includes `reasoning`;
    otherwise `reasoning_inside` does. 0 means that no total is known.
    """
    if total and total == prompt + output:
        reasoning_inside = True
    elif total and total == prompt + output + reasoning:
        reasoning_inside = False
    if reasoning_inside:
        reasoning = min(reasoning, output)
        output -= reasoning
    cache_read = min(cache_read, prompt)
    cache_write = min(cache_write, prompt - cache_read)
    return Tokens(
        input=prompt - cache_read - cache_write,
        cache_read=cache_read,
        cache_write=cache_write,
        output=output,
        reasoning=reasoning,
        unspecified=max(0, total - prompt - output - reasoning),
    )


def _largest(obj: Mapping[str, Any], *paths: str) -> int:
    """The largest of several names for one count: those not in use are absent, null or 0."""
    return max(_at(obj, path) for path in paths)


def _at(obj: Mapping[str, Any], path: str) -> int:
    parent, _, field = path.rpartition(".")
    if not parent:
        return count(obj.get(field), path)
    inner = obj.get(parent)
    if inner is None:
        return 0
    if not isinstance(inner, Mapping):
        raise ValueError(  # noqa: TRY004  # the value is a body's, not the caller's, fault
            f"{parent}: expected an object, got {shown(inner)}"
        )
    return count(inner.get(field), path)


def _openai_chat(obj: Mapping[str, Any]) -> Tokens:
    """Also what speaks this format with names of its own: LiteLLM, DeepSeek, Moonshot."""
    return disjoint(
        _at(obj, "prompt_tokens"),
        _at(obj, "completion_tokens"),
        cache_read=_largest(
            obj,
            "prompt_tokens_details.cached_tokens",
            "cache_read_input_tokens",
            "prompt_cache_hit_tokens",
            "cached_tokens",
        ),
        cache_write=_largest(
            obj,
            "prompt_tokens_details.cache_write_tokens",
            "prompt_tokens_details.cache_creation_tokens",
            "cache_creation_input_tokens",
        ),
        reasoning=_largest(obj, "completion_tokens_details.reasoning_tokens", "reasoning_tokens"),
        total=_at(obj, "total_tokens"),
    )


def _anthropic_or_responses(obj: Mapping[str, Any]) -> Tokens:
    """Two formats share `input_tokens`; where they put cached tokens tells them apart."""
    inside_read = _largest(
        obj, "input_tokens_details.cached_tokens", "input_token_details.cached_tokens"
    )
    inside_write = _at(obj, "input_tokens_details.cache_write_tokens")
    beside_read = _at(obj, "cache_read_input_tokens")
    beside_write = max(
        _at(obj, "cache_creation_input_tokens"),
        _at(obj, "cache_creation.ephemeral_5m_input_tokens")
        + _at(obj, "cache_creation.ephemeral_1h_input_tokens"),
    )
    if inside_read + inside_write and beside_read + beside_write:
        raise ValueError(
            f"ambiguous: input_tokens_details says that input_tokens includes "
            f"{inside_read + inside_write} cached tokens, cache_*_input_tokens says that "
            f"{beside_read + beside_write} are beside it"
        )
    return disjoint(
        _at(obj, "input_tokens") + beside_read + beside_write,
        _at(obj, "output_tokens"),
        cache_read=inside_read + beside_read,
        cache_write=inside_write + beside_write,
        reasoning=_largest(
            obj,
            "output_tokens_details.reasoning_tokens",
            "output_tokens_details.thinking_tokens",
        ),
        total=_at(obj, "total_tokens"),
    )


def _gemini(obj: Mapping[str, Any]) -> Tokens:
    """In the API's own names or in those of Google's Python library."""
    return disjoint(
        _largest(obj, "promptTokenCount", "prompt_token_count")
        + _largest(obj, "toolUsePromptTokenCount", "tool_use_prompt_token_count"),
        _largest(obj, "candidatesTokenCount", "candidates_token_count"),
        cache_read=_largest(obj, "cachedContentTokenCount", "cached_content_token_count"),
        reasoning=_largest(obj, "thoughtsTokenCount", "thoughts_token_count"),
        total=_largest(obj, "totalTokenCount", "total_token_count"),
        reasoning_inside=False,
    )


def _bedrock(obj: Mapping[str, Any]) -> Tokens:
    cache_read = _at(obj, "cacheReadInputTokens")
    cache_write = _at(obj, "cacheWriteInputTokens")
    return disjoint(
        _at(obj, "inputTokens") + cache_read + cache_write,
        _at(obj, "outputTokens"),
        cache_read=cache_read,
        cache_write=cache_write,
        total=_at(obj, "totalTokens"),
    )


_SHAPES: tuple[tuple[str, tuple[str, ...], Callable[[Mapping[str, Any]], Tokens]], ...] = (
    ("OpenAI chat", ("prompt_tokens", "completion_tokens"), _openai_chat),
    ("Anthropic or OpenAI Responses", ("input_tokens", "output_tokens"), _anthropic_or_responses),
    ("Gemini", ("promptTokenCount", "totalTokenCount"), _gemini),
    ("Gemini", ("prompt_token_count", "total_token_count"), _gemini),
    ("Bedrock Converse", ("inputTokens", "outputTokens", "totalTokens"), _bedrock),
)
"""What a format is called, the fields that give it away, and how it is read."""
