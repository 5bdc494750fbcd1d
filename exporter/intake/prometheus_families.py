"""Which series in a Prometheus count usage of language models, and what their labels mean: data.

- OTLP's metrics under the names that Prometheus gives them, with and without their unit.
- LiteLLM's proxy: https://docs.litellm.ai/docs/proxy/prometheus; its prompts contain the cache.
- vLLM: https://docs.vllm.ai/en/latest/usage/metrics.html.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.core.usage import KINDS
from exporter.intake.otlp_ranks import Source
from exporter.intake.otlp_token_metrics import METRICS, Role

REPLICA_LABELS = frozenset({"__replica__", "replica", "prometheus_replica"})
"""What tells the Prometheus servers of a highly available pair apart, which scrape the same."""


class Meaning(NamedTuple):
    """What a series counts.

    Attributes:
        what: `tokens`, `requests`, or `cost` in US dollars.
        role: which tokens, where its name tells.
        roles: token type -> role, where a label tells; None for a total of others.
        type_label: that label.
        base: equal for the series that are read together.
        provider: for those who name none.
        source: its rank among the sources of a service that reports in several ways.
    """

    what: str
    role: Role | None = None
    roles: Mapping[str, Role | None] = {}
    type_label: str = ""
    base: str = ""
    provider: str = ""
    source: Source | None = None


PROVIDER_LABELS = (
    "gen_ai_provider_name",
    "gen_ai_system",
    "api_provider",
    "custom_llm_provider",
    "provider",
)
MODEL_LABELS = (
    "gen_ai_request_model",
    "model",
    "model_name",
    "litellm_model_name",
)
ANSWERED_LABEL = "gen_ai_response_model"
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "team": ("team_alias", "team"),
    "key_alias": ("api_key_alias",),
    "key_hash": ("hashed_api_key",),
    "service": ("service_name", "exported_job", "job"),
}
"""What rules may look at -> where it stands."""

_INPUT, _OUTPUT = Role("input", "input"), Role("output", "output")
_UNITS = ("", "_tokens", "_token")
_HISTOGRAMS = ("gen_ai.client.token.usage", "codex.turn.token_usage")


def _opentelemetry() -> Iterator[tuple[str, Meaning]]:
    for name, (family, kind) in METRICS.items():
        plain = re.sub(r"\W", "_", name)
        role = family.types[kind] if kind else None
        base = re.sub(r"\W", "_", name.removesuffix(kind))
        label = re.sub(r"\W", "_", family.attribute)
        tokens = Meaning("tokens", role, family.types, label, base, family.provider, family.source)
        requests = tokens._replace(what="requests")
        for unit in _UNITS:
            if name in _HISTOGRAMS:
                yield f"{plain}{unit}_sum", tokens
                yield f"{plain}{unit}_count", requests
            else:
                yield f"{plain}{unit}_total", tokens
                yield f"{plain}{unit}", tokens


def _litellm() -> Iterator[tuple[str, Meaning]]:
    for name, role in {
        "input_tokens": _INPUT,
        "output_tokens": _OUTPUT,
        "input_cached_tokens": Role("input", "cache_read", part=True),
        "input_cache_creation_tokens": Role("input", "cache_write", part=True),
        "output_reasoning_tokens": Role("output", "reasoning", part=True),
    }.items():
        meaning = Meaning("tokens", role, base="litellm", provider="litellm")
        yield f"litellm_{name}_metric", meaning
        yield f"litellm_{name}_metric_total", meaning
    for name, what in {"requests": "requests", "spend": "cost"}.items():
        meaning = Meaning(what, base=f"litellm_{what}", provider="litellm")
        yield f"litellm_{name}_metric", meaning
        yield f"litellm_{name}_metric_total", meaning


GENERIC_TOKENS = "llm_usage_tokens_total"
"""A name to give by relabelling to counters that have none of the others, with the labels
`provider`, `model` and, where the tokens are of one kind, `kind`."""


def _generic() -> Iterator[tuple[str, Meaning]]:
    roles = {kind: Role(kind, kind) for kind in KINDS} | {"": Role("unspecified", "unspecified")}
    yield GENERIC_TOKENS, Meaning("tokens", roles=roles, type_label="kind", base="usage")
    yield "llm_usage_requests_total", Meaning("requests", base="usage")
    yield "llm_usage_cost_usd_total", Meaning("cost", base="usage")


SERIES: Mapping[str, Meaning] = {
    **dict(_opentelemetry()),
    **dict(_litellm()),
    **dict(_generic()),
    "vllm:prompt_tokens_total": Meaning("tokens", _INPUT, base="vllm", provider="vllm"),
    "vllm:generation_tokens_total": Meaning("tokens", _OUTPUT, base="vllm", provider="vllm"),
    "vllm:request_success_total": Meaning("requests", base="vllm_requests", provider="vllm"),
    "claude_code_cost_usage_USD_total": Meaning("cost", base="claude", provider="anthropic"),
    "claude_code_cost_usage_total": Meaning("cost", base="claude", provider="anthropic"),
}
"""Name of a series -> what it counts."""


def role_of(meaning: Meaning, labels: Mapping[str, str]) -> Role | None:
    """Which tokens a series counts; None when it counts none that others do not."""
    if meaning.role is not None or not meaning.type_label:
        return meaning.role
    return meaning.roles.get(labels.get(meaning.type_label, ""))
