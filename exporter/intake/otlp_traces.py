"""OTLP spans that tell of calls of models: each call once, by whatever convention.

`spans` has the conventions. No attribute but theirs is looked at.
"""

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from exporter.core.usage import Usage
from exporter.intake import rejections
from exporter.intake.format import Context, Format, Push
from exporter.intake.naming import BY_RULE, UNKNOWN_PROVIDER, Naming
from exporter.intake.otlp import (
    MEDIA_TYPES,
    add,
    answers,
    attributes_of,
    decode,
    hexadecimal,
    is_alone,
    numbers,
    texts,
    traces_answer,
    uncharge,
)
from exporter.intake.otlp_nesting import SpanId, inside_out
from exporter.intake.otlp_ranks import keys
from exporter.intake.otlp_reports import Report, Reports
from exporter.intake.otlp_twins import LibrarySpan
from exporter.intake.reading import Reading
from exporter.intake.spans import conventions
from exporter.intake.spans.convention import LIBRARY, Call

REPEATED = "repeated_by_another_span"
"""Why a call is not counted that another span, around it or within it, reported."""

UNKNOWN = "unknown_convention"
"""Why a span is not counted that seems to tell of usage, nobody knows how."""


class _Placed(NamedTuple):
    """A span, and where it is.

    Attributes:
        position: in the request, from 0.
        library: name of its instrumentation scope.
        reporter: what its resource says of itself.
    """

    position: int
    span: Span
    library: str
    reporter: Mapping[str, str]


def read_traces(
    body: bytes, content_type: str, naming: Naming, reports: Reports, now: float
) -> Reading:
    """Read an `ExportTraceServiceRequest`; rejections are indexed by span over the request.

    Raises:
        MalformedBody: it is not one.
    """
    request = decode(body, content_type, ExportTraceServiceRequest())
    reading = Reading()
    placed: list[_Placed] = []
    for resource_spans in request.resource_spans:
        reporter = attributes_of(resource_spans.resource, naming)
        for scope in resource_spans.scope_spans:
            for span in scope.spans:
                placed.append(_Placed(len(placed), span, scope.scope.name, reporter))
    ids = [_ids(one.span, content_type) for one in placed]
    for at in inside_out(ids):
        one = placed[at]
        with rejections.item(reading.rejected, one.position):
            call = _call(one, reading)
            if call is None:
                reports.sources.nesting.pass_through(ids[at])
            elif reports.sources.nesting.repeats(ids[at]):
                uncharge(reading, REPEATED)
            else:
                _add_usage(call, one, ids[at], naming, reports, now, reading)
    reading.rejected.sort(key=lambda one: one.index)
    return reading


def _call(placed: _Placed, reading: Reading) -> Call | None:
    """The call that a span tells of; None, and why in the reading, where there is none."""
    span = placed.span
    found = {**texts(span.attributes, conventions.ATTRIBUTES), LIBRARY: placed.library}
    convention = conventions.of(found)
    if convention is None:
        if conventions.looks_like_usage(numbers(span.attributes)):
            uncharge(reading, UNKNOWN)
        return None
    call = convention.read(found)
    if isinstance(call, str):
        uncharge(reading, call)
        return None
    return call


def _add_usage(
    call: Call,
    placed: _Placed,
    ids: SpanId,
    naming: Naming,
    reports: Reports,
    now: float,
    reading: Reading,
) -> None:
    span, reporter = placed.span, placed.reporter
    found = texts(span.attributes, naming.otel_attributes)
    own = {name: str(value) for name, value in found.items()}
    model = naming.model(call.model, call.answered)
    attributes = {**reporter, **call.attributes, **own, "model": model}
    if not naming.counts(call.provider, attributes):
        uncharge(reading, BY_RULE)
        return
    provider = naming.of_call(call.provider, attributes)
    if not provider:
        uncharge(reading, UNKNOWN_PROVIDER)
        return
    start, end = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
    identity = f"{ids.trace}:{ids.span}"
    seen = LibrarySpan(placed.library, identity, start, end)
    if end and reports.sources.twins.repeats(reporter["service"], provider, sum(call.tokens), seen):
        uncharge(reading, REPEATED)
        return
    usage = Usage(
        provider,
        call.tokens,
        model,
        call.identity or identity,
        end or None,
        consumer=naming.consumer(attributes),
        cost_nano_usd=call.cost_nano_usd,
        call=call.reported_by(reporter["service"]),
    )
    services = keys(reporter["service"], provider, model, call.answered)
    reports.sources.add_span(services, sum(call.tokens))
    if call.reason:
        uncharge(reading, call.reason)
        return
    report = Report(FORMAT.path, services, "traces", usage, end or now)
    add(reading, reports.counted(report, now, alone=is_alone(reporter)))


def _ids(span: Span, content_type: str) -> SpanId:
    parts = (span.trace_id, span.span_id, span.parent_span_id)
    return SpanId(*(hexadecimal(part, content_type) for part in parts))


def _read(push: Push, context: Context) -> Reading:
    return read_traces(push.body, push.media_type, context.naming, context.reports, context.now)


FORMAT = Format(
    path="/v1/traces",
    source="otlp_traces",
    summary="Receive OTLP traces.",
    read=_read,
    media_types=MEDIA_TYPES,
    encoding=answers(traces_answer),
)
