"""The clients: what each needs, how it is run, and what its user sets."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

PROGRAMS = Path(__file__).parent / "programs"


class Place(NamedTuple):
    """Where a client runs.

    Attributes:
        provider: the URL of the fake of the providers.
        exporter: the URL of the exporter.
        home: an empty folder.
    """

    provider: str
    exporter: str
    home: Path


class Client(NamedTuple):
    """A program that counts tokens.

    Attributes:
        name: as its users know it.
        kind: `pypi` or `npm`.
        packages: what is installed; the version of the first is shown.
        command: what is run, found in the environment's folder of programs.
        setting: what its user sets, in one line of Markdown.
        environment: variables beside those of OpenTelemetry.
        prepare: writes its files.
    """

    name: str
    kind: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    setting: str
    environment: Callable[[Place], Mapping[str, str]] = lambda place: {}
    prepare: Callable[[Place], None] = lambda place: None


def _python(name: str, *arguments: str) -> tuple[str, ...]:
    return ("python", str(PROGRAMS / f"{name}.py"), *arguments)


def _node(name: str) -> tuple[str, ...]:
    return ("node", f"{name}.mjs")


def _codex(place: Place) -> None:
    otlp = '{{ otlp-http = {{ endpoint = "{url}/v1/{signal}", protocol = "binary" }} }}'
    exporters = {"exporter": "logs", "trace_exporter": "traces", "metrics_exporter": "metrics"}
    lines = [
        'model = "gpt-5"',
        'model_provider = "fake"',
        "[model_providers.fake]",
        'name = "OpenAI"',
        f'base_url = "{place.provider}/v1"',
        'env_key = "OPENAI_API_KEY"',
        'wire_api = "responses"',
        "[otel]",
        *(
            f"{name} = {otlp.format(url=place.exporter, signal=signal)}"
            for name, signal in exporters.items()
        ),
    ]
    folder = place.home / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text("\n".join(lines))


def _gemini(place: Place) -> None:
    settings = {
        "telemetry": {
            "enabled": True,
            "target": "local",
            "logPrompts": False,
            "otlpEndpoint": place.exporter,
            "otlpProtocol": "http",
        },
        "security": {"auth": {"selectedType": "gemini-api-key"}},
    }
    folder = place.home / ".gemini"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))


OTLP = (
    "`OTEL_EXPORTER_OTLP_ENDPOINT=http://exporter:10042` "
    "`OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf`"
)
SDK = ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http")
SDKS = ("openai", "anthropic")

CLIENTS = (
    Client(
        "`instrument()` of this project",
        "pypi",
        ("openai", "anthropic", "msgspec"),
        _python("instrument"),
        '`instrument(client, Reporter("http://exporter:10042"))`',
        lambda place: {"PYTHONPATH": str(PROGRAMS.parents[2])},
    ),
    Client(
        "LiteLLM, `generic_api`",
        "pypi",
        ("litellm[proxy]",),
        _python("litellm_calls", "generic_api"),
        "`callbacks: [generic_api]` (of `litellm[proxy]`), `GENERIC_LOGGER_ENDPOINT=http://exporter:10042/v1/litellm`",
        lambda place: {
            "GENERIC_LOGGER_ENDPOINT": f"{place.exporter}/v1/litellm",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    ),
    Client(
        "LiteLLM, `otel`",
        "pypi",
        ("litellm", *SDK),
        _python("litellm_calls", "otel"),
        "`callbacks: [otel]`, `OTEL_EXPORTER=otlp_http`, `OTEL_ENDPOINT=http://exporter:10042/v1/traces`",
        lambda place: {
            "OTEL_EXPORTER": "otlp_http",
            "OTEL_ENDPOINT": f"{place.exporter}/v1/traces",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    ),
    Client(
        "OpenTelemetry for OpenAI (official)",
        "pypi",
        (
            "opentelemetry-instrumentation-openai-v2==2.4b0",
            "opentelemetry-util-genai==1.1b0",
            "openai",
            "httpx",
            *SDK,
        ),
        _python("openai_v2"),
        OTLP,
    ),
    Client(
        "OpenLLMetry (Python)",
        "pypi",
        (
            "opentelemetry-instrumentation-openai",
            "opentelemetry-instrumentation-anthropic",
            *SDKS,
            *SDK,
        ),
        _python("openllmetry"),
        OTLP,
    ),
    Client(
        "OpenLLMetry with LangChain",
        "pypi",
        ("opentelemetry-instrumentation-langchain", "langchain-openai", "langchain", *SDK),
        _python("langchain_openai_chat"),
        OTLP,
    ),
    Client(
        "OpenInference (Phoenix)",
        "pypi",
        (
            "openinference-instrumentation-openai",
            "openinference-instrumentation-anthropic",
            *SDKS,
            *SDK,
        ),
        _python("openinference_sdks"),
        OTLP,
    ),
    Client(
        "OpenAI Agents with OpenInference",
        "pypi",
        ("openinference-instrumentation-openai-agents", "openai-agents", *SDK),
        _python("openai_agents"),
        OTLP,
        lambda place: {"OPENAI_API_KEY": "sk-none", "OPENAI_AGENTS_DISABLE_TRACING": "0"},
    ),
    Client(
        "OpenLIT",
        "pypi",
        ("openlit", *SDKS),
        _python("openlit_sdks"),
        '`openlit.init(otlp_endpoint="http://exporter:10042")`',
    ),
    Client(
        "Langfuse",
        "pypi",
        ("langfuse", "openai", *SDK),
        _python("langfuse_openai"),
        "a second span processor with an OTLP exporter on Langfuse's `tracer_provider`",
    ),
    Client(
        "Pydantic AI",
        "pypi",
        ("pydantic-ai-slim[openai]", *SDK),
        _python("pydantic_ai_agent"),
        f"`Agent.instrument_all()`, {OTLP}",
    ),
    Client(
        "Vercel AI SDK",
        "npm",
        (
            *("ai", "@ai-sdk/openai", "@ai-sdk/anthropic", "@opentelemetry/api"),
            *("@opentelemetry/sdk-node", "@opentelemetry/exporter-trace-otlp-proto"),
        ),
        _node("ai_sdk"),
        f"`experimental_telemetry: {{isEnabled: true}}`, {OTLP}",
    ),
    Client(
        "OpenLLMetry (JavaScript)",
        "npm",
        ("@traceloop/node-server-sdk", "openai"),
        _node("openllmetry_node"),
        "`TRACELOOP_BASE_URL=http://exporter:10042`",
    ),
    Client(
        "Claude Code",
        "npm",
        ("@anthropic-ai/claude-code",),
        ("claude", "-p", "SECRET", "--model", "claude-sonnet-4-5-20250929"),
        "`CLAUDE_CODE_ENABLE_TELEMETRY=1` `OTEL_METRICS_EXPORTER=otlp` "
        f"`OTEL_LOGS_EXPORTER=otlp` and {OTLP}",
        lambda place: {
            "ANTHROPIC_BASE_URL": place.provider,
            "ANTHROPIC_API_KEY": "sk-none",
            "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        },
    ),
    Client(
        "Codex",
        "npm",
        ("@openai/codex",),
        ("codex", "exec", "--skip-git-repo-check", "SECRET"),
        "`[otel]` in `config.toml`, with the whole URL of each signal",
        lambda place: {"OPENAI_API_KEY": "sk-none", "CODEX_HOME": str(place.home / ".codex")},
        _codex,
    ),
    Client(
        "Gemini CLI",
        "npm",
        ("@google/gemini-cli",),
        ("gemini", "-p", "SECRET", "-m", "gemini-2.5-pro"),
        '`telemetry: {enabled, target: "local", otlpEndpoint, otlpProtocol: "http"}`',
        lambda place: {
            "GEMINI_API_KEY": "none",
            "GOOGLE_GEMINI_BASE_URL": place.provider,
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
        },
        _gemini,
    ),
)
