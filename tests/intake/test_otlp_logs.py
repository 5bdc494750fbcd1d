"""OTLP log records: what tools log of calls and of refusals, seen in real ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from exporter.core.signal import Refusal, Verdict
from exporter.core.usage import Tokens
from exporter.intake.naming import Naming
from exporter.intake.otlp import JSON, PROTOBUF, logs_answer
from exporter.intake.otlp_logs import read_logs
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_traces import read_traces
from exporter.intake.reading import MalformedBody, Reading, Rejection
from exporter.intake.rejections import Rejected
from tests.intake.otlp_bodies import (
    ENCODINGS,
    Books,
    logs_body,
    metric,
    metrics_body,
    point,
    record,
    span,
    traces_body,
)

T = 1_795_436_000.0
NAMING = Naming({}, [], ["anthropic", "gemini", "openai"], ["service"])
SONNET = "claude-sonnet-4-5-20250929"
CLAUDE = ("claude-code", "com.anthropic.claude_code.events")
GEMINI = ("gemini-cli", "gemini-cli")
CODEX = ("codex_exec", "codex_otel.log_only")
DELTA = 1

REQUEST = {
    "event.name": "api_request",
    "prompt": "SECRET",
    "model": SONNET,
    "input_tokens": 60,
    "output_tokens": 50,
    "cache_read_tokens": 40,
    "cache_creation_tokens": 10,
    "cost_usd": 0.0009795,
    "request_id": "req_1",
}
RESPONSE = {
    "event.name": "gemini_cli.api_response",
    "auth_type": "gemini-api-key",
    "model": "gemini-2.5-pro",
    "input_token_count": 100,
    "output_token_count": 30,
    "cached_content_token_count": 40,
    "thoughts_token_count": 20,
    "tool_token_count": 0,
    "total_token_count": 150,
    "response_text": "SECRET",
}
COMPLETED = {
    "event.name": "codex.sse_event",
    "event.kind": "response.completed",
    "model": "gpt-5-codex",
    "input_token_count": 200,
    "output_token_count": 70,
    "cached_token_count": 80,
    "cache_write_token_count": 0,
    "reasoning_token_count": 30,
    "tool_token_count": 270,
}
SPENT = (
    '{"error":{"code":429,"message":"You exceeded your current quota","status":'
    '"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure",'
    '"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}'
)


def read(
    records: list[dict[str, Any]],
    tool: tuple[str, str],
    kind: str = JSON,
    sources: Sources | None = None,
) -> Reading:
    service, library = tool
    body = logs_body(records, kind, service, library)
    return read_logs(body, kind, NAMING, Reports(sources or Sources()), T + 60)


@pytest.mark.parametrize("content_type", ENCODINGS)
@pytest.mark.parametrize(
    ("tool", "said", "provider", "tokens", "cost"),
    [
        pytest.param(
            CLAUDE,
            record(T, "claude_code.api_request", **REQUEST),
            "anthropic",
            Tokens(input=60, cache_read=40, cache_write=10, output=50),
            979_500,
            id="Claude Code",
        ),
        pytest.param(
            CLAUDE,
            record(T, **{**REQUEST, "input_tokens": "60"}),
            "anthropic",
            Tokens(input=60, cache_read=40, cache_write=10, output=50),
            979_500,
            id="Claude Code, a short name and numbers as text",
        ),
        pytest.param(
            GEMINI,
            record(T, "API response from gemini-2.5-pro.", **RESPONSE),
            "gemini",
            Tokens(input=60, cache_read=40, output=30, reasoning=20),
            None,
            id="Gemini CLI",
        ),
        pytest.param(
            GEMINI,
            record(T, **{**RESPONSE, "auth_type": "vertex-ai"}),
            "gcp.vertex_ai",
            Tokens(input=60, cache_read=40, output=30, reasoning=20),
            None,
            id="Gemini CLI on Vertex",
        ),
        pytest.param(
            CODEX,
            record(T, **COMPLETED),
            "openai",
            Tokens(input=120, cache_read=80, output=40, reasoning=30),
            None,
            id="Codex",
        ),
        pytest.param(
            ("shop", "test"),
            record(
                T,
                name="gen_ai.client.inference.operation.details",
                gen_ai__operation__name="chat",
                gen_ai__provider__name="openai",
                gen_ai__usage__input_tokens=100,
                gen_ai__usage__output_tokens=50,
            ),
            "openai",
            Tokens(input=100, output=50),
            None,
            id="the conventions' event",
        ),
    ],
)
def test_a_call_counts_by_kind_with_its_cost(
    tool: tuple[str, str],
    said: dict[str, Any],
    provider: str,
    tokens: Tokens,
    cost: int | None,
    content_type: str,
) -> None:
    reading = read([said], tool, content_type)
    (usage,) = reading.usages
    assert (usage.provider, usage.tokens, usage.cost_nano_usd) == (provider, tokens, cost)
    assert (usage.requests, usage.timestamp, usage.consumer) == (1, T, tool[0])
    assert reading == Reading(usages=[usage])
    assert "SECRET" not in repr(reading)


def test_a_request_is_identified_by_its_id_or_else_by_the_record() -> None:
    (usage,) = read([record(T, **REQUEST)], CLAUDE).usages
    assert usage.id == "req_1"
    both = [record(T, **RESPONSE), record(T + 1, **RESPONSE), record(T, **RESPONSE)]
    first, second, again = read(both, GEMINI).usages
    assert first.id == again.id != second.id


@pytest.mark.parametrize(
    ("tool", "said", "verdict", "refusal", "about"),
    [
        pytest.param(
            GEMINI,
            {
                "event.name": "gemini_cli.api_error",
                "auth_type": "gemini-api-key",
                "model": "gemini-2.5-pro",
                "status_code": 429,
                "error": SPENT,
            },
            Verdict.EXHAUSTED,
            Refusal.QUOTA,
            "gemini-2.5-pro",
            id="Gemini CLI, a day's quota of a model",
        ),
        pytest.param(
            CLAUDE,
            {
                "event.name": "api_error",
                "model": SONNET,
                "status_code": "429",
                "error": "This request would exceed your account's rate limit",
            },
            Verdict.THROTTLED,
            Refusal.RATE,
            "",
            id="Claude Code",
        ),
        pytest.param(
            CLAUDE,
            {
                "event.name": "api_error",
                "model": SONNET,
                "status_code": 400,
                "error": "You have reached your specified workspace API usage limits",
            },
            Verdict.EXHAUSTED,
            Refusal.BILLING,
            "",
            id="Claude Code, the limit of a workspace",
        ),
        pytest.param(
            CLAUDE,
            {"event.name": "api_error", "model": SONNET, "status_code": 529, "error": "Overloaded"},
            Verdict.UNKNOWN,
            Refusal.OVERLOAD,
            SONNET,
            id="Claude Code, overload",
        ),
        pytest.param(
            CODEX,
            {
                "event.name": "codex.api_request",
                "model": "gpt-5-codex",
                "http.response.status_code": 429,
                "error.message": '{"error":{"type":"usage_limit_reached","resets_at":1795443200}}',
            },
            Verdict.EXHAUSTED,
            Refusal.QUOTA,
            "",
            id="Codex, a plan's limit",
        ),
    ],
)
def test_a_refusal_becomes_a_signal_with_its_scope(
    tool: tuple[str, str], said: dict[str, Any], verdict: Verdict, refusal: Refusal, about: str
) -> None:
    reading = read([record(T, **said)], tool)
    (signal,) = reading.signals
    assert (signal.verdict, signal.refusal, signal.model) == (verdict, refusal, about)
    assert (signal.at, signal.request_model) == (T, said["model"])
    assert reading == Reading(signals=[signal])


@pytest.mark.parametrize(
    ("tool", "said", "reason"),
    [
        (CLAUDE, {"event.name": "api_error", "error": "Connection error."}, "failed"),
        (CLAUDE, {"event.name": "api_error", "status_code": 500, "error": "oops"}, "failed"),
        (("shop", "test"), {"event.name": "acme.call", "input_tokens": 5}, "unknown_event"),
        (
            ("shop", "test"),
            {
                "event.name": "gen_ai.client.inference.operation.details",
                "gen_ai.usage.input_tokens": 5,
            },
            "unknown_provider",
        ),
    ],
)
def test_what_is_not_counted_says_why(
    tool: tuple[str, str], said: dict[str, Any], reason: str
) -> None:
    reading = read([record(T, **said)], tool)
    assert reading == Reading(uncharged={reason: 1})


def test_other_records_are_passed_over() -> None:
    records = [
        record(T, "claude_code.user_prompt", **{"event.name": "user_prompt", "prompt": "SECRET"}),
        record(T, "SECRET " * 1000),
        record(T, **{"event.name": "codex.sse_event", "event.kind": "response.completed"}),
        record(T, **{"event.name": "codex.api_request", "http.response.status_code": 200}),
    ]
    for tool in (CLAUDE, CODEX):
        assert read(records, tool) == Reading()


def test_a_bad_record_is_rejected_alone_with_its_position() -> None:
    records = [record(T, **{**REQUEST, "input_tokens": -5}), record(T, **REQUEST)]
    reading = read(records, CLAUDE)
    error = "input_tokens: expected a whole number from 0 to 9007199254740992, got -5"
    assert reading.rejected == [Rejection(0, error)]
    assert len(reading.usages) == 1
    rejected = Rejected([Rejection(0, error)])
    answer = ExportLogsServiceResponse.FromString(logs_answer(PROTOBUF, rejected))
    assert answer.partial_success.rejected_log_records == 1


@given(
    order=st.permutations(["logs", "metrics", "traces"]),
    minutes=st.integers(1, 4),
)
def test_a_tool_that_reports_in_every_way_counts_once(order: list[str], minutes: int) -> None:
    """Whatever comes first of each minute."""
    books, sources = Books(created=T - 1), Sources()
    kinds = {"gen_ai__provider__name": "anthropic", "gen_ai__usage__input_tokens": 10}
    for minute in range(minutes):
        start, at, end = (T + 60 * minute + second for second in (0, 30, 60))
        requests: dict[str, Reading] = {}
        for signal in order:
            if signal == "logs":
                said = record(at, **{"event.name": "api_request", "input_tokens": 10})
                body = logs_body([said], JSON, *CLAUDE)
                requests[signal] = read_logs(body, JSON, NAMING, Reports(sources), end)
            elif signal == "metrics":
                one = metric(
                    "claude_code.token.usage", [point(10, start, end, type="input")], DELTA
                )
                body = metrics_body([one], JSON, "claude-code")
                requests[signal] = read_metrics(body, JSON, NAMING, Reports(sources), end)
            else:
                body = traces_body([span(minute, at, **kinds)], JSON, "claude-code")
                requests[signal] = read_traces(body, JSON, NAMING, Reports(sources), end)
            books.add(requests[signal].usages)
    assert sum(books.tokens) == 10 * minutes


@given(st.binary(max_size=60), st.sampled_from(ENCODINGS))
def test_nothing_but_a_malformed_body_escapes(body: bytes, content_type: str) -> None:
    try:
        read_logs(body, content_type, NAMING, Reports(Sources()), T)
    except MalformedBody:
        return
