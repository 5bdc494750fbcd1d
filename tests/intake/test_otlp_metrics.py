"""OTLP metrics: every token once, in whatever encoding, temporality and split it is reported."""

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)

from exporter.core.usage import Tokens
from exporter.intake.naming import Naming
from exporter.intake.otlp import JSON, PROTOBUF, error_answer, metrics_answer
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.reading import MalformedBody, Reading, Rejection
from exporter.intake.rejections import Rejected
from tests.intake.otlp_bodies import ENCODINGS, Books, metric, metrics_body, point

T = 1_795_436_000.0
NAMING = Naming({}, [], ["openai", "anthropic", "gemini"])
DELTA, CUMULATIVE = 1, 2
TOKEN_USAGE = "gen_ai.client.token.usage"
INFERENCE = "gen_ai.client.inference.usage."
OPENAI = {"gen_ai__provider__name": "openai", "gen_ai__request__model": "gpt-4o"}


def read(body: bytes, content_type: str = JSON, sources: Sources | None = None) -> Reading:
    return read_metrics(body, content_type, NAMING, Reports(sources or Sources()), T + 60)


def both(name: str, temporality: int, values: dict[str, int], **attributes: Any) -> dict[str, Any]:
    """A metric with one data point per token type."""
    (attribute,) = (key for key in attributes if attributes[key] is None)
    points = [
        point(value, T, T + 60, **{**attributes, attribute: token_type})
        for token_type, value in values.items()
    ]
    return metric(name, points, temporality)


def counted(reading: Reading) -> Tokens:
    return Tokens(
        *(sum(kind) for kind in zip(*(one.tokens for one in reading.usages), strict=True))
    )


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
@pytest.mark.parametrize("content_type", ENCODINGS)
@pytest.mark.parametrize(
    ("sent", "provider", "tokens", "uncharged"),
    [
        pytest.param(
            both(TOKEN_USAGE, 0, {"input": 100, "output": 50}, gen_ai__token__type=None, **OPENAI),
            "openai",
            Tokens(input=100, output=50),
            {},
            id="the conventions",
        ),
        pytest.param(
            both(
                TOKEN_USAGE,
                0,
                {"prompt": 100, "completion": 50, "total": 150, "cached_input": 40, "odd": 7},
                gen_ai__token__type=None,
                gen_ai__system="openai",
            ),
            "openai",
            Tokens(input=60, cache_read=40, output=50),
            {"total": 1, "unknown_token_type": 1},
            id="old and additional types",
        ),
        pytest.param(
            both(
                "claude_code.token.usage",
                0,
                {"input": 10, "output": 50, "cacheRead": 40, "cacheCreation": 30},
                type=None,
                model="claude-sonnet-4-5",
            ),
            "anthropic",
            Tokens(input=10, cache_read=40, cache_write=30, output=50),
            {},
            id="claude code",
        ),
        pytest.param(
            both(
                "codex.turn.token_usage",
                0,
                {
                    "total": 150,
                    "input": 100,
                    "cached_input": 40,
                    "output": 50,
                    "reasoning_output": 20,
                },
                token_type=None,
            ),
            "openai",
            Tokens(input=60, cache_read=40, output=30, reasoning=20),
            {"total": 1},
            id="codex",
        ),
        pytest.param(
            both(
                "gemini_cli.token.usage",
                0,
                {"input": 90, "cache": 40, "tool": 10, "output": 30, "thought": 20},
                type=None,
                model="gemini-3-pro",
            ),
            "gemini",
            Tokens(input=60, cache_read=40, output=30, reasoning=20),
            {},
            id="gemini cli",
        ),
    ],
)
def test_every_reporters_types_become_disjoint_kinds(
    sent: dict[str, Any],
    provider: str,
    tokens: Tokens,
    uncharged: dict[str, int],
    content_type: str,
    temporality: int,
) -> None:
    sent["sum"]["aggregationTemporality"] = temporality
    reading = read(metrics_body([sent], content_type), content_type)
    assert counted(reading) == tokens
    assert {usage.provider for usage in reading.usages} == {provider}
    assert reading.uncharged == uncharged
    assert reading.rejected == []
    assert all(bool(usage.stream) == (temporality == CUMULATIVE) for usage in reading.usages)
    assert all(bool(usage.id) == (temporality == DELTA) for usage in reading.usages)
    assert all(usage.timestamp == T + 60 for usage in reading.usages)


def inference(
    values: dict[str, int], temporality: int, end: float = T + 60
) -> list[dict[str, Any]]:
    """The newer counters; parts are first seen later than wholes, as in SDKs."""
    return [
        metric(
            INFERENCE + name,
            [point(value, T + order, end, gen_ai__token__modality="text", **OPENAI)],
            temporality,
        )
        for order, (name, value) in enumerate(values.items())
    ]


ALL_INFERENCE = {
    "input_tokens": 100,
    "output_tokens": 50,
    "cache_read.input_tokens": 40,
    "cache_write.input_tokens": 10,
    "reasoning.output_tokens": 20,
}


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
def test_the_newer_counters_parts_are_not_added_to_their_wholes(temporality: int) -> None:
    reading = read(metrics_body(inference(ALL_INFERENCE, temporality)))
    assert counted(reading) == Tokens(50, 40, 10, 30, 20)
    assert len(reading.usages) == 2


def test_a_part_without_its_whole_counts_nothing() -> None:
    reading = read(metrics_body(inference({"cache_read.input_tokens": 40}, CUMULATIVE)))
    assert reading.usages == []
    assert reading.uncharged == {"part_without_whole": 1}


def test_two_exports_of_a_delta_in_one_request_are_both_counted() -> None:
    first = inference({"input_tokens": 100, "cache_read.input_tokens": 40}, DELTA, T + 60)
    second = inference({"input_tokens": 10, "cache_read.input_tokens": 10}, DELTA, T + 120)
    reading = read(metrics_body([*first, *second]))
    assert [usage.tokens for usage in reading.usages] == [
        Tokens(input=60, cache_read=40),
        Tokens(cache_read=10),
    ]


def test_a_histograms_sum_is_tokens_and_its_count_requests() -> None:
    points = [
        point(300, T, T + 60, requests=3, gen_ai__token__type="input", **OPENAI),
        point(150, T, T + 60, requests=3, gen_ai__token__type="output", **OPENAI),
    ]
    reading = read(metrics_body([metric(TOKEN_USAGE, points, CUMULATIVE, "histogram")]))
    assert counted(reading) == Tokens(input=300, output=150)
    assert sum(usage.requests for usage in reading.usages) == 3


def test_metrics_that_count_no_tokens_are_passed_over() -> None:
    other = metric("http.server.requests", [point(5, T, T + 60)], DELTA)
    gauge = {"name": "memory", "gauge": {"dataPoints": [{"asInt": "5"}]}}
    assert read(metrics_body([other, gauge, {"name": "empty"}])) == Reading()


def test_rules_see_the_service_and_the_model() -> None:
    class Rule(NamedTuple):
        match: dict[str, str]
        provider: str

    naming = Naming({}, [Rule({"service": "eu/shop", "model": "gpt-*"}, "openai-eu")], [])
    sent = both(TOKEN_USAGE, DELTA, {"input": 1}, gen_ai__token__type=None, **OPENAI)
    body = metrics_body([sent], service__namespace="eu")
    (usage,) = read_metrics(body, JSON, naming, Reports(Sources()), T).usages
    assert (usage.provider, usage.model) == ("openai-eu", "gpt-4o")


def bad(**changes: Any) -> dict[str, Any]:
    sent = both(TOKEN_USAGE, DELTA, {"input": 1}, gen_ai__token__type=None, **OPENAI)
    sent["sum"]["dataPoints"][0] |= changes
    return sent


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (
            bad(asInt="-5"),
            "as_int: expected a whole number from 0 to 9007199254740992, got -5",
        ),
        (
            bad(asInt=None, asDouble=1.5),
            "as_double: expected a whole number from 0 to 9007199254740992, got 1.5",
        ),
        (bad(timeUnixNano="0"), "time_unix_nano: expected the end of a delta's interval, got 0"),
        (
            both(TOKEN_USAGE, 0, {"input": 1}, gen_ai__token__type=None, **OPENAI),
            "aggregation_temporality: expected 1 or 2, got 0",
        ),
        (
            {
                "name": TOKEN_USAGE,
                "sum": {**bad()["sum"], "isMonotonic": False},
            },
            "is_monotonic: expected a counter, got false",
        ),
        (
            {"name": TOKEN_USAGE, "gauge": {"dataPoints": bad()["sum"]["dataPoints"]}},
            "expected a sum or a histogram, got a gauge",
        ),
        (
            {
                "name": TOKEN_USAGE,
                "histogram": {
                    "aggregationTemporality": 1,
                    "dataPoints": [
                        {
                            k: v
                            for k, v in bad()["sum"]["dataPoints"][0].items()
                            if k != "asInt" and k != "sum"
                        }
                    ],
                },
            },
            "sum: expected the sum of a histogram, got none",
        ),
    ],
)
def test_a_bad_data_point_is_rejected_alone_with_its_position(
    sent: dict[str, Any], error: str
) -> None:
    if "sum" in sent:
        for one in sent["sum"]["dataPoints"]:
            one.pop("sum", None), one.pop("count", None)
    other = metric("http.server.requests", [point(5, T, T + 60)], DELTA)
    good = both(TOKEN_USAGE, DELTA, {"output": 2}, gen_ai__token__type=None, **OPENAI)
    reading = read(metrics_body([other, sent, good]))
    assert reading.rejected == [Rejection(1, f"{TOKEN_USAGE}: {error}")]
    assert counted(reading) == Tokens(output=2)


def test_a_data_point_of_nobody_known_is_uncharged() -> None:
    sent = both(TOKEN_USAGE, DELTA, {"input": 1}, gen_ai__token__type=None)
    assert read(metrics_body([sent])) == Reading(uncharged={"unknown_provider": 1})


def test_no_recorded_value_is_no_value() -> None:
    assert read(metrics_body([bad(flags=1)])) == Reading()


@pytest.mark.parametrize(
    ("body", "content_type", "error"),
    [
        (b"{", JSON, "body: expected ExportMetricsServiceRequest as application/json, "),
        (b"\xff", JSON, "body: expected ExportMetricsServiceRequest as application/json, "),
        (b"[" * 10**5, JSON, "body: expected ExportMetricsServiceRequest as application/json, "),
        (
            b"\x0a\xff",
            PROTOBUF,
            "body: expected ExportMetricsServiceRequest as application/x-proto",
        ),
        (b"", "text/plain", "content-type: expected application/x-protobuf or application/json, "),
    ],
)
def test_a_body_that_is_no_request_is_malformed(body: bytes, content_type: str, error: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        read(body, content_type)
    assert str(caught.value).startswith(error)


def test_the_content_type_may_have_parameters_and_fields_may_be_unknown() -> None:
    body = json.loads(metrics_body([bad()]))
    body["resourceMetrics"][0]["future"] = {"x": 1}
    assert len(read(json.dumps(body).encode(), "Application/JSON; charset=utf-8").usages) == 1


def test_answers_say_in_the_requests_encoding_what_was_rejected() -> None:
    rejected = Rejected([Rejection(index, "why") for index in range(5)])
    message = "0: why; 1: why; 2: why; and 2 more"
    answer = ExportMetricsServiceResponse.FromString(metrics_answer(PROTOBUF, rejected))
    assert answer.partial_success.rejected_data_points == 5
    assert answer.partial_success.error_message == message
    assert json.loads(metrics_answer(JSON, rejected)) == {
        "partialSuccess": {"rejectedDataPoints": "5", "errorMessage": message}
    }
    assert metrics_answer(PROTOBUF, Rejected([])) == b""
    assert metrics_answer(JSON, Rejected([])) == b"{}"
    assert json.loads(error_answer(JSON, "no")) == {"message": "no"}
    assert error_answer(PROTOBUF, "no") == b"\x12\x02no"


_requests = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.integers(0, 1000),
        st.integers(0, 1000),
        st.integers(0, 1000),
    ),
    min_size=1,
    max_size=8,
)


@given(requests=_requests, data=st.data())
def test_any_encoding_temporality_split_and_retry_counts_the_same(
    requests: list[tuple[str, int, int, int]], data: st.DataObject
) -> None:
    """A reference SDK: accumulates by model, exports at random moments, delta or cumulative."""
    books, sources = Books(created=T), Sources()
    temporality = data.draw(st.sampled_from([DELTA, CUMULATIVE]))
    totals: dict[str, list[int]] = {}
    clock = exported_at = T + 1
    for number, (model, fresh, cached, output) in enumerate(requests):
        held = totals.setdefault(model, [0, 0, 0])
        for position, value in enumerate((fresh + cached, cached, output)):
            held[position] += value
        clock += 10
        if number < len(requests) - 1 and not data.draw(st.booleans()):
            continue
        start = exported_at if temporality == DELTA else T + 1
        names = ("input_tokens", "cache_read.input_tokens", "output_tokens")
        metrics = [
            metric(
                INFERENCE + name,
                [
                    point(
                        values[position],
                        start,
                        clock,
                        gen_ai__request__model=model,
                        gen_ai__provider__name="openai",
                    )
                    for model, values in totals.items()
                ],
                temporality,
            )
            for position, name in enumerate(names)
        ]
        cut = data.draw(st.sampled_from([0, 2]))  # a part never leaves its whole
        for some in (metrics[:cut], metrics[cut:]):
            content_type = data.draw(st.sampled_from(ENCODINGS))
            body = metrics_body(some, content_type)
            for _ in range(data.draw(st.integers(1, 2))):
                books.add(read_metrics(body, content_type, NAMING, Reports(sources), clock).usages)
        if temporality == DELTA:
            totals, exported_at = {}, clock
    assert books.tokens == [
        sum(fresh for _, fresh, _, _ in requests),
        sum(cached for _, _, cached, _ in requests),
        0,
        sum(output for _, _, _, output in requests),
        0,
        0,
    ]


@given(
    values=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=6),
    data=st.data(),
)
def test_a_part_torn_from_its_whole_never_changes_the_sum(
    values: list[tuple[int, int]], data: st.DataObject
) -> None:
    books, sources = Books(created=T), Sources()
    whole = part = 0
    for step, (fresh, cached) in enumerate(values):
        whole, part = whole + fresh + cached, part + cached
        sent = inference(
            {"input_tokens": whole, "cache_read.input_tokens": part}, CUMULATIVE, T + 60 * step + 9
        )
        pieces = [[sent[0]], [sent[1]]] if data.draw(st.booleans()) else [sent]
        for piece in pieces:
            books.add(read_metrics(metrics_body(piece), JSON, NAMING, Reports(sources), T).usages)
    assert sum(books.tokens) == whole


def test_restarts_of_a_reporter_and_old_streams_count_what_was_added() -> None:
    books, sources = Books(created=T + 100), Sources()
    for start, end, value in [
        (T, T + 160, 1000),  # began before the store: remembered
        (T, T + 220, 1007),
        (T + 230, T + 280, 5),  # restarted
        (T + 230, T + 340, 6),
    ]:
        points = [point(value, start, end, gen_ai__token__type="input", **OPENAI)]
        body = metrics_body([metric(TOKEN_USAGE, points, CUMULATIVE)])
        books.add(read_metrics(body, JSON, NAMING, Reports(sources), end).usages)
    assert sum(books.tokens) == 7 + 6


@pytest.mark.parametrize("resource", [{}, {"service__instance__id": "pod"}])
def test_replicas_that_differ_only_in_when_they_began_are_all_counted(
    resource: dict[str, str],
) -> None:
    books, sources = Books(created=T - 1), Sources()
    for minute in range(3):
        for start in (T, T + 7):
            end = T + 60 * minute + 60
            points = [point(10 * minute + 10, start, end, gen_ai__token__type="input", **OPENAI)]
            body = metrics_body([metric(TOKEN_USAGE, points, CUMULATIVE)], **resource)
            books.add(read_metrics(body, JSON, NAMING, Reports(sources), end).usages)
    assert sum(books.tokens) == 60


@given(st.binary(max_size=60), st.sampled_from(ENCODINGS))
def test_nothing_but_a_malformed_body_escapes(body: bytes, content_type: str) -> None:
    try:
        read(body, content_type)
    except MalformedBody:
        return


_mess = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "dataPoints",
                    "asInt",
                    "sum",
                    "attributes",
                    "key",
                    "value",
                    "intValue",
                    "timeUnixNano",
                    "flags",
                    "count",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(_mess)
def test_nothing_but_a_malformed_body_escapes_json_of_the_right_fields(mess: Any) -> None:
    sent = {"name": TOKEN_USAGE, "sum": mess}
    body = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [sent]}]}]}).encode()
    try:
        read(body)
    except MalformedBody:
        return


DURATION = "gen_ai.client.operation.duration"


def test_requests_of_counters_that_have_none_are_those_of_the_durations() -> None:
    tokens = metric(f"{INFERENCE}input_tokens", [point(100, T - 60, T, **OPENAI)], DELTA)
    operations = [
        point(7, T - 60, T, requests=3, **OPENAI),
        point(1, T - 60, T, requests=2, error__type="RateLimitError", **OPENAI),
    ]
    durations = metric(DURATION, operations, DELTA, "histogram")
    reading = read(metrics_body([durations, tokens]))
    assert [(sum(usage.tokens), usage.requests) for usage in reading.usages] == [(0, 3), (100, 0)]
    assert (reading.rejected, reading.uncharged) == ([], {})


def test_requests_count_once_where_the_counter_of_tokens_has_them() -> None:
    one = point(100, T - 60, T, requests=3, gen_ai__token__type="input", **OPENAI)
    metrics = [
        metric("gen_ai.client.token.usage", [one], DELTA, "histogram"),
        metric(DURATION, [point(7, T - 60, T, requests=3, **OPENAI)], DELTA, "histogram"),
        metric(DURATION, [point(7, T - 60, T, requests=9)], DELTA, "histogram"),
    ]
    (usage,) = read(metrics_body(metrics)).usages
    assert usage.requests == 3


@pytest.mark.parametrize("temporality", [DELTA, CUMULATIVE])
def test_claude_codes_cost_is_its_own_and_its_tokens_have_none_beside(temporality: int) -> None:
    cost = metric("claude_code.cost.usage", [point(0, T - 60, T, model="m")], temporality)
    cost["sum"]["dataPoints"][0] |= {"asDouble": 0.25}
    del cost["sum"]["dataPoints"][0]["asInt"]
    tokens = metric("claude_code.token.usage", [point(100, T - 60, T, type="input", model="m")], 1)
    reading = read(metrics_body([tokens, cost], service="claude-code"))
    assert [(sum(one.tokens), one.cost_nano_usd, one.requests) for one in reading.usages] == [
        (100, 0, 0),
        (0, 250_000_000, 0),
    ]
    alone = read(metrics_body([tokens], service="claude-code"))
    assert [one.cost_nano_usd for one in alone.usages] == [None]  # a price may say it


@pytest.mark.parametrize("name", ["acme.llm.token.usage", "acme_tokens", "llm.tokens.consumed"])
def test_metrics_that_seem_to_count_tokens_and_are_not_known_say_so(name: str) -> None:
    reading = read(metrics_body([metric(name, [point(1, T - 60, T)], DELTA)]))
    assert (reading.usages, reading.uncharged) == ([], {"unknown_metric": 1})


@pytest.mark.parametrize(
    "name",
    [
        "gen_ai.server.time_per_output_token",
        "gen_ai.client.inference.operation.input_tokens",
        "process.cpu.usage",
        "auth.token.refresh.count",
        "llm.tokens.remaining",
    ],
)
def test_metrics_that_do_not_are_passed_over(name: str) -> None:
    assert read(metrics_body([metric(name, [point(1, T - 60, T)], DELTA)])) == Reading()


def test_a_metric_without_a_provider_is_of_the_one_that_makes_the_model() -> None:
    """LiteLLM's metrics of Responses and of Anthropic's messages."""
    one = point(5, T - 60, T, gen_ai__token__type="input", gen_ai__request__model="claude-opus-4-1")
    (usage,) = read(metrics_body([metric("gen_ai.client.token.usage", [one], DELTA)])).usages
    assert usage.provider == "anthropic"


def test_litellms_metrics_of_what_its_cache_answered_do_not_count() -> None:
    points = [
        point(
            100,
            T - 60,
            T,
            gen_ai__token__type="input",
            gen_ai__framework="litellm",
            hidden_params=f'{{"model_id": null, "cache_key": {key}, "api_base": "SECRET"}}',
            **OPENAI,
        )
        for key in ("null", '"ec00aa0e60be"')
    ]
    reading = read(metrics_body([metric(TOKEN_USAGE, points, DELTA)]))
    assert counted(reading) == Tokens(input=100)
    assert reading.uncharged == {"cache_hit": 1}
    assert "SECRET" not in repr(reading)
