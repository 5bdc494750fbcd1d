"""Usage found in a response body while the body passes by, in pieces of any size.

What is kept: one JSON document (or one line of an event stream) at a time, and of it the last
value of each usage field. Streams count up, so the last is the whole: OpenAI's and Gemini's final
chunk, and Anthropic's `message_delta`, which may correct what `message_start` said.
"""

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from exporter.client import redact

MAX_DOCUMENT = 32 * 2**20
"""Bytes of the largest document read: an image or a full batch of embeddings fits."""


class _Document(msgspec.Struct):
    """Where providers report usage, and errors within a success; the decoder skips all else."""

    id: Any = None
    response_id: Any = msgspec.field(name="responseId", default=None)  # Gemini
    model: Any = None
    model_version: Any = msgspec.field(name="modelVersion", default=None)  # Gemini
    usage: Any = None
    usage_metadata: Any = msgspec.field(name="usageMetadata", default=None)  # Gemini
    response: "_Document | str | None" = None  # OpenAI Responses: response.completed
    message: "_Document | str | None" = None  # Anthropic: message_start
    x_groq: "_Document | None" = None
    error: Any = None  # OpenRouter: a refusal sent as a success


_decoder = msgspec.json.Decoder(_Document | list[_Document])


class ResponseUsage:
    """What was seen of one response.

    Attributes:
        usage: token counts under the provider's own names, empty when none were seen.
        id: the response's own, empty when none was seen.
        model: as the response names it.
        error: the error object within a success, None when none was seen.
    """

    def __init__(self) -> None:
        self.usage: dict[str, Any] = {}
        self.id = ""
        self.model = ""
        self.error: dict[str, Any] | None = None

    def read(self, document: bytes) -> None:
        """Takes in one JSON document; one that is not JSON, or unlike any we know, says nothing."""
        try:
            decoded = _decoder.decode(document)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return
        for whole in decoded if isinstance(decoded, list) else [decoded]:
            for part in (whole, whole.response, whole.message, whole.x_groq):
                if isinstance(part, _Document):
                    self._merge(part)

    def _merge(self, part: _Document) -> None:
        self.id = self.id or _text(part.id) or _text(part.response_id)
        self.model = self.model or _text(part.model) or _text(part.model_version)
        if isinstance(part.error, dict):
            self.error = part.error
        for usage in (part.usage, part.usage_metadata):
            if isinstance(usage, dict):
                self.usage |= redact.usage(usage)


class Reader(Protocol):
    """Fed a body piece by piece, then ended once; hands on the documents it finds."""

    def feed(self, piece: bytes) -> None: ...

    def end(self) -> None: ...


class DocumentReader:
    """A body that is one JSON document, let go when it outgrows `limit` bytes.

    The pieces are kept as they come: where the body is not compressed they are the very objects
    that the application's own reading gathers.
    """

    def __init__(self, found: Callable[[bytes], None], limit: int = MAX_DOCUMENT) -> None:
        self._found = found
        self._room = limit
        self._pieces: list[bytes] = []

    def feed(self, piece: bytes) -> None:
        self._room -= len(piece)
        if self._room < 0:
            self._pieces.clear()
        else:
            self._pieces.append(piece)

    def end(self) -> None:
        self._found(b"".join(self._pieces))


class StreamReader:
    """A body of server-sent events: its first data, which names the answer, then usage and errors.

    Every provider sends an event's data as one line, so lines are not joined into events; every
    other line is dropped as it ends.
    """

    def __init__(self, found: Callable[[bytes], None], limit: int = MAX_DOCUMENT) -> None:
        self._found = found
        self._limit = limit
        self._line: list[bytes] = []
        self._size = 0
        self._named = False

    def feed(self, piece: bytes) -> None:
        first, *others = piece.split(b"\n")
        self._add(first)
        for start in others:
            self.end()
            self._add(start)

    def end(self) -> None:
        line = b"".join(self._line)
        self._line, self._size = [], 0
        if not line.startswith(b"data:"):
            return
        if not self._named or b'"usage' in line or b'"error"' in line:
            self._named = True
            self._found(line.removeprefix(b"data:").strip())

    def _add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            self._line.clear()
        else:
            self._line.append(part)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
