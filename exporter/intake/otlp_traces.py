"""Spans with `gen_ai.usage.*`: each call of a model once.

Attribute names, new and old, are those of the OpenTelemetry conventions for generative AI and
of OpenLLMetry before they existed. No other attribute is looked at.
"""

from collections.abc import Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from exporter.core.usage import Tokens, Usage
from exporter.intake import rejections
from exporter.intake.format import Context, Format, Push
from exporter.intake.naming import Naming
from exporter.intake.otlp import (
    MEDIA_TYPES,
    answers,
    attributes_of,
    decode,
    first,
    hexadecimal,
    texts,
    traces_answer,
    uncharge,
)
from exporter.intake.otlp_sources import Sources, key
from exporter.intake.reading import Reading
from exporter.intake.usage_object import count, disjoint

OPERATIONS = frozenset(
    {"chat", "text_completion", "generate_content", "embeddings"}
    | {"completion", "embedding", "responses"}  # before the conventions had names for them
)
"""Calls of a model. Other spans (agents, workflows, tools) repeat the sum of those inside."""

_PROVIDER = ("gen_ai.provider.name", "gen_ai.system")
_MODEL = ("gen_ai.request.model", "gen_ai.response.model")
_OPERATION = ("gen_ai.operation.name", "llm.request.type")
_PROMPT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
_OUTPUT = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
)
_CACHE_READ = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
_CACHE_WRITE = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens",
)
_TOTAL = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens")
_WHOLES = (*_PROMPT, *_OUTPUT, *_TOTAL)
_PART_OF_A_FRAMEWORK = "traceloop.span.kind"
_RESPONSE_ID = "gen_ai.response.id"
_WANTED = frozenset(
    {*_PROVIDER, *_MODEL, *_OPERATION, *_WHOLES, *_CACHE_READ, *_CACHE_WRITE, *_REASONING}
    | {_PART_OF_A_FRAMEWORK, _RESPONSE_ID}
)


def read_traces(
    body: bytes, content_type: str, naming: Naming, sources: Sources, now: float
) -> Reading:
    """Read an `ExportTraceServiceRequest`; rejections are indexed by span over the request.

    Raises:
        MalformedBody: it is not one.
    """
    request = decode(body, content_type, ExportTraceServiceRequest())
    reading = Reading()
    index = -1
    for resource_spans in request.resource_spans:
        reporter = attributes_of(resource_spans.resource, naming)
        for span in (span for scope in resource_spans.scope_spans for span in scope.spans):
            index += 1
            with rejections.item(reading.rejected, index):
                _read_span(span, content_type, reporter, naming, sources, now, reading)
    return reading


def _read_span(
    span: Span,
    content_type: str,
    reporter: Mapping[str, str],
    naming: Naming,
    sources: Sources,
    now: float,
    reading: Reading,
) -> None:
    found = texts(span.attributes, _WANTED | naming.otel_attributes)
    if not any(name in found for name in _WHOLES):
        return
    operation = first(found, _OPERATION)
    if _PART_OF_A_FRAMEWORK in found or (operation and operation not in OPERATIONS):
        uncharge(reading, "not_inference")
        return
    model = first(found, _MODEL)
    own = {name: str(found[name]) for name in naming.otel_attributes if name in found}
    attributes = {**reporter, **own, "model": model}
    provider = naming.name(first(found, _PROVIDER), attributes)
    if not provider:
        raise ValueError(f"{_PROVIDER[0]}: expected a name, got none")
    end = span.end_time_unix_nano / 1e9
    turn = sources.decide(key(reporter["service"], provider), "traces", end or now, now)
    if turn.reason or (end or now) <= turn.since:
        uncharge(reading, turn.reason or turn.before)
        return
    ids = (hexadecimal(part, content_type) for part in (span.trace_id, span.span_id))
    identity = first(found, (_RESPONSE_ID,)) or ":".join(ids)
    consumer = naming.consumer(attributes)
    reading.usages.append(
        Usage(provider, _tokens(found), model, identity, end or None, consumer=consumer)
    )


def _tokens(found: Mapping[str, Any]) -> Tokens:
    """The conventions put cached tokens inside the input; some reporters put them beside it,
    which shows where the parts are larger than the whole, or where only that adds up to the
    total."""
    prompt, output = _largest(found, _PROMPT), _largest(found, _OUTPUT)
    cache_read, cache_write = _largest(found, _CACHE_READ), _largest(found, _CACHE_WRITE)
    total = _largest(found, _TOTAL)
    cached = cache_read + cache_write
    if cached > prompt or (cached and total == prompt + cached + output):
        prompt += cached
    return disjoint(
        prompt,
        output,
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=_largest(found, _REASONING),
        total=total,
    )


def _largest(found: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return max(count(found.get(name), name) for name in names)


def _read(push: Push, context: Context) -> Reading:
    return read_traces(push.body, push.media_type, context.naming, context.sources, context.now)


FORMAT = Format(
    path="/v1/traces",
    source="otlp_traces",
    summary="Receive OTLP traces.",
    read=_read,
    media_types=MEDIA_TYPES,
    encoding=answers(traces_answer),
)
