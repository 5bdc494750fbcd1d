"""OTLP over HTTP: bodies and answers in both encodings.

https://opentelemetry.io/docs/specs/otlp/#otlphttp. JSON differs from Protobuf's own mapping in
one point: trace and span ids are hexadecimal.
"""

from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from exporter.core.usage import Usage
from exporter.intake import rejections
from exporter.intake.format import Encoding
from exporter.intake.naming import Naming
from exporter.intake.protobuf_size import check_messages
from exporter.intake.reading import MalformedBody, Reading
from exporter.intake.rejections import Rejected
from exporter.storage.contract import Answer

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MEDIA_TYPES = (PROTOBUF, JSON)

MAX_OBJECTS = 400_000
"""JSON objects in a body: ten megabytes of real spans have half as many, and take seconds."""

MAX_RESOURCES = 10_000
"""Resources in a body; a collector batches a few hundred."""

_PROCESS = frozenset({"telemetry.sdk.language", "process.pid"})
"""What an SDK says of the process that it is in."""

_SHOWN_ERRORS = 3

_M = TypeVar("_M", bound=Message)


def encoding(content_type: str) -> str:
    """`PROTOBUF` or `JSON`.

    Raises:
        MalformedBody: it is neither.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in (PROTOBUF, JSON):
        raise MalformedBody(f"content-type: expected {PROTOBUF} or {JSON}, got {content_type!r}")
    return kind


def decode(body: bytes, content_type: str, request: _M) -> _M:
    """Fill a request message from a body.

    Raises:
        MalformedBody: it is not one.
    """
    kind = encoding(content_type)
    if kind == JSON and body.count(b"{") > MAX_OBJECTS:
        raise MalformedBody(f"body: expected at most {MAX_OBJECTS} JSON objects, got more")
    try:
        if kind == JSON:
            json_format.Parse(body, request, ignore_unknown_fields=True)
        else:
            check_messages(body, type(request))
            request.ParseFromString(body)
    # The JSON parser lets a few built-in errors of odd values through.
    except (json_format.ParseError, DecodeError, ValueError, TypeError, RecursionError) as error:
        name = request.DESCRIPTOR.name
        raise MalformedBody(f"body: expected {name} as {kind}, {str(error)[:200]}") from error
    for _, resources in request.ListFields():
        if len(resources) > MAX_RESOURCES:
            raise MalformedBody(
                f"body: expected at most {MAX_RESOURCES} resources, got {len(resources)}"
            )
    return request


def hexadecimal(identity: bytes, content_type: str) -> str:
    """A trace or span id as people write it.

    Protobuf's JSON parser takes hexadecimal digits for base64, which encoding undoes exactly.
    """
    if encoding(content_type) == JSON:
        return b64encode(identity).decode().lower()
    return identity.hex()


def metrics_answer(content_type: str, rejected: Rejected) -> bytes:
    """The body of a 200 to a metrics request, with partial success where items were rejected."""
    answer = ExportMetricsServiceResponse()
    if rejected.listed:
        answer.partial_success.rejected_data_points = len(rejected.listed) + rejected.more
        answer.partial_success.error_message = _summary(rejected)
    return _encode(answer, content_type)


def traces_answer(content_type: str, rejected: Rejected) -> bytes:
    """The body of a 200 to a traces request, with partial success where spans were rejected."""
    answer = ExportTraceServiceResponse()
    if rejected.listed:
        answer.partial_success.rejected_spans = len(rejected.listed) + rejected.more
        answer.partial_success.error_message = _summary(rejected)
    return _encode(answer, content_type)


def logs_answer(content_type: str, rejected: Rejected) -> bytes:
    """The body of a 200 to a logs request, with partial success where records were rejected."""
    answer = ExportLogsServiceResponse()
    if rejected.listed:
        answer.partial_success.rejected_log_records = len(rejected.listed) + rejected.more
        answer.partial_success.error_message = _summary(rejected)
    return _encode(answer, content_type)


def error_answer(content_type: str, message: str) -> bytes:
    """The body of a 4xx or 5xx: a `google.rpc.Status`.

    OpenTelemetry's own Status has the same text in the same field.
    """
    return _encode(Status(message=message), content_type)


def answers(write: Callable[[str, Rejected], bytes]) -> Encoding:
    """Answers to OTLP, in the encoding of the request: `write` makes the body of a 200."""

    def answer(answer: Answer, content_type: str) -> bytes:
        return write(content_type, rejections.decode(answer.rejected))

    def error(message: str, content_type: str) -> bytes:
        return error_answer(content_type, message)

    return Encoding(answer, error, echoes=True, partial_success=True)


def texts(attributes: Iterable[KeyValue], wanted: frozenset[str]) -> dict[str, Any]:
    """The wanted attributes with plain values; the others, prompts among them, are not touched."""
    found: dict[str, Any] = {}
    for attribute in attributes:
        if attribute.key in wanted:
            kind = attribute.value.WhichOneof("value")
            if kind in ("string_value", "int_value", "double_value", "bool_value"):
                found[attribute.key] = getattr(attribute.value, kind)
    return found


def numbers(attributes: Iterable[KeyValue]) -> Iterable[str]:
    """The names of attributes that are numbers."""
    kinds = ("int_value", "double_value")
    return (one.key for one in attributes if one.value.WhichOneof("value") in kinds)


def first(found: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first of several names for one text that is in use, or an empty one."""
    return next((str(found[name]) for name in names if found.get(name)), "")


def uncharge(reading: Reading, reason: str, items: int = 1) -> None:
    """Count items that were understood and rightly not charged."""
    reading.uncharged[reason] = reading.uncharged.get(reason, 0) + items


def add(reading: Reading, said: Usage | str | None, items: int = 1) -> None:
    """Add what counts of a report, or why nothing does; None is held, and added later."""
    if isinstance(said, str):
        uncharge(reading, said, items)
    elif said is not None:
        reading.usages.append(said)


def is_alone(reporter: Mapping[str, str]) -> bool:
    """Whether whoever reports has no SDK that could report in other ways as well."""
    return _PROCESS.isdisjoint(reporter)


def service_of(resource: Resource) -> str:
    """`namespace/name` of the service that reports, or its name alone."""
    found = texts(resource.attributes, frozenset({"service.namespace", "service.name"}))
    parts = (found.get("service.namespace"), found.get("service.name"))
    return "/".join(str(part) for part in parts if part)


def attributes_of(resource: Resource, naming: Naming) -> dict[str, str]:
    """What names the provider and the consumer of everything a resource reports: its `service`,
    and the attributes that the configuration asks for."""
    found = texts(resource.attributes, naming.otel_attributes | _PROCESS)
    return {**{name: str(value) for name, value in found.items()}, "service": service_of(resource)}


def digest(attributes: Iterable[KeyValue], *parts: str, without: Iterable[str] = ()) -> str:
    """A stable identity of attributes, in whatever order they came, and texts."""
    state = blake2b(digest_size=16)
    pairs = (
        (attribute.key.encode(), attribute.value.SerializeToString(deterministic=True))
        for attribute in attributes
        if attribute.key not in without
    )
    for piece in (*(part.encode() for part in parts), *(b for pair in sorted(pairs) for b in pair)):
        state.update(len(piece).to_bytes(8, "little"))
        state.update(piece)
    return state.hexdigest()


def _encode(message: Message, content_type: str) -> bytes:
    if encoding(content_type) == JSON:
        return json_format.MessageToJson(message, indent=None).encode()
    return message.SerializeToString()


def _summary(rejected: Rejected) -> str:
    listed = rejected.listed
    shown = "; ".join(f"{one.index}: {one.error}" for one in listed[:_SHOWN_ERRORS])
    more = len(listed) - _SHOWN_ERRORS + rejected.more
    return f"{shown}; and {more} more" if more > 0 else shown
