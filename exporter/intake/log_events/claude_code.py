"""Claude Code: https://code.claude.com/docs/en/monitoring-usage. Its input excludes the cache."""

from exporter.core.usage import Tokens
from exporter.intake.log_events.event import Refused, Tool, number, status
from exporter.intake.spans.convention import Attributes, Call, dollars, text

_PROVIDER = "anthropic"
_KINDS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_creation_tokens",
    "output": "output_tokens",
}


def _request(found: Attributes) -> Call:
    kinds = {kind: number(found, name) for kind, name in _KINDS.items()}
    return Call(
        _PROVIDER,
        text(found, "model"),
        Tokens(**kinds),
        identity=text(found, "request_id"),
        cost_nano_usd=dollars(found, "cost_usd"),
        session=text(found, "session.id"),
    )


def _error(found: Attributes) -> Refused:
    message = {"error": {"message": text(found, "error")}}
    return Refused(_PROVIDER, status(found, "status_code"), text(found, "model"), message)


TOOL = Tool(
    {"claude_code.api_request": _request, "claude_code.api_error": _error},
    frozenset(
        {"model", "request_id", "session.id", "cost_usd", "status_code", "error", *_KINDS.values()}
    ),
    scope="com.anthropic.claude_code",
    prefix="claude_code.",
)
