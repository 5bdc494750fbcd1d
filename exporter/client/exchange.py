"""One request and its response, and what of them is reported."""

from contextlib import suppress
from typing import Any

import msgspec

from exporter.client import redact
from exporter.client.body import DocumentReader, Reader, ResponseUsage, StreamReader
from exporter.client.providers import model_in
from exporter.client.reporter import Reporter

_MAX_ERROR = 65536
_OVERLOADED = (503, 529)
_USAGE_ON_REQUEST = ("/chat/completions", "/completions")
"""Paths whose streams carry usage only when asked: OpenAI's `stream_options.include_usage`."""


_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError, RuntimeError)
"""Not JSON, or a body that is sent as a stream."""


class _Body(msgspec.Struct):
    """Of a request only this is read; the decoder skips all else."""

    model: str = ""


_decoder = msgspec.json.Decoder(_Body)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_options = msgspec.json.Decoder(dict[str, Any])


class Asked:
    """Where a request went, and which model it asked for.

    Attributes:
        host: where it went.
        path: of its URL.
        model: as the request names it; empty where it does not, or its body is a stream.
    """

    def __init__(self, request: Any) -> None:
        self.host: str = request.url.host
        self.path: str = request.url.path
        self.model = model_in(self.path)
        with suppress(*_UNREADABLE):
            self.model = _decoder.decode(request.content).model or self.model

    @property
    def has_usage_on_request(self) -> bool:
        """Whether a stream of its answer carries usage only when asked to."""
        return self.path.endswith(_USAGE_ON_REQUEST)


def with_stream_usage(request: Any) -> bytes | None:
    """The body of a request for a stream that asks for usage, too; None where it needs no change.

    Everything else in it stays as it was, byte for byte.
    """
    if not request.url.path.endswith(_USAGE_ON_REQUEST):
        return None
    try:
        fields = _fields.decode(request.content)
        options = _options.decode(fields.get("stream_options", b"{}"))
    except _UNREADABLE:
        return None
    if bytes(fields.get("stream", b"")) != b"true" or "include_usage" in options:
        return None
    asked = msgspec.json.encode({**options, "include_usage": True})
    return msgspec.json.encode({**fields, "stream_options": msgspec.Raw(asked)})


class Exchange:
    """Reported once: when the body of the response ends, fails or is abandoned."""

    def __init__(self, reporter: Reporter, provider: str, asked: Asked, response: Any) -> None:
        self._reporter = reporter
        self._provider = provider
        self._asked = asked
        self._status: int = response.status_code
        self._headers = redact.headers(response.headers)
        self._seen = ResponseUsage()
        self._error = b""
        content_type = response.headers.get("content-type", "")
        self._streamed = content_type.startswith("text/event-stream")
        self._reader = self._reader_for(content_type)
        if self._headers and not self._failed:
            self._signal()  # at once: a stream may take minutes

    @property
    def reads_body(self) -> bool:
        """Whether anything in the body may matter."""
        return self._reader is not None

    def feed(self, piece: bytes) -> None:
        """Take in a piece of the body."""
        if self._reader is not None:
            self._reader.feed(piece)

    def finish(self) -> None:
        """Report."""
        if self._reader is not None:
            self._reader.end()
        if self._failed:
            # A spent balance or quota may come as any 4xx; the exporter tells it from the rest.
            if self._headers or self._status < 500 or self._status in _OVERLOADED:
                self._signal(self._error)
        elif redact.any_tokens(self._seen.usage):
            self._reporter.record(
                self._provider,
                model=self._seen.model,
                usage=self._seen.usage,
                id=self._seen.id or None,
            )
            self._succeeded()
        elif self._seen.error is not None:
            self._refused_within_success(self._seen.error)
        elif self._streamed and self._asked.has_usage_on_request and self._seen.id:
            self._reporter.record_uncounted(self._provider, self._seen.model, self._seen.id)
            self._succeeded()

    @property
    def _failed(self) -> bool:
        return self._status >= 400

    def _reader_for(self, content_type: str) -> Reader | None:
        if self._failed:
            return DocumentReader(self._keep_error, _MAX_ERROR)
        if self._streamed:
            return StreamReader(self._seen.read)
        return DocumentReader(self._seen.read) if "json" in content_type else None

    def _keep_error(self, document: bytes) -> None:
        self._error = document

    def _succeeded(self) -> None:
        if not self._headers:
            self._signal()  # a provider without such headers has answered all the same

    def _signal(self, body: Any = None) -> None:
        self._reporter.signal(
            self._provider, self._status, self._headers, body, model=self._asked.model
        )

    def _refused_within_success(self, error: dict[str, Any]) -> None:
        status = error.get("code")
        if isinstance(status, int) and 400 <= status < 500:
            self._reporter.signal(
                self._provider, status, self._headers, {"error": error}, model=self._asked.model
            )
