"""Every parser against every kind of nonsense: only the errors it documents come out."""

import gzip
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.exceptions import HTTPException

from exporter.config import Config, ConfigError, parse
from exporter.core.usage import Tokens
from exporter.intake import litellm, native, otlp, signals
from exporter.intake.naming import Naming
from exporter.intake.otlp_logs import read_logs
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_traces import read_traces
from exporter.intake.reading import MalformedBody, Reading
from exporter.intake.signals import read_response
from exporter.intake.signals.values import duration, moment, number
from exporter.intake.usage_object import normalise
from exporter.web.body import unpacking
from exporter.web.operate import NewState, wanted
from exporter.web.toolkit.webconfig import load_web_config

NOW = 1_790_000_000.0
NAMING = Naming({}, (), ())

WORDS = [
    *("provider", "status", "headers", "body", "timestamp", "error", "details", "violations"),
    *("message", "code", "metadata", "quotaId", "retryDelay", "resets_at", "retry-after", "type"),
    *("ratelimit", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens", "ratelimit-policy"),
    *("anthropic-ratelimit-unified-5h-reset", "anthropic-ratelimit-unified-5h-utilization"),
    *("x-codex-primary-used-percent", "x-codex-primary-window-minutes", "x-codex-primary-reset-at"),
    *("id", "model", "usage", "custom_llm_provider", "prompt_tokens", "completion_tokens", "usage"),
    *("total_tokens", "input_tokens", "output_tokens", "promptTokenCount", "inputTokens"),
    *("prompt_tokens_details", "cached_tokens", "endTime", "metadata", "usage_object"),
    *("hidden_params", "additional_headers", "error_information", "error_code", "cache_hit"),
    *("response_cost", "error_message", "llm_provider", "detail", "resets_in_seconds"),
]
TEXTS = [
    *("", "a", "429", "-1", "1e400", "nan", "inf", "success", "failure", "RESOURCE_EXHAUSTED"),
    *("1s", "6m0s", "9" * 400, "00:14:23", "2026-09-21T13:33:20Z", "9999-12-31T23:59:59Z"),
    *("0001-01-01T00:00:00Z", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 99 Foo 0000 99:99:99 -9999"),
    *('"day";r=0;t=3600', "limit=1, remaining=0, reset=1e99", " " * 3000 + "!", "a" * 3000),
    *("try again in " * 300, "GenerateRequestsPerDay", "insufficient_quota", "\ud800", "\x00\n"),
]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 100, 200, 429, 2**53, 2**63, 2**64, 10**30, 10**400]),
    st.floats(),
    st.sampled_from(TEXTS),
    st.text(max_size=10),
)
words = st.sampled_from(WORDS)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(words | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=25,
)
objects = st.dictionaries(words, documents, max_size=8)
bodies = st.one_of(
    st.binary(max_size=60),
    st.lists(objects | documents, min_size=1, max_size=4).map(
        lambda items: "\n".join(map(json.dumps, items)).encode()
    ),
    st.lists(objects | documents, max_size=4).map(lambda items: json.dumps(items).encode()),
)
DEEP = b"[" * 200_000
DEEPER = b'{"usage":' * 100_000


def plain(reading: Reading) -> None:
    """See that what was read is what it is said to be."""
    for usage in reading.usages:
        assert usage.provider
        assert all(type(count) is int and count >= 0 for count in usage.tokens)
    for rejection in reading.rejected:
        assert rejection.error
    for signal in reading.signals:
        assert signal.retry_at is None or signal.retry_at > signal.at
        json.dumps(msgspec.to_builtins(signal), allow_nan=False)


@given(bodies)
@example(DEEP)
@example(DEEPER)
@example(b'{"provider":"a","status":429,"body":' + DEEP + b"}")
@example(json.dumps({"provider": "a", "status": 429, "body": "[" * 100_000}).encode())
def test_signals_are_read_or_refused(body: bytes) -> None:
    with suppress(MalformedBody):
        plain(signals.read(body, NOW))


@given(bodies)
@example(DEEP)
@example(DEEPER)
@example(b'{"metadata":{"usage_object":' + DEEP)
def test_litellm_callbacks_are_read_or_refused(body: bytes) -> None:
    with suppress(MalformedBody):
        plain(litellm.read(body, NAMING, NOW))


@given(st.integers(100, 599), st.dictionaries(words, documents), documents | st.binary(max_size=40))
def test_responses_are_judged_whatever_they_say(
    status: int, headers: dict[str, Any], body: Any
) -> None:
    told = body if isinstance(body, str | bytes | dict) else None
    plain(Reading(signals=[read_response("a", status, headers, told, NOW)]))


@pytest.mark.parametrize(
    "name", ["ratelimit", "ratelimit-policy", "retry-after", "x-ratelimit-remaining"]
)
@pytest.mark.parametrize("piece", [" ", "a", ";a", "remaining=", "1m", '"', ",", "0"])
@pytest.mark.timeout(60)  # seconds; by the square of its length a header would take days
def test_a_long_header_of_nonsense_is_as_good_as_none(name: str, piece: str) -> None:
    headers = {name: "remaining=" + piece * 1_000_000 + "!"}
    assert read_response("a", 429, headers, None, NOW) == read_response("a", 429, {}, None, NOW)


@given(objects)
@example({"prompt_tokens": [[{str(n): "x" * 30 for n in range(5)}] * 6] * 6})
@example({"prompt_tokens": 10**400})
@example({"prompt_tokens": float("inf")})
@example({"prompt_tokens": float("nan")})
@example({"input_tokens": True})
@example({"prompt_tokens": 1, "prompt_tokens_details": [1]})
def test_usage_objects_are_normalised_or_refused(usage: dict[str, Any]) -> None:
    try:
        tokens = normalise(usage)
    except ValueError as error:
        said = str(error)
        assert said
        assert len(said) < 500
    else:
        assert isinstance(tokens, Tokens)
        assert all(type(count) is int and count >= 0 for count in tokens)


@given(st.one_of(scalars, documents))
def test_numbers_durations_and_moments_are_finite_or_none(value: Any) -> None:
    for found in (number(value), duration(value)):
        assert found is None or 0 <= found < float("inf")
    at = moment(value, NOW)
    assert at is None or at == at


@given(st.one_of(st.none(), st.floats(), st.text(max_size=30), st.sampled_from(TEXTS)))
def test_timestamps_of_events_are_moments_or_refused(value: Any) -> None:
    try:
        found = native._moment(value)
    except ValueError as error:
        said = str(error)
        assert said.startswith("timestamp: expected ")
    else:
        assert found is None or isinstance(found, float)


@given(st.one_of(st.none(), st.floats(), st.text(max_size=30), st.sampled_from(TEXTS)))
def test_an_operators_moment_lies_ahead_or_is_refused(value: Any) -> None:
    wish = msgspec.convert({"state": "quota_exhausted", "retry_after": value}, NewState)
    try:
        _, until = wanted(wish, NOW)
    except ValueError as error:
        said = str(error)
        assert said.startswith("retry_after: ")
    else:
        assert until > NOW


# -- OTLP: real requests, damaged --

METRICS: dict[str, Any] = {
    "resourceMetrics": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
            "scopeMetrics": [
                {
                    "metrics": [
                        {
                            "name": "gen_ai.client.token.usage",
                            "histogram": {
                                "aggregationTemporality": 2,
                                "dataPoints": [
                                    {
                                        "startTimeUnixNano": "1789999990000000000",
                                        "timeUnixNano": "1790000000000000000",
                                        "count": "1",
                                        "sum": 5.0,
                                        "attributes": [
                                            {
                                                "key": "gen_ai.token.type",
                                                "value": {"stringValue": "input"},
                                            },
                                            {
                                                "key": "gen_ai.system",
                                                "value": {"stringValue": "openai"},
                                            },
                                        ],
                                    }
                                ],
                            },
                        }
                    ]
                }
            ],
        }
    ]
}
TRACES: dict[str, Any] = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "5b8efff798038103d269b633813fc60c",
                            "spanId": "eee19b7ec3c1b174",
                            "endTimeUnixNano": "1790000000000000000",
                            "attributes": [
                                {"key": "gen_ai.system", "value": {"stringValue": "openai"}},
                                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}},
                            ],
                        }
                    ]
                }
            ]
        }
    ]
}


def _span(**attributes: str | int) -> dict[str, Any]:
    """The same span by another convention."""
    request = json.loads(json.dumps(TRACES))
    span = request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["attributes"] = _attributes(attributes)
    return dict(request)


def _attributes(values: Mapping[str, str | int]) -> list[dict[str, Any]]:
    return [
        {
            "key": key,
            "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
        }
        for key, value in values.items()
    ]


LANGFUSE = _span(
    **{
        "langfuse.observation.model.name": "gpt-4o",
        "langfuse.observation.usage_details": '{"input": 7, "total": 9}',
        "langfuse.observation.cost_details": '{"total": 0.5}',
    }
)
LITELLM = _span(
    **{
        "litellm.call_id": "1",
        "gen_ai.system": "openai",
        "gen_ai.usage.input_tokens": 7,
        "metadata.usage_object": "{'prompt_tokens': 7, 'cached_tokens': 2}",
    }
)
VERCEL = _span(
    **{
        "ai.operationId": "ai.embed.doEmbed",
        "ai.model.provider": "openai.embedding",
        "ai.usage.tokens": 7,
    }
)
SPANS = [TRACES, LANGFUSE, LITELLM, VERCEL]
LOGS: dict[str, Any] = {
    "resourceLogs": [
        {
            "scopeLogs": [
                {
                    "logRecords": [
                        {
                            "timeUnixNano": "1790000000000000000",
                            "attributes": _attributes(
                                {
                                    "event.name": "codex.sse_event",
                                    "input_token_count": "7",
                                    "output_token_count": 5,
                                }
                            ),
                        },
                        {
                            "attributes": _attributes(
                                {
                                    "event.name": "gemini_cli.api_error",
                                    "status_code": 429,
                                    "error": '{"error": {"code": 429}}',
                                }
                            ),
                        },
                    ]
                }
            ]
        }
    ]
}


def damaged(document: Any) -> st.SearchStrategy[Any]:
    """The document with anything anywhere replaced."""
    if isinstance(document, dict):
        inside = st.fixed_dictionaries({key: damaged(value) for key, value in document.items()})
    elif isinstance(document, list):
        inside = st.tuples(*map(damaged, document)).map(list)
    else:
        inside = st.just(document) | st.sampled_from(
            ["-1", "1e400", "NaN", 2**64, 5.5, -1, "9" * 30]
        )
    return st.integers(0, 30).flatmap(lambda dice: documents if dice == 0 else inside)


def test_the_requests_that_get_damaged_are_good_ones() -> None:
    spans = [(read_traces, request) for request in SPANS]
    for read, request in ((read_metrics, METRICS), (read_logs, LOGS), *spans):
        reading = read(json.dumps(request).encode(), otlp.JSON, NAMING, Reports(Sources()), NOW)
        assert [usage.provider for usage in reading.usages] == ["openai"]


@pytest.mark.parametrize(
    ("read", "request_"),
    [
        (read_metrics, METRICS),
        (read_logs, LOGS),
        *((read_traces, request) for request in SPANS),
    ],
    ids=["metrics", "logs", "traces", "langfuse", "litellm", "vercel"],
)
@given(data=st.data())
def test_damaged_json_telemetry_is_read_or_refused(read: Any, request_: Any, data: Any) -> None:
    body = json.dumps(data.draw(damaged(request_))).encode()
    try:
        plain(read(body, otlp.JSON, NAMING, Reports(Sources()), NOW))
    except MalformedBody as error:
        said = str(error)
        assert len(said) < 500


@pytest.mark.parametrize(
    ("read", "message", "request_"),
    [
        (read_metrics, ExportMetricsServiceRequest, METRICS),
        (read_logs, ExportLogsServiceRequest, LOGS),
        *((read_traces, ExportTraceServiceRequest, request) for request in SPANS),
    ],
    ids=["metrics", "logs", "traces", "langfuse", "litellm", "vercel"],
)
@given(place=st.integers(0, 300), junk=st.binary(max_size=6), replaced=st.integers(0, 4))
@example(place=0, junk=b"\x0a\xff\xff\xff\xff\x0f", replaced=0)
def test_damaged_protobuf_telemetry_is_read_or_refused(
    read: Any, message: Any, request_: Any, place: int, junk: bytes, replaced: int
) -> None:
    whole = otlp.decode(json.dumps(request_).encode(), otlp.JSON, message()).SerializeToString()
    body = whole[:place] + junk + whole[place + replaced :]
    with suppress(MalformedBody):
        plain(read(body, otlp.PROTOBUF, NAMING, Reports(Sources()), NOW))


@pytest.mark.parametrize(
    "body", [DEEP, b'{"resourceMetrics":' * 10_000, b"", b"null", b"[]", b'"x"']
)
def test_telemetry_that_is_none_is_refused(body: bytes) -> None:
    try:
        reading = read_metrics(body, otlp.JSON, NAMING, Reports(Sources()), NOW)
    except MalformedBody:
        return
    assert reading == Reading()


# -- packed bodies --

LIMIT = 10_000


def unpack(packed: bytearray, limit: int, hold: Callable[[int], object]) -> bytes:
    """All the steps of unpacking."""
    steps = unpacking(packed, limit, hold)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bytes(end.value)


@given(
    st.binary(max_size=2000),
    st.integers(0, 60),
    st.binary(max_size=4),
    st.integers(0, 4),
)
def test_packed_bodies_are_unpacked_or_refused(
    body: bytes, place: int, junk: bytes, replaced: int
) -> None:
    whole = gzip.compress(body)
    packed = whole[:place] + junk + whole[place + replaced :]
    held: list[int] = []
    try:
        found = unpack(bytearray(packed), LIMIT, held.append)
    except HTTPException as error:
        status = error.status_code
        assert status in (400, 413)
    else:
        assert sum(held) == len(found) <= LIMIT


def ignored(size: int) -> None:
    """There is room enough."""


@given(st.binary(max_size=2 * LIMIT))
def test_packing_and_unpacking_changes_nothing_up_to_the_limit(body: bytes) -> None:
    packed = bytearray(gzip.compress(body))
    if len(body) <= LIMIT:
        assert unpack(packed, LIMIT, ignored) == body
    else:
        with pytest.raises(HTTPException):
            unpack(packed, LIMIT, ignored)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = bytearray(gzip.compress(bytes(200 << 20), 9))
    held: list[int] = []
    with pytest.raises(HTTPException, match="413"):
        unpack(bomb, LIMIT, held.append)
    assert sum(held) <= LIMIT + (1 << 18)  # a piece more


# -- configuration files --

KEYS = [
    *("budgets", "weights", "prediction", "aliases", "providers", "rules", "limits", "retention"),
    *(
        "deduplication",
        "otlp",
        "signals",
        "authentication",
        "openai",
        "tokens",
        "period",
        "timezone",
        "method",
    ),
    *("probe", "url", "headers", "match", "provider", "name", "file", "rights", "exhausted_at"),
    *("body_bytes", "label_length", "model", "prefer", "interval", "from_used", "input"),
]
VALUES = [
    *("day", "5h", "0s", "1e3", "off", "2_000_000", "Europe/Berlin", "../etc/passwd", "\0", "~"),
    *(
        "1" * 400,
        "9" * 20 + "h",
        "http://[",
        "http://a:b",
        "https://a",
        "1KiB",
        "-1",
        ".inf",
        ".nan",
    ),
]
settings_ = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(VALUES)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=20,
)
sections = st.dictionaries(st.sampled_from(KEYS[:11]), settings_, max_size=6)
files = st.one_of(
    st.text(max_size=60),
    sections.map(yaml.safe_dump),
    st.lists(
        st.sampled_from(
            [
                *"{}[]:-&*!|>?%@`,#'\"",
                "\n",
                " ",
                "\t",
                "budgets:",
                "a: 1",
                "&a",
                "*a",
                "<<: *a",
                "!!python/x",
            ]
        ),
        max_size=15,
    ).map("".join),
)


@given(files)
@example("[" * 100_000)
@example("{" * 20_000)
@example("a: &a [*a, *a]")
@example("budgets: {openai: " + "9" * 5000 + "}")
@example("budgets: {openai: 1:2:3}")
@example("\ufeffbudgets: {}")
@example("budgets: {? [a] : 1}")
@example("budgets: {openai: {tokens: 1, period: day, timezone: ../../etc/passwd}}")
@example("budgets: {openai: {tokens: 1, timezone: ''}}")
def test_configurations_are_read_or_refused(text: str) -> None:
    try:
        assert isinstance(parse(text, "quota.yml"), Config)
    except ConfigError as error:
        problems = error.problems
        assert problems
        assert all(len(str(problem)) < 2000 for problem in problems)


web_keys = ["tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", "headers"]
web_files = st.one_of(
    files,
    st.dictionaries(
        st.sampled_from([*web_keys, "burst", "interval", "http2", "cert", "cert_file", "a"]),
        settings_,
        max_size=5,
    ).map(yaml.safe_dump),
)


@given(text=web_files)
@example(text="rate_limit: {interval: 1" + "0" * 400 + "s, burst: 1}")
@example(text="rate_limit: {interval: 1e9s, burst: 1}")
@example(text="[" * 100_000)
def test_web_configurations_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "web.yml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_web_config(file)
    except ConfigError as error:
        problems = error.problems
        assert problems
