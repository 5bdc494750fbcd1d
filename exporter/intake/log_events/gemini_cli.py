"""Gemini CLI: https://geminicli.com/docs/cli/telemetry. Its input includes the cache; thoughts and
prompts of tools are beside. Of errors it has what the provider answered."""

from exporter.intake.log_events.event import Refused, Tool, number, status
from exporter.intake.spans.convention import Attributes, Call, text
from exporter.intake.usage_object import disjoint

_VERTEX = ("vertex", "compute-default-credentials", "cloud-shell")
_COUNTS = (
    "input_token_count",
    "output_token_count",
    "cached_content_token_count",
    "thoughts_token_count",
    "tool_token_count",
    "total_token_count",
)


def _response(found: Attributes) -> Call:
    prompt, output, cached, thoughts, tools, total = (number(found, name) for name in _COUNTS)
    tokens = disjoint(
        prompt + tools,
        output,
        cache_read=cached,
        reasoning=thoughts,
        total=total,
        reasoning_inside=False,
    )
    return Call(_provider(found), text(found, "model"), tokens)


def _error(found: Attributes) -> Refused:
    code = status(found, "status_code", "http.status_code")
    return Refused(_provider(found), code, text(found, "model", "model_name"), text(found, "error"))


def _provider(found: Attributes) -> str:
    auth = text(found, "auth_type")
    return "gcp.vertex_ai" if any(word in auth for word in _VERTEX) else "gcp.gemini"


TOOL = Tool(
    {"gemini_cli.api_response": _response, "gemini_cli.api_error": _error},
    frozenset({"model", "model_name", "auth_type", "status_code", "http.status_code", "error"})
    | {*_COUNTS},
)
