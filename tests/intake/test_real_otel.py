"""The OpenTelemetry SDK and its OpenAI instrumentations against a local fake of the OpenAI API."""

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from exporter.core.usage import Tokens
from exporter.intake.naming import Naming
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_reports import HOLD, Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_traces import read_traces
from tests import real
from tests.intake.otlp_bodies import Books

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
NAMING = Naming({}, [], ["openai"])

APPLICATION = """
import importlib, os, sys
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

instrumentation, model_url = sys.argv[1:]
reader = PeriodicExportingMetricReader(OTLPMetricExporter(), export_interval_millis=3_600_000)
meters, tracers = MeterProvider([reader]), TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
importlib.import_module(instrumentation).OpenAIInstrumentor().instrument(
    tracer_provider=tracers, meter_provider=meters
)

import openai

client = openai.OpenAI(api_key="sk-none", base_url=model_url, max_retries=0)
question = {"model": "gpt-4o", "messages": [{"role": "user", "content": "SECRET"}]}
for _ in range(2):
    client.chat.completions.create(**question)
    with_usage = {"stream": True, "stream_options": {"include_usage": True}}
    for _ in client.chat.completions.create(**question, **with_usage):
        pass
    meters.force_flush()
meters.shutdown()
tracers.shutdown()
"""
"""A program of its own: instrumentations patch the process they are in."""


class Handler(BaseHTTPRequestHandler):
    """The OpenAI API and an OTLP endpoint that keeps what it gets."""

    protocol_version = "HTTP/1.1"
    received: list[tuple[str, str, bytes]]
    answered: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path in ("/v1/metrics", "/v1/traces"):
            self.received.append((self.path, self.headers["content-type"], body))
            self._answer("application/x-protobuf", b"")
            return
        self.answered.append(f"chatcmpl-{len(self.answered)}")
        chat = {"id": self.answered[-1], "created": 1, "model": "gpt-4o-2024-08-06"}
        if json.loads(body).get("stream"):
            said = {"index": 0, "delta": {"role": "assistant", "content": "SECRET"}}
            done = {"index": 0, "delta": {}, "finish_reason": "stop"}
            chunk = {**chat, "object": "chat.completion.chunk"}
            chunks: list[Any] = [{**chunk, "choices": [one]} for one in (said, done)]
            chunks.append({**chunk, "choices": [], "usage": USAGE})
            lines = [f"data: {json.dumps(one)}\n\n" for one in chunks]
            self._answer("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode())
        else:
            message = {"role": "assistant", "content": "SECRET"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**chat, "object": "chat.completion", "choices": [choice], "usage": USAGE}
            self._answer("application/json", json.dumps(whole).encode())

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: tests read what arrived."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    handler = type("Server", (Handler,), {"received": [], "answered": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler.received
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
@pytest.mark.parametrize(
    "instrumentation",
    ["opentelemetry.instrumentation.openai_v2", "opentelemetry.instrumentation.openai"],
)
def test_four_calls_seen_by_the_sdk_as_metrics_and_as_spans_count_once(
    instrumentation: str, temporality: str, server: tuple[str, list[tuple[str, str, bytes]]]
) -> None:
    for name in ("openai", "opentelemetry.exporter.otlp.proto.http", instrumentation):
        real.module(name)
    url, received = server
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": temporality,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_SERVICE_NAME": "shop",
        "TRACELOOP_TRACE_CONTENT": "true",
    }
    subprocess.run(
        [sys.executable, "-c", APPLICATION, instrumentation, f"{url}/v1"],
        env=environment,
        check=True,
        timeout=60,
    )
    spans = [item for item in received if item[0] == "/v1/traces"]
    metrics = [item for item in received if item[0] == "/v1/metrics"]
    assert spans
    assert metrics

    for some in (spans, metrics, received, [*metrics, *spans]):
        books, reports = Books(), Reports(Sources())
        for path, content_type, body in some:
            read = read_metrics if path == "/v1/metrics" else read_traces
            for _ in range(2):  # a retry changes nothing
                reading = read(body, content_type, NAMING, reports, 1e9)
                books.add(reading.usages)
                assert reading.rejected == []
                assert "SECRET" not in repr(reading)
                assert {usage.provider for usage in reading.usages} <= {"openai"}
        settled = reports.settle(1e9 + HOLD)  # what no better source came for
        books.add(one.said for one in settled if not isinstance(one.said, str))
        tokens = Tokens(*books.tokens)
        assert tokens.input + tokens.cache_read == 400
        assert tokens.output + tokens.reasoning == 200
        assert books.requests == 4
        if spans[0] in some and instrumentation.endswith(".openai"):
            assert tokens.cache_read == 160
