"""The libraries whose spans are read, as they are, against a fake of the providers."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from exporter.core.usage import Tokens, Usage
from exporter.intake.naming import Naming
from exporter.intake.otlp_metrics import read_metrics
from exporter.intake.otlp_reports import HOLD, Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_traces import read_traces
from tests import real
from tests.clients.clients import PROGRAMS
from tests.intake import servers

NAMING = Naming({}, [], ["openai", "anthropic"])
SONNET = "claude-sonnet-4-5-20250929"

CHAT = Tokens(input=60, cache_read=40, output=30, reasoning=20)
RESPONSES = Tokens(input=120, cache_read=80, output=40, reasoning=30)
EMBEDDING = Tokens(input=9)
MESSAGES = Tokens(input=60, cache_read=40, cache_write=10, output=50)

SETUP = """
import asyncio, os
from calls import URL, use_anthropic, use_openai
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

tracers = TracerProvider()
tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracers)
"""
OPENINFERENCE = """
from openinference.instrumentation.openai import OpenAIInstrumentor
from openinference.instrumentation.anthropic import AnthropicInstrumentor
OpenAIInstrumentor().instrument(tracer_provider=tracers)
AnthropicInstrumentor().instrument(tracer_provider=tracers)
import anthropic, openai
use_openai(openai)
use_anthropic(anthropic)
"""
OPENLLMETRY = """
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(), 3_600_000)])
OpenAIInstrumentor().instrument(tracer_provider=tracers, meter_provider=meters)
import openai
use_openai(openai)
meters.shutdown()
"""
LANGFUSE = """
from langfuse import Langfuse
client = Langfuse(public_key="pk", secret_key="sk", base_url=URL, tracer_provider=tracers)
from langfuse.openai import openai
use_openai(openai)
"""
LITELLM = """
os.environ["OTEL_EXPORTER"], os.environ["OTEL_ENDPOINT"] = "otlp_http", URL + "/v1/traces"
import litellm
from litellm.caching.caching import Cache
litellm.callbacks, litellm.cache = ["otel"], Cache(type="local")

async def main():
    to_openai = {"api_base": URL + "/v1", "api_key": "sk-none"}
    said = [{"role": "user", "content": "SECRET"}]
    for _ in range(2):  # the second time its cache answers
        await litellm.acompletion(
            model="openai/gpt-4o", messages=said, caching=True, **to_openai
        )
        await asyncio.sleep(1)
    await litellm.aresponses(model="openai/gpt-4o", input="SECRET", **to_openai)
    await litellm.aembedding(model="openai/text-embedding-3-small", input="SECRET", **to_openai)
    await litellm.anthropic.messages.acreate(
        model="anthropic/claude-sonnet-4-5-20250929", max_tokens=100, messages=said,
        api_base=URL, api_key="sk-none",
    )
    await asyncio.sleep(2)  # LiteLLM logs behind the call

asyncio.run(main())
"""


def report(library: str, directory: Path, environment: dict[str, str]) -> list[servers.Received]:
    """What a library's spans say of the same calls; a program of its own, since it patches."""
    with servers.running() as (url, received, _):
        subprocess.run(
            [sys.executable, "-c", f"{SETUP}{library}\ntracers.shutdown()\n"],
            env={
                "PYTHONPATH": str(PROGRAMS),
                "PROVIDER_URL": url,
                "OTEL_EXPORTER_OTLP_ENDPOINT": url,
                "OTEL_SERVICE_NAME": "shop",
                "OTEL_BSP_SCHEDULE_DELAY": "100",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "HOME": str(directory),
                **environment,
            },
            cwd=directory,
            check=True,
            timeout=120,
        )
    return received


def counted(received: list[servers.Received]) -> Counter[tuple[str, str, Tokens]]:
    """What each call counts as; checks that nothing is rejected, lost or kept of prompts."""
    reports = Reports(Sources())
    usages: list[Usage] = []
    for path, kind, body in received:
        read = {"/v1/traces": read_traces, "/v1/metrics": read_metrics}[path]
        reading = read(body, kind, NAMING, reports, 1e9)
        assert reading.rejected == []
        assert servers.SAID not in repr(reading)
        usages += reading.usages
    settled = reports.settle(1e9 + HOLD)
    usages += [one.said for one in settled if not isinstance(one.said, str)]
    found = {
        (one.provider, one.id or one.stream): (one.provider, one.model, one.tokens)
        for one in usages
    }
    return Counter(found.values())


def test_openinference_around_the_openai_sdk_and_anthropics_which_makes_spans_itself(
    tmp_path: Path,
) -> None:
    real.module("openinference.instrumentation.openai")
    real.module("openinference.instrumentation.anthropic")
    found = counted(report(OPENINFERENCE, tmp_path, {}))
    # OpenInference tells the release that answered: gpt-4o-2024-08-06.
    assert found == {
        ("openai", "gpt-4o", CHAT): 2,
        ("openai", "gpt-4o", RESPONSES): 2,
        ("openai", "text-embedding-3-small", EMBEDDING): 1,
        ("anthropic", SONNET, MESSAGES): 2,
    }


def test_openllmetry_whose_metrics_leave_first_and_have_no_responses(tmp_path: Path) -> None:
    """Of streamed chats it tells no reasoning."""
    real.module("opentelemetry.instrumentation.openai")
    received = report(OPENLLMETRY, tmp_path, {"OTEL_BSP_SCHEDULE_DELAY": "60000"})
    assert [one.path for one in received] == ["/v1/metrics", "/v1/traces"]
    assert counted(received) == {
        ("openai", "gpt-4o", CHAT): 1,
        ("openai", "gpt-4o", CHAT._replace(output=50, reasoning=0)): 1,
        ("openai", "gpt-4o", RESPONSES): 2,
        ("openai", "text-embedding-3-small", EMBEDDING): 1,
    }


def test_langfuses_wrapper_of_the_openai_sdk_names_no_provider(tmp_path: Path) -> None:
    real.module("langfuse")
    assert counted(report(LANGFUSE, tmp_path, {})) == {
        ("openai", "gpt-4o", CHAT): 2,
        ("openai", "gpt-4o", RESPONSES): 2,
        ("openai", "text-embedding-3-small", EMBEDDING): 1,
    }


@pytest.mark.parametrize(
    ("environment", "reasoning"), [({}, True), ({"LITELLM_OTEL_V2": "true"}, False)]
)
def test_both_generations_of_litellms_otel_callback(
    environment: dict[str, str], reasoning: bool, tmp_path: Path
) -> None:
    """The second does not tell reasoning apart."""
    real.module("litellm")
    chat, responses = CHAT, RESPONSES
    if not reasoning:
        chat, responses = (
            chat._replace(output=50, reasoning=0),
            responses._replace(output=70, reasoning=0),
        )
    assert counted(report(LITELLM, tmp_path, environment)) == {
        ("openai", "gpt-4o", chat): 1,
        ("openai", "gpt-4o", responses): 1,
        ("openai", "text-embedding-3-small", EMBEDDING): 1,
        ("anthropic", SONNET, MESSAGES): 1,
    }


@pytest.mark.parametrize(
    ("environment", "chats"), [({}, 1), ({"LITELLM_OTEL_V2": "true"}, 2)], ids=["first", "second"]
)
def test_litellms_metrics_alone_tell_cache_hits_apart_in_the_first_generation_only(
    environment: dict[str, str], chats: int, tmp_path: Path
) -> None:
    """What they cost is right in both; and spans beside them are right of both."""
    real.module("litellm")
    metrics = {"LITELLM_OTEL_INTEGRATION_ENABLE_METRICS": "true"}
    ended = "from opentelemetry import metrics\nmetrics.get_meter_provider().shutdown()\n"
    received = report(f"{LITELLM}\n{ended}", tmp_path, {**environment, **metrics})
    last = [one for one in received if one.path == "/v1/metrics"][-1]  # they are cumulative
    reading = read_metrics(last.body, last.content_type, NAMING, Reports(Sources("metrics")), 1e9)
    gpt = [one for one in reading.usages if one.model == "gpt-4o"]
    inputs = [(one.tokens.input, one.requests) for one in gpt if one.tokens.input]
    assert set(inputs) == {(100 * chats, chats), (200, 1)}
    assert sorted(one.cost_nano_usd or 0 for one in gpt)[-2:] == [700_000, 1_100_000]
    assert (reading.uncharged.get("cache_hit", 0) > 0) == (chats == 1)
    assert sum(counted(received).values()) == 4
