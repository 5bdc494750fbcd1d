"""A provider's response, reduced to what can speak of a quota."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from exporter.core.signal import Limit, Refusal

QUOTA = math.inf
"""Length of a window that is a quota of unknown period: a balance, a plan, a key's limit."""

_WORDS_KEPT = 4000
_VALUE_KEPT = 1000  # of a header's value: the patterns it meets take time by the square


class LimitState(NamedTuple):
    """One limit that a response speaks of.

    Attributes:
        name: short, in snake case, for people.
        length: seconds of its period; 0 unknown, `QUOTA` a quota of unknown period.
        spent: whether it stands in the way of the next request.
        until: Unix seconds at which it lets requests in again, where the provider says so.
        limit: what to show of it.
        model: name or pattern of the models it is for, empty: all; None: see `scope`.
        reason: why it refuses; None: by its length.
    """

    name: str
    length: float = 0.0
    spent: bool = False
    until: float | None = None
    limit: Limit | None = None
    model: str | None = None
    reason: Refusal | None = None


class Response(NamedTuple):
    """What one response carries.

    Attributes:
        provider: its name in lower case: free text, good for a hint only.
        status: the HTTP status, or the one in the body of an error sent as a success.
        headers: by lower-case name.
        error: the error object of the body; empty when there is none.
        text: what the error says. To be searched, never to be kept.
        words: the same in lower case.
        at: Unix seconds of the response.
        asked: the model that was asked for, empty when unknown.
        consumer: who asked, empty when unknown.
        event: the `rate_limits` of an event that Codex receives beside its answers.
    """

    provider: str
    status: int
    headers: Mapping[str, str]
    error: Mapping[str, Any]
    text: str
    words: str
    at: float
    asked: str = ""
    consumer: str = ""
    event: Mapping[str, Any] = {}


class _Body(msgspec.Struct):
    """The fields errors come in; the decoder skips all others, completions among them."""

    error: Any = None
    errors: Any = None
    title: Any = None
    detail: Any = None
    message: Any = None
    code: Any = None
    type: Any = None
    amazon_type: Any = msgspec.field(name="__type", default=None)
    headers: Any = None
    status_code: Any = None
    rate_limits: Any = None
    metered_limit_name: Any = None
    limit_name: Any = None


_object = msgspec.json.Decoder(_Body)
_array = msgspec.json.Decoder(list[_Body])


# What a stream that began as a success may end with:
# https://platform.claude.com/docs/en/api/errors#error-event
_STREAMED = {"overloaded_error": 529, "rate_limit_error": 429, "billing_error": 402}


def reduce(
    provider: str,
    status: int,
    headers: Mapping[str, object],
    body: bytes | str | Mapping[str, Any] | None,
    at: float,
    asked: str = "",
    consumer: str = "",
) -> Response:
    """Reduce a response, whatever nonsense its headers and body are."""
    shape = _decoded(body)
    error = next((part for part in (shape.error, shape.detail) if isinstance(part, dict)), {})
    metadata, details = mapping(error.get("metadata")), mapping(error.get("details"))
    # OpenRouter answers with the headers of the refusal inside the body, and sends some
    # refusals as a success: https://openrouter.ai/docs/api-reference/errors. Codex' events over
    # a WebSocket carry headers, too.
    said = {**mapping(shape.headers), **mapping(metadata.get("headers")), **headers}
    flat = {str(name).lower(): _single(value) for name, value in said.items()}
    spoken = [
        *(error.get(field) for field in ("message", "code", "type", "status")),
        *(metadata.get(field) for field in ("limit_source", "error_type", "raw")),
        details.get("error_code"),
        *(shape.error, shape.title, shape.detail, shape.message, shape.code, shape.type),
        shape.amazon_type,
        *(first.get("message") for first in objects(shape.errors)),
        flat.get("x-amzn-errortype"),
        flat.get("x-ratelimit-type"),
        _plain(body) if shape == _Body() else None,
    ]
    text = "\n".join(part[:_WORDS_KEPT] for part in spoken if isinstance(part, str))
    event = mapping(shape.rate_limits)
    return Response(
        provider.lower(),
        _status(status, shape, error, event),
        flat,
        error,
        text,
        text.lower(),
        at,
        asked.removeprefix("models/"),
        consumer,
        event and {"limit_name": shape.metered_limit_name or shape.limit_name, **event},
    )


def _status(status: int, shape: _Body, error: Mapping[str, Any], event: Mapping[str, Any]) -> int:
    """The status of the response, or the one of an error inside a success or an event."""
    if status >= 300:
        return status
    if event.get("limit_reached") is True or event.get("allowed") is False:
        return 429
    streamed = _STREAMED.get(str(error.get("type"))) if shape.type == "error" else None
    for code in (error.get("code"), shape.status_code, streamed):
        if isinstance(code, int) and 400 <= code < 600:
            return code
    return status


def is_google(response: Response) -> bool:
    """Whether the error is one of Google's; in the words, since gateways pass it on as text."""
    return "resource_exhausted" in response.words


def mapping(value: object) -> Mapping[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> Iterable[Mapping[str, Any]]:
    """The JSON objects in `value` where it is an array."""
    return (part for part in value if isinstance(part, dict)) if isinstance(value, list) else ()


def _decoded(body: bytes | str | Mapping[str, Any] | None) -> _Body:
    try:
        if isinstance(body, Mapping):
            return msgspec.convert(dict(body), _Body)
        # Gemini streams an array, its error included.
        start = body[:1] if body else b"{}"
        if start in ("[", b"["):
            return next(iter(_array.decode(body or b"[]")), _Body())
        return _object.decode(body or b"{}")
    except (msgspec.MsgspecError, UnicodeError, TypeError, RecursionError):
        return _Body()


def _plain(body: object) -> str | None:
    """A body that is neither JSON nor a page for people."""
    text = body[:_WORDS_KEPT].decode(errors="replace") if isinstance(body, bytes) else body
    return text if isinstance(text, str) and text[:1] not in "<{[" else None


def _single(value: object) -> str:
    """A header's value; of a repeated one the first."""
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    return str(value)[:_VALUE_KEPT]
