"""Which metrics count tokens, and what their token types mean: data, with its sources.

- `gen_ai.client.token.usage` and `gen_ai.client.inference.usage.*`: OpenTelemetry conventions for
  generative AI (gen-ai-metrics, gen-ai-token-metrics). Envoy AI Gateway adds types of its own.
- `claude_code.token.usage`: Claude Code's monitoring documentation; input excludes the cache.
- `codex.turn.token_usage`: OpenAI Codex; input includes the cache, output the reasoning.
- `gemini_cli.token.usage`: Gemini CLI's telemetry documentation; input includes the cache, tool
  prompts and thoughts are beside.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from exporter.intake.otlp_ranks import Source

REQUESTS, COST = "requests", "cost"
"""Kinds beside those of tokens."""


class Role(NamedTuple):
    """What the tokens of one type are.

    Attributes:
        whole: the type they belong to; types with the same whole are read together.
        kind: the kind they count as.
        part: they are counted inside the whole too, not beside it.
    """

    whole: str
    kind: str
    part: bool = False


class TokenMetrics(NamedTuple):
    """Metrics that one kind of reporter counts tokens with.

    Attributes:
        source: its rank among the sources of a service.
        types: token type -> role; None for a total of other types.
        attribute: where a data point has its token type.
        provider: for reporters that do not name one.
    """

    source: Source
    types: Mapping[str, Role | None]
    attribute: str = ""
    provider: str = ""


_INPUT = Role("input", "input")
_OUTPUT = Role("output", "output")
_CACHE_READ = Role("input", "cache_read", part=True)
_CACHE_WRITE = Role("input", "cache_write", part=True)
_REASONING = Role("output", "reasoning", part=True)

_TOKEN_USAGE = TokenMetrics(
    "metrics",
    {
        "input": _INPUT,
        "prompt": _INPUT,
        "output": _OUTPUT,
        "completion": _OUTPUT,
        "cached_input": _CACHE_READ,
        "cache_creation_input": _CACHE_WRITE,
        "reasoning": _REASONING,
        "total": None,
    },
    attribute="gen_ai.token.type",
)
_INFERENCE = TokenMetrics(
    "inference_metrics",
    {
        "input_tokens": _INPUT,
        "output_tokens": _OUTPUT,
        "cache_read.input_tokens": _CACHE_READ,
        "cache_write.input_tokens": _CACHE_WRITE,
        "reasoning.output_tokens": _REASONING,
    },
)
_CLAUDE_CODE = TokenMetrics(
    "tool_metrics",
    {
        "input": _INPUT,
        "output": _OUTPUT,
        "cacheRead": Role("cacheRead", "cache_read"),
        "cacheCreation": Role("cacheCreation", "cache_write"),
    },
    attribute="type",
    provider="anthropic",
)
_CODEX = TokenMetrics(
    "tool_metrics",
    {
        "input": _INPUT,
        "cached_input": _CACHE_READ,
        "cache_write_input": _CACHE_WRITE,
        "output": _OUTPUT,
        "reasoning_output": _REASONING,
        "total": None,
    },
    attribute="token_type",
    provider="openai",
)
_GEMINI_CLI = TokenMetrics(
    "tool_metrics",
    {
        "input": _INPUT,
        "cache": _CACHE_READ,
        "tool": Role("tool", "input"),
        "output": _OUTPUT,
        "thought": Role("thought", "reasoning"),
    },
    attribute="type",
    provider="gemini",
)

_OPERATIONS = TokenMetrics("inference_metrics", {REQUESTS: Role(REQUESTS, REQUESTS)})
_CLAUDE_CODE_COST = TokenMetrics("tool_metrics", {COST: Role(COST, COST)}, provider="anthropic")
_COST = TokenMetrics("metrics", {COST: Role(COST, COST)})

BESIDE: Mapping[str, tuple[TokenMetrics, str]] = {
    "gen_ai.client.operation.duration": (_OPERATIONS, REQUESTS),
    "claude_code.cost.usage": (_CLAUDE_CODE_COST, COST),
    "gen_ai.usage.cost": (_COST, COST),
}
"""What stands beside counters of tokens that have neither requests nor cost: the durations of
operations, of which only the number is of interest, and costs in US dollars."""

METRICS: Mapping[str, tuple[TokenMetrics, str]] = {
    "gen_ai.client.token.usage": (_TOKEN_USAGE, ""),
    "claude_code.token.usage": (_CLAUDE_CODE, ""),
    "codex.turn.token_usage": (_CODEX, ""),
    "gemini_cli.token.usage": (_GEMINI_CLI, ""),
    **{f"gen_ai.client.inference.usage.{name}": (_INFERENCE, name) for name in _INFERENCE.types},
}
"""Metric name -> its family, and its token type where the name itself tells it."""

REPEATED = frozenset(
    f"gen_ai.client.inference.operation.{name}" for name in ("input_tokens", "output_tokens")
)
"""Distributions of what the counters above count."""

_COUNTS = re.compile(r"tokens?([._](count|usage|total|used|consumed))?$|(used|consumed)[._]tokens")
_OTHERS = re.compile(r"time|latency|duration|per[._]|max|limit|remaining|rate|auth|refresh")


def looks_like_usage(name: str) -> bool:
    """Whether a metric that is none of these may count tokens all the same."""
    plain = name.lower()
    return bool(_COUNTS.search(plain)) and not _OTHERS.search(plain) and name not in REPEATED
