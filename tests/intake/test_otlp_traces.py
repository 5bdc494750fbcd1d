"""OTLP spans: each call of a model once, never what repeats it, never a prompt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from exporter.core.usage import Tokens
from exporter.intake.naming import Naming
from exporter.intake.otlp import JSON, PROTOBUF, traces_answer
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_traces import read_traces
from exporter.intake.reading import MalformedBody, Reading, Rejection
from exporter.intake.rejections import Rejected
from tests.intake.otlp_bodies import ENCODINGS, Books, span, traces_body

T = 1_795_436_000.0
NAMING = Naming({}, [], ["openai"])
CHAT = {
    "gen_ai__operation__name": "chat",
    "gen_ai__provider__name": "openai",
    "gen_ai__request__model": "gpt-4o",
    "gen_ai__input__messages": "SECRET",
}
NEW = {
    "gen_ai__usage__input_tokens": 100,
    "gen_ai__usage__output_tokens": 50,
    "gen_ai__usage__cache_read__input_tokens": 40,
    "gen_ai__usage__cache_creation__input_tokens": 10,
    "gen_ai__usage__reasoning__output_tokens": 20,
}


def read(spans: list[dict[str, Any]], content_type: str = JSON) -> Reading:
    return read_traces(
        traces_body(spans, content_type), content_type, NAMING, Reports(Sources()), T + 60
    )


@pytest.mark.parametrize("content_type", ENCODINGS)
@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(NEW, Tokens(50, 40, 10, 30, 20), id="the conventions"),
        pytest.param(
            {
                "gen_ai__usage__prompt_tokens": 100,
                "gen_ai__usage__completion_tokens": 50,
                "llm__usage__total_tokens": 150,
                "gen_ai__usage__cache_read_input_tokens": 40,
            },
            Tokens(input=60, cache_read=40, output=50),
            id="before the conventions",
        ),
        pytest.param(
            {"llm__usage__prompt_tokens": 100, "llm__usage__completion_tokens": 50},
            Tokens(input=100, output=50),
            id="long before",
        ),
        pytest.param(
            {"gen_ai__usage__input_tokens": 100.0, "gen_ai__usage__output_tokens": 0},
            Tokens(input=100),
            id="whole numbers as floats",
        ),
        pytest.param(
            {"llm__usage__total_tokens": 150}, Tokens(unspecified=150), id="a total alone"
        ),
        pytest.param(
            {
                "gen_ai__usage__input_tokens": 10,
                "gen_ai__usage__output_tokens": 50,
                "gen_ai__usage__cache_read__input_tokens": 40,
            },
            Tokens(input=10, cache_read=40, output=50),
            id="a cache beside the input, as it is larger",
        ),
        pytest.param(
            {
                "gen_ai__usage__input_tokens": 60,
                "gen_ai__usage__output_tokens": 50,
                "gen_ai__usage__total_tokens": 150,
                "gen_ai__usage__cache_read__input_tokens": 40,
            },
            Tokens(input=60, cache_read=40, output=50),
            id="a cache beside the input, as the total says",
        ),
    ],
)
def test_new_and_old_attributes_become_disjoint_kinds(
    usage: dict[str, Any], tokens: Tokens, content_type: str
) -> None:
    (found,) = read([span(1, T, **CHAT, **usage)], content_type).usages
    assert (found.provider, found.model, found.timestamp) == ("openai", "gpt-4o", T)
    assert found.tokens == tokens


def test_no_other_attribute_is_kept() -> None:
    assert "SECRET" not in repr(read([span(1, T, **CHAT, **NEW)]))


def test_a_span_is_identified_by_its_response_or_else_by_itself_in_both_encodings() -> None:
    spans = [span(1, T, **CHAT, **NEW), span(2, T, gen_ai__response__id="resp-1", **CHAT, **NEW)]
    for content_type in ENCODINGS:
        identities = [usage.id for usage in read(spans, content_type).usages]
        assert identities == [f"{1:032x}:{1:016x}", "resp-1"]


@pytest.mark.parametrize(
    "attributes",
    [
        {**CHAT, "gen_ai__operation__name": "invoke_agent"},
        {**CHAT, "gen_ai__operation__name": "invoke_workflow"},
        {**CHAT, "gen_ai__operation__name": "execute_tool"},
        {**CHAT, "traceloop__span__kind": "workflow"},
    ],
)
def test_a_span_around_calls_repeats_them_and_is_uncharged(attributes: dict[str, Any]) -> None:
    reading = read([span(1, T, **attributes, **NEW)])
    assert reading.usages == []
    assert reading.uncharged == {"not_inference": 1}


@pytest.mark.parametrize("operation", ["chat", "text_completion", "generate_content", "embeddings"])
def test_every_call_of_a_model_counts(operation: str) -> None:
    attributes = {**CHAT, "gen_ai__operation__name": operation}
    assert len(read([span(1, T, **attributes, **NEW)]).usages) == 1


def test_a_call_without_an_operation_counts_and_other_spans_are_passed_over() -> None:
    unnamed = {"gen_ai__system": "openai", **NEW}
    assert len(read([span(1, T, **unnamed), span(2, T, http__method="GET")]).usages) == 1


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        (
            {**CHAT, "gen_ai__usage__input_tokens": -5},
            "gen_ai.usage.input_tokens: expected a whole number from 0 to 9007199254740992, got -5",
        ),
        (
            {**CHAT, "gen_ai__usage__input_tokens": "many"},
            "gen_ai.usage.input_tokens: "
            "expected a whole number from 0 to 9007199254740992, got 'many'",
        ),
    ],
)
def test_a_bad_span_is_rejected_alone_with_its_position(
    attributes: dict[str, Any], error: str
) -> None:
    reading = read(
        [span(1, T, http__method="GET"), span(2, T, **attributes), span(3, T, **CHAT, **NEW)]
    )
    assert reading.rejected == [Rejection(1, error)]
    assert len(reading.usages) == 1


def test_a_span_of_nobody_known_is_uncharged() -> None:
    assert read([span(1, T, **NEW)]) == Reading(uncharged={"unknown_provider": 1})


def test_the_answer_names_rejected_spans() -> None:
    rejected = Rejected([Rejection(1, "why")])
    answer = ExportTraceServiceResponse.FromString(traces_answer(PROTOBUF, rejected))
    assert answer.partial_success.rejected_spans == 1
    assert answer.partial_success.error_message == "1: why"


@pytest.mark.parametrize("content_type", ENCODINGS)
def test_a_body_that_is_no_request_is_malformed(content_type: str) -> None:
    with pytest.raises(MalformedBody, match="body: expected ExportTraceServiceRequest as appl"):
        read_traces(b"\x0a\xff{", content_type, NAMING, Reports(Sources()), T)


@given(
    calls=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=8),
    data=st.data(),
)
def test_any_encoding_split_order_and_retry_counts_each_call_once(
    calls: list[tuple[int, bool]], data: st.DataObject
) -> None:
    spans = {
        number: span(
            number,
            T + number,
            **CHAT,
            **NEW,
            **({"gen_ai__response__id": f"resp-{number}"} if named else {}),
        )
        for number, named in calls
    }
    books, sources = Books(), Sources()
    sent = data.draw(st.permutations([number for number, _ in calls] + [*spans]))
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        content_type = data.draw(st.sampled_from(ENCODINGS))
        body = traces_body([spans[number] for number in sent[:size]], content_type)
        books.add(read_traces(body, content_type, NAMING, Reports(sources), T).usages)
        sent = sent[size:]
    assert sum(books.tokens) == 150 * len(spans)
    assert books.requests == len(spans)


@given(st.binary(max_size=60), st.sampled_from(ENCODINGS))
def test_nothing_but_a_malformed_body_escapes(body: bytes, content_type: str) -> None:
    try:
        read_traces(body, content_type, NAMING, Reports(Sources()), T)
    except MalformedBody:
        return
