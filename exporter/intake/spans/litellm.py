"""LiteLLM's `otel` callback, both generations of it.

https://docs.litellm.ai/docs/observability/opentelemetry_integration. It speaks OpenTelemetry's
names, calls the operation after its function (`acompletion`, `aresponses`,
`anthropic_messages`), has the details of the usage in Python's own notation, and says whether
its cache answered.
"""

import re
from collections.abc import Mapping

from exporter.core.usage import Tokens
from exporter.intake.spans import gen_ai
from exporter.intake.spans.convention import (
    CACHE_HIT,
    NOT_INFERENCE,
    Attributes,
    Call,
    Convention,
    dollars,
    text,
)
from exporter.intake.usage_object import normalise

_HIT = "litellm.cache_hit"
_USAGE = "metadata.usage_object"
_ROUTED = "litellm.provider.model"
_COST = ("litellm.cost.total", "gen_ai.cost.total_cost")
_WHO: Mapping[str, tuple[str, ...]] = {
    "team": (
        "litellm.team.alias",
        "metadata.user_api_key_team_alias",
        "litellm.team.id",
        "metadata.user_api_key_team_id",
    ),
    "key_alias": ("litellm.api_key.alias", "metadata.user_api_key_alias"),
    "key_hash": ("litellm.api_key.hash", "metadata.user_api_key_hash"),
    "end_user": ("litellm.end_user.id", "metadata.user_api_key_end_user_id"),
}
_NOT_A_CALL = frozenset({"execute_tool", "invoke_agent", "call_mcp_tool"})

_COUNT = re.compile(r"'(\w+_tokens)': (\d{1,16})\b")
_MAX_USAGE = 4096  # of a usage object that is searched


def read(found: Attributes) -> Call | str | None:
    """Every call of a model, whatever its operation is called."""
    if not gen_ai.MARKS & found.keys():
        return None
    if text(found, *gen_ai.OPERATION) in _NOT_A_CALL:
        return NOT_INFERENCE
    call = gen_ai.call(found)
    routed = text(found, _ROUTED)
    provider = call.provider or (routed.partition("/")[0] if "/" in routed else "")
    return call._replace(
        provider=provider,
        model=call.model.removeprefix(f"{provider}/"),
        tokens=_detailed(call.tokens, text(found, _USAGE)[:_MAX_USAGE]),
        cost_nano_usd=dollars(found, *_COST),
        attributes={name: text(found, *names) for name, names in _WHO.items()},
        reason=CACHE_HIT if found.get(_HIT) in (True, "True", "true") else "",
    )


def _detailed(tokens: Tokens, usage: str) -> Tokens:
    """The kinds that a usage object tells beside its wholes, where it comes to the same sum."""
    counts = {name: int(value) for name, value in _COUNT.findall(usage)}
    if not counts:
        return tokens
    try:
        detailed = normalise(counts)
    except ValueError:
        return tokens
    return detailed if sum(detailed) == sum(tokens) else tokens


CONVENTION = Convention(
    "LiteLLM",
    marks=frozenset({_HIT, "litellm.call_id", "litellm.call_type"}),
    attributes=gen_ai.MARKS
    | gen_ai.ATTRIBUTES
    | {_USAGE, _ROUTED, *_COST, *(name for names in _WHO.values() for name in names)},
    read=read,
)
