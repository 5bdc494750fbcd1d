"""OTLP log records by which tools tell of calls of models and of refusals.

`log_events` has the tools. No attribute but theirs is looked at, and of bodies only a name.
"""

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from exporter.core.usage import Usage
from exporter.intake import rejections
from exporter.intake.format import Context, Format, Push
from exporter.intake.log_events.event import Refused
from exporter.intake.log_events.tools import ATTRIBUTES, EVENTS, Event, full_name
from exporter.intake.naming import BY_RULE, UNKNOWN_PROVIDER, Naming
from exporter.intake.otlp import (
    MEDIA_TYPES,
    add,
    answers,
    attributes_of,
    decode,
    digest,
    hexadecimal,
    is_alone,
    logs_answer,
    numbers,
    texts,
    uncharge,
)
from exporter.intake.otlp_ranks import Source, keys
from exporter.intake.otlp_reports import Report, Reports
from exporter.intake.reading import Reading
from exporter.intake.signals import MIN_QUOTA_SECONDS, read_response
from exporter.intake.spans import conventions
from exporter.intake.spans.convention import LIBRARY, Call

UNKNOWN = "unknown_event"
"""Why a record is not counted that seems to tell of usage, nobody knows how."""

_NAME = "event.name"
_MAX_NAME = 128


def read_logs(
    body: bytes,
    content_type: str,
    naming: Naming,
    reports: Reports,
    now: float,
    exhausted_from: float = MIN_QUOTA_SECONDS,
) -> Reading:
    """Read an `ExportLogsServiceRequest`; rejections are indexed by record over the request.

    Raises:
        MalformedBody: it is not one.
    """
    request = decode(body, content_type, ExportLogsServiceRequest())
    reading = Reading()
    reader = _Reader(content_type, naming, reports, now, exhausted_from, reading)
    position = -1
    for resource_logs in request.resource_logs:
        reporter = attributes_of(resource_logs.resource, naming)
        origin = digest(resource_logs.resource.attributes)
        for scope in resource_logs.scope_logs:
            for record in scope.log_records:
                position += 1
                with rejections.item(reading.rejected, position):
                    reader.read(record, scope.scope.name, reporter, origin)
    return reading


class _Reader(NamedTuple):
    """What is needed to read the records of one request, and what they are read into."""

    content_type: str
    naming: Naming
    reports: Reports
    now: float
    exhausted_from: float
    reading: Reading

    def read(self, record: LogRecord, scope: str, reporter: Mapping[str, str], origin: str) -> None:
        event = _event(record, scope)
        if event is None:
            if conventions.looks_like_usage(numbers(record.attributes)):
                uncharge(self.reading, UNKNOWN)
            return
        said = event.read({**texts(record.attributes, ATTRIBUTES), LIBRARY: scope})
        if said is None:
            return
        if isinstance(said, str):
            uncharge(self.reading, said)
            return
        found = texts(record.attributes, self.naming.otel_attributes)
        own = {name: str(value) for name, value in found.items()}
        answered = said.answered if isinstance(said, Call) else ""
        model = self.naming.model(said.model, answered)
        attributes = {**reporter, **own, "model": model}
        provider = self.naming.of_call(said.provider, attributes)
        if not provider:
            uncharge(self.reading, UNKNOWN_PROVIDER)
            return
        at = (record.time_unix_nano or record.observed_time_unix_nano) / 1e9
        consumer = self.naming.consumer(attributes)
        if isinstance(said, Refused):
            self._refuse(said, provider, consumer, at or self.now)
            return
        if not self.naming.counts(said.provider, attributes):
            uncharge(self.reading, BY_RULE)
            return
        source: Source = "inference_events" if event.tool.general else "tool_events"
        usage = Usage(
            provider,
            said.tokens,
            model,
            said.identity or self._identity(event, record, origin, at),
            at or None,
            consumer=consumer,
            cost_nano_usd=said.cost_nano_usd,
            call=said.reported_by(reporter["service"]),
        )
        services = keys(reporter["service"], provider, model, answered)
        report = Report(FORMAT.path, services, source, usage, at or self.now)
        add(self.reading, self.reports.counted(report, self.now, alone=is_alone(reporter)))

    def _identity(self, event: Event, record: LogRecord, origin: str, at: float) -> str:
        """Of a record that repeats a span, the span's."""
        if event.tool.general and record.span_id:
            ids = (hexadecimal(one, self.content_type) for one in (record.trace_id, record.span_id))
            return ":".join(ids)
        return digest(record.attributes, origin, repr(at))

    def _refuse(self, said: Refused, provider: str, consumer: str, at: float) -> None:
        if not said.status:  # it failed before the provider answered
            uncharge(self.reading, "failed")
            return
        signal = read_response(
            provider, said.status, {}, said.body, at, said.model, consumer, self.exhausted_from
        )
        if signal.refusal is None:
            uncharge(self.reading, "failed")
        else:
            self.reading.signals.append(signal)


def _event(record: LogRecord, scope: str) -> Event | None:
    """Whose event a record is: its name is a field, an attribute, or the body."""
    attribute = texts(record.attributes, frozenset({_NAME})).get(_NAME, "")
    for name in (record.event_name, str(attribute), record.body.string_value):
        if name and len(name) <= _MAX_NAME:
            event = EVENTS.get(full_name(scope, name))
            if event is not None:
                return event
    return None


def _read(push: Push, context: Context) -> Reading:
    return read_logs(
        push.body,
        push.media_type,
        context.naming,
        context.reports,
        context.now,
        context.exhausted_from,
    )


FORMAT = Format(
    path="/v1/logs",
    source="otlp_logs",
    summary="Receive OTLP logs.",
    read=_read,
    media_types=MEDIA_TYPES,
    encoding=answers(logs_answer),
)
