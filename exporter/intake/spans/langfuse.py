"""Langfuse's SDKs: usage as JSON in one attribute, and no provider.

https://langfuse.com/integrations/native/opentelemetry, attributes `langfuse.observation.*`. Its
OpenAI wrapper passes the usage object on as it is, and the model that answered. Its own form has
kinds by name beside each other: `input` and `input_*` are the prompt, `output` and `output_*` the
completion, `total` all.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.core.usage import Tokens
from exporter.intake.spans.convention import (
    NOT_INFERENCE,
    Attributes,
    Call,
    Convention,
    text,
)
from exporter.intake.usage_object import count, nano_usd, normalise

_TYPE = "langfuse.observation.type"
_MODEL = "langfuse.observation.model.name"
_USAGE = "langfuse.observation.usage_details"
_COST = "langfuse.observation.cost_details"
_CALLS = frozenset({"generation", "embedding", ""})

_OWN = {"input", "output", "total"}
_object = msgspec.json.Decoder(dict[str, Any])


def read(found: Attributes) -> Call | str | None:
    """A generation or an embedding."""
    if not found.get(_USAGE):
        return None  # its cost alone
    if text(found, _TYPE) not in _CALLS:
        return NOT_INFERENCE
    usage = _json(found, _USAGE)
    own = any(name in _OWN for name in usage)
    tokens = _own(usage) if own else normalise(usage)
    return Call("", "", tokens, text(found, _MODEL), cost_nano_usd=_cost(found))


def _own(usage: Mapping[str, Any]) -> Tokens:
    """Kinds that are disjoint already."""
    kinds = dict.fromkeys(Tokens._fields, 0)
    for name, value in usage.items():
        if name != "total":
            kinds[_kind(name)] += count(value, f"{_USAGE}: {name}")
    total = count(usage.get("total"), f"{_USAGE}: total")
    kinds["unspecified"] += max(0, total - sum(kinds.values()))
    return Tokens(**kinds)


def _kind(name: str) -> str:
    if "cache" in name:
        return "cache_write" if "creat" in name or "write" in name else "cache_read"
    if "reasoning" in name or "thinking" in name or "thought" in name:
        return "reasoning"
    return "output" if "output" in name or "completion" in name else "input"


def _cost(found: Attributes) -> int | None:
    total = _json(found, _COST).get("total") if found.get(_COST) else None
    return nano_usd(total, f"{_COST}: total") if total else None


def _json(found: Attributes, name: str) -> dict[str, Any]:
    try:
        return _object.decode(str(found[name]).encode())
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ValueError(f"{name}: expected a JSON object, {error}") from error


CONVENTION = Convention("Langfuse", frozenset({_USAGE}), frozenset({_TYPE, _MODEL, _COST}), read)
