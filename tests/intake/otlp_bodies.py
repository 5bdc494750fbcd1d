"""OTLP request bodies for tests, in both encodings, and a store's view of what is read of them."""

import json
from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from exporter.core.usage import Tokens, Usage
from exporter.intake.otlp import JSON, PROTOBUF

NANO = 1_000_000_000
ENCODINGS = (PROTOBUF, JSON)


def _any_value(value: object) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes, with `__` in a name standing for a dot."""
    return [
        {"key": key.replace("__", "."), "value": _any_value(value)} for key, value in values.items()
    ]


def _resource(service: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return {"attributes": _attributes({"service.name": service, **attributes})}


def point(
    value: int, start: float, end: float, requests: int = 1, **attributes: Any
) -> dict[str, Any]:
    """A data point that is good for a sum and for a histogram (names in `attributes` use `__`)."""
    return {
        "attributes": _attributes(attributes),
        "startTimeUnixNano": str(int(start * NANO)),
        "timeUnixNano": str(int(end * NANO)),
        "asInt": str(value),
        "sum": float(value),
        "count": str(requests),
    }


def metric(
    name: str, points: list[dict[str, Any]], temporality: int, kind: str = "sum"
) -> dict[str, Any]:
    """A metric; temporality 1 is delta, 2 cumulative."""
    unwanted = {"sum": {"sum", "count"}, "histogram": {"asInt"}}[kind]
    return {
        "name": name,
        kind: {
            "aggregationTemporality": temporality,
            **({"isMonotonic": True} if kind == "sum" else {}),
            "dataPoints": [
                {key: value for key, value in one.items() if key not in unwanted} for one in points
            ],
        },
    }


def metrics_body(
    metrics: list[dict[str, Any]], content_type: str = JSON, service: str = "shop", **resource: Any
) -> bytes:
    request = {
        "resourceMetrics": [
            {
                "resource": _resource(service, resource),
                "scopeMetrics": [{"scope": {"name": "test"}, "metrics": metrics}],
            }
        ]
    }
    return _encoded(request, ExportMetricsServiceRequest(), content_type)


def span(
    number: int, end: float, parent: int | None = None, trace: int | None = None, **attributes: Any
) -> dict[str, Any]:
    """A span with hexadecimal ids made of its number, in a trace of its own unless one is given."""
    return {
        "traceId": f"{number if trace is None else trace:032x}",
        "spanId": f"{number:016x}",
        **({} if parent is None else {"parentSpanId": f"{parent:016x}"}),
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": str(int((end - 1) * NANO)),
        "endTimeUnixNano": str(int(end * NANO)),
        "attributes": _attributes(attributes),
    }


def traces_body(
    spans: list[dict[str, Any]],
    content_type: str = JSON,
    service: str = "shop",
    library: str = "test",
    **resource: Any,
) -> bytes:
    request = {
        "resourceSpans": [
            {
                "resource": _resource(service, resource),
                "scopeSpans": [{"scope": {"name": library}, "spans": spans}],
            }
        ]
    }
    if content_type == PROTOBUF:
        for one in spans:
            assert len(one["traceId"]) == 32
    return _encoded(request, ExportTraceServiceRequest(), content_type)


def record(at: float, body: str = "", name: str = "", **attributes: Any) -> dict[str, Any]:
    """A log record."""
    return {
        "timeUnixNano": str(int(at * NANO)),
        "eventName": name,
        "body": {"stringValue": body},
        "attributes": _attributes(attributes),
    }


def logs_body(
    records: list[dict[str, Any]],
    content_type: str = JSON,
    service: str = "shop",
    library: str = "test",
    **resource: Any,
) -> bytes:
    request = {
        "resourceLogs": [
            {
                "resource": _resource(service, resource),
                "scopeLogs": [{"scope": {"name": library}, "logRecords": records}],
            }
        ]
    }
    return _encoded(request, ExportLogsServiceRequest(), content_type)


def _encoded(request: dict[str, Any], message: Any, content_type: str) -> bytes:
    if content_type == JSON:
        return json.dumps(request).encode()
    _fill(message, request)
    body: bytes = message.SerializeToString()
    return body


def _fill(message: Any, fields: dict[str, Any]) -> None:
    """Set fields by hand: Protobuf's own JSON has no hexadecimal ids."""
    for field in message.DESCRIPTOR.fields:
        value = fields.get(field.json_name)
        if value is None:
            continue
        if isinstance(value, list):
            for one in value:
                _fill(getattr(message, field.name).add(), one)
        elif isinstance(value, dict):
            getattr(message, field.name).SetInParent()
            _fill(getattr(message, field.name), value)
        elif field.name in ("trace_id", "span_id", "parent_span_id"):
            setattr(message, field.name, bytes.fromhex(value))
        elif isinstance(getattr(message, field.name), int) and isinstance(value, str):
            setattr(message, field.name, int(value))
        else:
            setattr(message, field.name, value)


class Books:
    """What a store promises: an id counts once, of a stream only what it rose by.

    A stream that began before the store (`created`) is remembered first. The kinds of a rise
    never come to more than the rise of the sum, since parts may be reported apart from wholes.
    """

    def __init__(self, created: float = 1.0) -> None:
        self.created = created
        self.tokens = [0] * len(Tokens._fields)
        self.requests = 0
        self._ids: set[tuple[str, str]] = set()
        self._streams: dict[str, Usage] = {}

    def add(self, usages: Iterable[Usage]) -> None:
        for usage in usages:
            if usage.stream:
                self._rise(usage)
            elif not usage.id or (usage.provider, usage.id) not in self._ids:
                self._ids.add((usage.provider, usage.id))
                self._count(usage.tokens, usage.requests)

    def _rise(self, usage: Usage) -> None:
        last = self._streams.get(usage.stream)
        if last is not None and last.started == usage.started:
            left = sum(usage.tokens) - sum(last.tokens)
            if left < 0:
                return
            rise = []
            for new, old in zip(usage.tokens, last.tokens, strict=True):
                rise.append(min(left, max(0, new - old)))
                left -= rise[-1]
            self._count(Tokens(*rise), usage.requests - last.requests)
        elif last is not None or usage.started >= self.created:
            self._count(usage.tokens, usage.requests)
        self._streams[usage.stream] = usage

    def _count(self, tokens: Tokens, requests: int) -> None:
        self.tokens = [a + b for a, b in zip(self.tokens, tokens, strict=True)]
        self.requests += requests
