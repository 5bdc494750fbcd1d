"""OTLP over gRPC: the SDK's own exporters, the same rights, limits and answers as over HTTP."""

import asyncio
import gzip
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests import real
from tests.e2e.running import Exporter, series, until
from tests.intake.otlp_bodies import PROTOBUF, logs_body, record, span, traces_body

grpc = pytest.importorskip("grpc")
pytest.importorskip("grpc.aio")

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
CALL = {
    "gen_ai__provider__name": "openai",
    "gen_ai__request__model": "gpt-4o",
    "gen_ai__usage__input_tokens": 100,
}
LISTENING = "--otlp.grpc-address=127.0.0.1:0"

APPLICATION = """
import logging, sys, time
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry._logs import LogRecord

tracers, loggers = TracerProvider(), LoggerProvider()
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), 3_600_000)])
asked = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "by-span"}
with tracers.get_tracer("test").start_as_current_span("chat") as span:
    span.set_attributes({**asked, "gen_ai.usage.input_tokens": 100})
asked["gen_ai.request.model"] = "by-metric"
usage = meters.get_meter("test").create_histogram("gen_ai.client.token.usage")
usage.record(200, {**asked, "gen_ai.token.type": "input"})
asked["gen_ai.request.model"] = "by-log"
loggers.get_logger("test").emit(LogRecord(
    timestamp=time.time_ns(), event_name="gen_ai.client.inference.operation.details",
    attributes={**asked, "gen_ai.usage.input_tokens": 300},
))
for provider in (tracers, meters, loggers):
    provider.shutdown()
"""


def port(exporter: Exporter) -> int:
    found = until(
        lambda: re.search(r"OTLP over gRPC.* address=127.0.0.1:(\d+)", exporter.log()),
        "line with the address for gRPC",
    )
    return int(found[1])


def tokens(exporter: Exporter) -> dict[str, float]:
    found: dict[str, float] = {}
    for (name, labels), value in series(exporter.http.get("/metrics").text).items():
        if name == "llm_quota_tokens_total":
            model = dict(labels)["model"]
            found[model] = found.get(model, 0) + value
    return {model: value for model, value in found.items() if value}


@contextmanager
def calling(exporter: Exporter, credentials: Any = None) -> Iterator[Any]:
    """A function that calls a method with a message."""
    target = f"localhost:{port(exporter)}"
    channel = (
        grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    )
    with channel:
        yield lambda method, message, **options: channel.unary_unary(method)(
            message, timeout=20, **options
        )


def code(call: Any, *arguments: Any, **options: Any) -> tuple[Any, str]:
    """The status with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("compression", [{"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, {}])
def test_the_sdks_exporters_of_all_three_signals(
    compression: dict[str, str], tmp_path: Path
) -> None:
    real.module("opentelemetry.exporter.otlp.proto.grpc")
    with Exporter(tmp_path, "budgets: {openai: 1000}", LISTENING) as exporter:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port(exporter)}",
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta",
            "OTEL_SERVICE_NAME": "shop",
            **compression,
        }
        subprocess.run([sys.executable, "-c", APPLICATION], env=environment, check=True, timeout=60)
        expected = {"by-span": 100, "by-metric": 200, "by-log": 300}
        until(lambda: tokens(exporter) == expected, f"tokens {expected}", 30)
        found = series(exporter.http.get("/metrics").text)
        route = frozenset({("route", TRACES), ("code", "200")})
        assert found["llm_quota_exporter_http_requests_total", route] == 1


def test_what_is_wrong_is_told_as_over_http(tmp_path: Path) -> None:
    config = "budgets: {openai: 1000}\nlimits: {body_bytes: 1MiB}"
    with Exporter(tmp_path, config, LISTENING) as exporter, calling(exporter) as call:
        body = traces_body([span(1, 1.8e9, **CALL)], PROTOBUF)
        answer = call(TRACES, body)
        assert b"ahead of this clock" in answer  # partial success: a span of the year 2027
        status = grpc.StatusCode
        wrong, why = code(call, TRACES, b"\x0a\xff")
        assert wrong is status.INVALID_ARGUMENT
        assert why.startswith("body: expected ExportTraceServiceRequest as application/x-protobuf")
        too_large = "body: expected at most 1048576 bytes, got more"
        bomb = gzip.compress(b"\x0a" + bytes(50 << 20))
        assert code(call, TRACES, bomb) == (status.RESOURCE_EXHAUSTED, too_large)
        assert code(call, TRACES, bytes(2 << 20))[0] is status.RESOURCE_EXHAUSTED
        assert code(call, "/no.such.Service/Export", b"")[0] is status.UNIMPLEMENTED
        assert tokens(exporter) == {}


def test_the_right_to_push_is_needed(tmp_path: Path) -> None:
    config = """\
authentication:
  tokens:
    - {name: pusher, file: push.token, rights: [push]}
    - {name: reader, file: read.token, rights: [read]}
"""
    for right in ("push", "read"):
        (tmp_path / f"{right}.token").write_text(f"{right}-secret")
    body = logs_body([record(1.8e9, "SECRET")], PROTOBUF)
    with Exporter(tmp_path, config, LISTENING) as exporter, calling(exporter) as call:

        def told(secret: str) -> Any:
            return code(call, LOGS, body, metadata=(("authorization", f"Bearer {secret}"),))[0]

        assert code(call, LOGS, body)[0] is grpc.StatusCode.UNAUTHENTICATED
        assert told("other") is grpc.StatusCode.UNAUTHENTICATED
        assert told("read-secret") is grpc.StatusCode.PERMISSION_DENIED
        assert call(LOGS, body, metadata=(("authorization", "Bearer push-secret"),)) == b""


def test_whoever_speaks_grpc_to_the_address_of_http_shows_in_the_log_once_a_minute(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path) as exporter, grpc.insecure_channel(f"127.0.0.1:{exporter.port}") as to:
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                to.unary_unary(TRACES)(b"", timeout=10)
        lines = [one for one in exporter.log().splitlines() if "--otlp.grpc-address" in one]
        assert len(lines) == 1
        assert "source=http_2 client=127.0.0.1" in lines[0]


def test_it_speaks_tls_where_the_web_configuration_has_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
    )
    context = ssl.create_default_context()
    authority.configure_trust(context)
    options = (LISTENING, f"--web.config.file={tmp_path}/web.yml")
    trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with (
        Exporter(tmp_path, "", *options, tls=context) as exporter,
        calling(exporter, trusted) as call,
        calling(exporter) as plain,
    ):
        assert call(LOGS, logs_body([], PROTOBUF)) == b""
        assert code(plain, LOGS, b"")[0] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "setting", ["min_version: TLS13", "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]"]
)
def test_tls_that_grpc_cannot_keep_is_refused_at_the_start(setting: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "quota.yml").write_text("")
    (tmp_path / "web.yml").write_text(
        f"tls_server_config: {{cert_file: cert.pem, key_file: key.pem, {setting}}}\n"
    )
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "exporter", "serve", f"--config.file={tmp_path}/quota.yml"),
            *(f"--web.config.file={tmp_path}/web.yml", "--storage.url=memory://"),
            *("--web.listen-address=127.0.0.1:0", LISTENING),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "otlp.grpc-address: expected no min_version above TLS12" in ended.stderr


def test_many_large_messages_at_once_need_bounded_memory(tmp_path: Path) -> None:
    size = 10_000_000
    length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
    message = b"\x7a" + length + bytes(size)  # a field that nobody knows
    with Exporter(tmp_path, "budgets: {openai: 1000}", LISTENING) as exporter:
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{port(exporter)}"

        async def call_all() -> set[Any]:
            channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(8)]

            async def call(number: int) -> set[Any]:
                method = channels[number % 8].unary_unary(TRACES)
                return {await method(message, timeout=60).code() for _ in range(4)}

            found = await asyncio.gather(*[call(number) for number in range(100)])
            for channel in channels:
                await channel.close()
            return set().union(*found)

        codes = asyncio.run(call_all())
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
        status = Path(f"/proc/{exporter.process.pid}/status").read_text()
        assert int(status.partition("VmHWM:")[2].split()[0]) < 900_000, "KiB"


def test_slow_senders_hold_up_nobody_for_longer_than_a_request_may_take(tmp_path: Path) -> None:
    config = "budgets: {openai: 1000}\nlimits: {request_timeout: 4s}"
    with Exporter(tmp_path, config, LISTENING) as exporter:

        async def call_all() -> set[str]:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port(exporter)}") as channel:
                begun = [channel.stream_unary(TRACES)(timeout=25) for _ in range(80)]
                return {await one.details() for one in begun}

        assert asyncio.run(call_all()) == {"expected a message sooner"}
