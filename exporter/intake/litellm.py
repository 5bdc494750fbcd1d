"""LiteLLM's `generic_api` callback: what each finished request used, and refusals as signals.

Written against litellm's `GenericAPILogger` and `StandardLoggingPayload`. Its bodies are a JSON
array, NDJSON or one object, all with the same content type. Prompts and answers are fields that
the decoder has no name for: it skips them without making values of them.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.core.usage import Tokens, Usage
from exporter.intake import rejections
from exporter.intake.format import JSON_ANSWERS, JSON_TYPES, Context, Format, Push
from exporter.intake.litellm_payload import Event, Failure, Metadata, provider_headers, refusal_of
from exporter.intake.naming import BY_RULE, Naming
from exporter.intake.reading import (
    MAX_ITEMS,
    MalformedBody,
    Reading,
    check_items,
    shown,
)
from exporter.intake.signals import MIN_QUOTA_SECONDS, read_response
from exporter.intake.signals.judge import LATEST
from exporter.intake.spans.convention import reported as reported_call
from exporter.intake.usage_object import nano_usd, normalise

_event = msgspec.json.Decoder(Event)
_array = msgspec.json.Decoder(list[msgspec.Raw])

_one = msgspec.json.Decoder(msgspec.Raw)

_OLD_COUNT = re.compile(r"\b(\w+_tokens)=(\d{1,16})\b")
_TRUE = (True, "True")

_Report = tuple[int, float, dict[str, Any]]
"""Which item says when, and with which headers, a provider answered."""


def read(
    body: bytes,
    naming: Naming,
    now: float,
    most: int = MAX_ITEMS,
    exhausted_from: float = MIN_QUOTA_SECONDS,
) -> Reading:
    """Read one request of the callback; `now` dates signals that have no time of their own.

    Raises:
        MalformedBody: not JSON in any of the three forms, or more than `most` items.
    """
    reading = Reading()
    reports: dict[tuple[str, str], _Report] = {}
    items = _items(body)
    check_items(len(items), most)
    for index, item in enumerate(items):
        with rejections.item(reading.rejected, index):
            event = _event.decode(item)
            _read_event(index, event, naming, now, exhausted_from, reading, reports)
    # Every answer repeats the limits: the latest of each model says it all.
    for (provider, model), (index, at, headers) in reports.items():
        with rejections.item(reading.rejected, index):
            reading.signals.append(read_response(provider, 200, headers, None, at, model))
    return reading


def _items(body: bytes) -> list[Any]:
    """The events as undecoded JSON."""
    text = body.strip()
    try:
        if text.startswith(b"["):
            return _array.decode(text)
        if not text.startswith(b"{"):
            start = shown(text[:1].decode("ascii", "replace"))
            raise MalformedBody(f"body: expected a JSON array or objects, it starts with {start}")
        if b"\n" in text and not _is_one_value(text):
            return [line for line in map(bytes.strip, text.split(b"\n")) if line]
        return [_one.decode(text)]
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise MalformedBody(f"body: {error}") from error


def _is_one_value(text: bytes) -> bool:
    try:
        _one.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _read_event(
    index: int,
    event: Event,
    naming: Naming,
    now: float,
    exhausted_from: float,
    reading: Reading,
    reports: dict[tuple[str, str], _Report],
) -> None:
    if event.cache_hit in _TRUE:  # answered by LiteLLM itself
        _count(reading, "cache_hit")
        return
    tokens = _tokens(event)
    error = event.error_information or Failure()
    model = event.model or ""
    reported = event.custom_llm_provider or error.llm_provider or _prefix(model)
    model = model.removeprefix(f"{reported}/")
    attributes = _attributes(event, model)
    provider = naming.name(reported, attributes)
    at = event.endTime if isinstance(event.endTime, float) and event.endTime > 0 else None
    if at is not None and at >= LATEST:
        raise ValueError(f"endTime: expected Unix seconds, got {at!r}")
    headers = provider_headers(event.hidden_params)
    if event.status == "failure" and not any(tokens):
        moment = now if at is None else at
        consumer = naming.consumer(attributes)
        signal = refusal_of(provider, model, consumer, error, headers, moment, exhausted_from)
        if isinstance(signal, str):
            _count(reading, signal)
        else:
            reading.signals.append(signal)
        return
    if not provider:
        raise ValueError(
            f"custom_llm_provider: expected a name, got {shown(event.custom_llm_provider)}"
        )
    if not naming.counts(reported, attributes):
        _count(reading, BY_RULE)
        return
    identity = event.id or event.litellm_call_id or ""
    request_id = headers.get("request-id")
    others = (request_id,) if isinstance(request_id, str) else ()
    reading.usages.append(
        Usage(
            provider,
            tokens,
            model,
            identity,
            at,
            consumer=naming.consumer(attributes),
            cost_nano_usd=_cost(event),
            cache_write_1h=_written_for_an_hour(event, tokens),
            # Of Claude Code, LiteLLM takes the session for its trace.
            call=reported_call("litellm", event.id or "", event.trace_id or "", tokens, *others),
        )
    )
    moment = now if at is None else at
    earlier = reports.get((provider, model))
    if any("ratelimit" in name for name in headers) and (earlier is None or moment >= earlier[1]):
        reports[provider, model] = (index, moment, headers)


def _cost(event: Event) -> int | None:
    """What LiteLLM reckons that it cost; it says 0 of models that it has no price for, too."""
    cost = event.response_cost
    return nano_usd(cost, "response_cost") if isinstance(cost, int | float) and cost else None


def _written_for_an_hour(event: Event, tokens: Tokens) -> int:
    metadata = event.metadata
    said = metadata.usage_object if isinstance(metadata, Metadata) else None
    created = (said or {}).get("cache_creation")
    written = created.get("ephemeral_1h_input_tokens") if isinstance(created, dict) else 0
    return min(written, tokens.cache_write) if isinstance(written, int) and written > 0 else 0


def _tokens(event: Event) -> Tokens:
    """From the usage object, which has the kinds, or else from the counts beside it."""
    metadata = event.metadata
    if isinstance(metadata, Metadata) and metadata.usage_object:
        try:
            return normalise(metadata.usage_object)
        except ValueError:  # transcriptions and the like: seconds, characters
            pass
    if event.usage is not None:
        return normalise({name: int(value) for name, value in _OLD_COUNT.findall(event.usage)})
    counts = {
        "prompt_tokens": event.prompt_tokens,
        "completion_tokens": event.completion_tokens,
        "total_tokens": event.total_tokens,
    }
    if all(value is None for value in counts.values()):
        return Tokens()
    return normalise(counts)


def _attributes(event: Event, model: str) -> Mapping[str, str]:
    metadata = event.metadata
    if not isinstance(metadata, Metadata):
        return {"model": model}
    return {
        "model": model,
        "end_user": event.end_user if isinstance(event.end_user, str) else "",
        "key_alias": metadata.user_api_key_alias or "",
        "key_hash": metadata.user_api_key_hash or "",
        "team": metadata.user_api_key_team_alias or metadata.user_api_key_team_id or "",
    }


def _prefix(model: str) -> str:
    """The provider in `provider/model`, all that the old payload says of it."""
    return model.partition("/")[0] if "/" in model else ""


def _count(reading: Reading, reason: str) -> None:
    reading.uncharged[reason] = reading.uncharged.get(reason, 0) + 1


def _read(push: Push, context: Context) -> Reading:
    return read(push.body, context.naming, context.now, context.max_items, context.exhausted_from)


FORMAT = Format(
    path="/v1/litellm",
    source="litellm",
    summary="Receive LiteLLM's generic_api callback.",
    read=_read,
    media_types=JSON_TYPES,
    encoding=JSON_ANSWERS._replace(later=503),  # after another 4xx it drops what it has
)
