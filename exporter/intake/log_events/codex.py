"""OpenAI's Codex: https://developers.openai.com/codex/config-advanced (observability). Its input
includes the cache, its output the reasoning; what it calls `tool_token_count` is the total."""

from exporter.intake.log_events.event import Refused, Tool, number, status
from exporter.intake.spans.convention import Attributes, Call, text
from exporter.intake.usage_object import disjoint

_PROVIDER = "openai"
_COUNTS = (
    "input_token_count",
    "output_token_count",
    "cached_token_count",
    "cache_write_token_count",
    "reasoning_token_count",
)


def _sse_event(found: Attributes) -> Call | None:
    """Two are logged as a stream ends, one of them with counts."""
    if "input_token_count" not in found and "output_token_count" not in found:
        return None
    prompt, output, read, write, reasoning = (number(found, name) for name in _COUNTS)
    tokens = disjoint(prompt, output, cache_read=read, cache_write=write, reasoning=reasoning)
    return Call(_PROVIDER, text(found, "model"), tokens)


def _request(found: Attributes) -> Refused | None:
    code = status(found, "http.response.status_code")
    if code < 400:
        return None
    body = text(found, "error.message")
    return Refused(_PROVIDER, code, text(found, "model"), body)


TOOL = Tool(
    {
        "codex.sse_event": _sse_event,
        "codex.websocket_event": _sse_event,
        "codex.api_request": _request,
        "codex.websocket_request": _request,
    },
    frozenset({"model", "http.response.status_code", "error.message", *_COUNTS}),
)
