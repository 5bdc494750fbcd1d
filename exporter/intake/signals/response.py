"""A provider's response, reduced to what can speak of a quota."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from exporter.core.signal import Limit

QUOTA = math.inf
"""Length of a window that is a quota of unknown period: a balance, a plan, a key's limit."""

_WORDS_KEPT = 4000
_VALUE_KEPT = 1000  # of a header's value: the patterns it meets take time by the square


class Window(NamedTuple):
    """One limit that a response speaks of.

    Attributes:
        name: short, in snake case, for people.
        length: seconds of its period; 0 unknown, `QUOTA` a quota of unknown period.
        spent: whether it stands in the way of the next request.
        until: Unix seconds at which it lets requests in again, where the provider says so.
        limit: what to show of it.
    """

    name: str
    length: float = 0.0
    spent: bool = False
    until: float | None = None
    limit: Limit | None = None


class Response(NamedTuple):
    """What one response carries.

    Attributes:
        provider: its name in lower case: free text, good for a hint only.
        status: the HTTP status, or the one in the body of an error sent as a success.
        headers: by lower-case name.
        error: the error object of the body; empty when there is none.
        words: what the error says, in lower case. To be searched, never to be kept.
        at: Unix seconds of the response.
    """

    provider: str
    status: int
    headers: Mapping[str, str]
    error: Mapping[str, Any]
    words: str
    at: float


class _Body(msgspec.Struct):
    """The fields errors come in; the decoder skips all others, completions among them."""

    error: Any = None
    detail: Any = None
    message: Any = None
    code: Any = None
    type: Any = None
    amazon_type: Any = msgspec.field(name="__type", default=None)


_object = msgspec.json.Decoder(_Body)
_array = msgspec.json.Decoder(list[_Body])


def reduce(
    provider: str,
    status: int,
    headers: Mapping[str, object],
    body: bytes | str | Mapping[str, Any] | None,
    at: float,
) -> Response:
    """Reduce a response, whatever nonsense its headers and body are."""
    shape = _decoded(body)
    error = next((part for part in (shape.error, shape.detail) if isinstance(part, dict)), {})
    metadata = mapping(error.get("metadata"))
    # OpenRouter answers with the headers of the refusal inside the body, and sends some
    # refusals as a success: https://openrouter.ai/docs/api-reference/errors
    said = {**mapping(metadata.get("headers")), **headers}
    code = error.get("code")
    if 200 <= status < 300 and isinstance(code, int) and 400 <= code < 600:
        status = code
    flat = {str(name).lower(): _single(value) for name, value in said.items()}
    spoken = [
        *(error.get(field) for field in ("message", "code", "type", "status")),
        metadata.get("limit_source"),
        *(shape.error, shape.detail, shape.message, shape.code, shape.type, shape.amazon_type),
        flat.get("x-amzn-errortype"),
        _plain(body) if shape == _Body() else None,
    ]
    words = "\n".join(text[:_WORDS_KEPT] for text in spoken if isinstance(text, str))
    return Response(provider.lower(), status, flat, error, words.lower(), at)


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
