"""The documents the exporter accepts, checked where they are made and encoded at once.

Encoding on the spot takes about as long as copying and frees the caller to change or drop what it
passed in. Errors are `ValueError` and name the argument; they show numbers but never text.
"""

import math
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from exporter.client import redact

_MAX_TEXT = 256
_MAX_ERROR = 8192
"""Bytes of an error body sent at most."""


def usage_event(
    provider: str,
    at: datetime | float,
    *,
    model: str,
    consumer: str,
    tokens: int | None,
    kinds: Mapping[str, int | None],
    usage: Any,
    cost_usd: float | None,
    id: str | None,
) -> bytes:
    """One event for `POST /v1/usage`.

    Args:
        at: Unix seconds, or a datetime with a zone.
        consumer: who asked; empty when unknown.
        kinds: counts by kind, None where there is none.
        usage: a provider's own usage object: a mapping, or a model of its SDK.
        cost_usd: what it cost; None when unknown.
        id: makes a retry harmless; generated when None.
    """
    counted = {name: _count(name, value) for name, value in kinds.items() if value is not None}
    ways = [tokens is not None, bool(counted), usage is not None]
    if sum(ways) != 1:
        raise ValueError(
            f"expected one of tokens, token kinds and usage, got {sum(ways) or 'none'} of them"
        )
    event: dict[str, Any] = {
        "provider": _text("provider", provider),
        "id": uuid.uuid4().hex if id is None else _text("id", id),
        "timestamp": _timestamp(at),
    }
    if model:
        event["model"] = _text("model", model)
    if consumer:
        event["consumer"] = _text("consumer", consumer)
    if cost_usd is not None:
        event["cost_usd"] = _cost(cost_usd)
    if usage is not None:
        event["usage"] = _usage(usage)
    elif tokens is not None:
        event["tokens"] = _count("tokens", tokens)
    else:
        event |= counted
    return msgspec.json.encode(event)


def signal_event(
    provider: str, status: int, headers: Mapping[str, str], body: Any, at: float, model: str
) -> tuple[bytes, bytes]:
    """A key equal for signals that say the same, and the document for `POST /v1/signals`.

    Args:
        body: the response's, as bytes, text or decoded JSON; used from status 400 on.
        at: Unix seconds.
        model: what was asked for, empty when unknown.
    """
    _text("provider", provider)
    if isinstance(status, bool) or not isinstance(status, int) or not 100 <= status <= 599:
        raise ValueError(f"status: expected a number from 100 to 599, got {_shown(status)}")
    error = _error(body) if status >= 400 else None
    key = msgspec.json.encode((provider, model, status, error))
    document: dict[str, Any] = {
        "provider": provider,
        "status": status,
        "headers": redact.headers(headers),
        "timestamp": at,
    }
    if error is not None:
        document["body"] = error
    if model:
        document["model"] = _text("model", model)
    return key, msgspec.json.encode(document)


def _error(body: Any) -> Any:
    if isinstance(body, bytes | str):
        try:
            body = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            text = body.decode(errors="replace") if isinstance(body, bytes) else body
            # Some refuse in plain words; a page for people says nothing of a quota.
            body = None if text[:1] in "<{[" else {"message": text}
    kept = redact.error(body)
    return kept if len(msgspec.json.encode(kept)) <= _MAX_ERROR else None


def _usage(usage: Any) -> dict[str, Any]:
    if hasattr(usage, "model_dump"):  # the SDKs' objects are pydantic models
        usage = usage.model_dump()
    if not isinstance(usage, Mapping):
        raise ValueError(f"usage: expected an object, got {_shown(usage)}")  # noqa: TRY004 - see module
    kept = redact.usage(usage)
    if not kept:
        raise ValueError("usage: expected token counts, found none")
    return kept


def _text(name: str, value: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise ValueError(f"{name}: expected 1 to {_MAX_TEXT} characters, got {_shown(value)}")
    return value


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{name}: expected an integer of at least 0, got {_shown(value)}")
    return value


def _cost(value: float) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        raise ValueError(f"cost_usd: expected US dollars of at least 0, got {_shown(value)}")
    return value


def _timestamp(at: datetime | float) -> float:
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError("timestamp: expected a datetime with a time zone, got a naive one")
        return at.timestamp()
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise ValueError(f"timestamp: expected Unix seconds or a datetime, got {_shown(at)}")
    return at


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f"{len(value)} characters"
    return str(value) if isinstance(value, int | float) else type(value).__name__
