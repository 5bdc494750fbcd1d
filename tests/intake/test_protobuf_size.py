"""How many messages a Protobuf body would become is known before it becomes them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from exporter.intake import protobuf_size
from exporter.intake.protobuf_size import check_messages
from exporter.intake.reading import MalformedBody
from exporter.intake.remote_write_messages import RequestV1, RequestV2


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_size, "SMALL", 0)


def messages(message: Any) -> int:
    """The messages within a message, however deep."""
    found = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                found += 1 + messages(one)
    return found


def counted(body: bytes, kind: Any) -> int:
    """How many it is said to hold."""
    most = 0
    while True:
        try:
            check_messages(body, kind, most)
        except MalformedBody:
            most += 1
        else:
            return most


texts = st.text(max_size=200)


@st.composite
def traces(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 3))):
        resource = request.resource_spans.add()
        for _ in range(draw(st.integers(0, 3))):
            span = resource.scope_spans.add().spans.add(name=draw(texts), start_time_unix_nano=5)
            span.status.code = 1
            for _ in range(draw(st.integers(0, 3))):
                value = span.attributes.add(key=draw(texts)).value
                for _ in range(draw(st.integers(0, 2))):
                    value.array_value.values.add(int_value=-1)
                    value = value.array_value.values.add()
                value.double_value = 0.5
    return request


@given(traces())
def test_every_message_is_counted(request_: ExportTraceServiceRequest) -> None:
    body = request_.SerializeToString()
    assert counted(body, ExportTraceServiceRequest) == messages(request_)


def test_messages_of_remote_write_are_counted() -> None:
    first = RequestV1(timeseries=[{"labels": [{"name": "a"}, {}], "samples": [{"value": 1}]}, {}])
    assert counted(first.SerializeToString(), RequestV1) == 5
    second = RequestV2(symbols=["", "a"], timeseries=[{"labels_refs": [1, 1], "samples": [{}]}])
    assert counted(second.SerializeToString(), RequestV2) == 2


@given(st.binary(max_size=200))
def test_anything_else_is_for_the_parser_to_refuse(body: bytes) -> None:
    check_messages(body, ExportTraceServiceRequest)


def test_what_is_too_much_is_refused() -> None:
    body = b"\x0a\x00" * 5
    check_messages(body, ExportTraceServiceRequest, 5)
    with pytest.raises(MalformedBody, match="expected at most 4 messages within, got more"):
        check_messages(body, ExportTraceServiceRequest, 4)
