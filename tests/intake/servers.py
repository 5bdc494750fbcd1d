"""A fake of what providers answer, and an OTLP endpoint that keeps what real clients send it."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import MappingProxyType
from typing import Any, NamedTuple

CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 20},
}
RESPONSES = {
    "input_tokens": 200,
    "input_tokens_details": {"cached_tokens": 80},
    "output_tokens": 70,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 270,
}
EMBEDDING = {"prompt_tokens": 9, "total_tokens": 9}
MESSAGES = {
    "input_tokens": 60,
    "cache_read_input_tokens": 40,
    "cache_creation_input_tokens": 10,
    "output_tokens": 50,
}
GEMINI = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 30,
    "thoughtsTokenCount": 20,
    "totalTokenCount": 150,
}
"""What every call of each interface uses."""

REFUSED = "refused"
"""Models with this in their name are refused, as each interface refuses a spent quota."""

SAID = "SECRET"
_NONE: Mapping[str, str] = MappingProxyType({})
OTLP = {"/v1/metrics", "/v1/traces", "/v1/logs"}


class Received(NamedTuple):
    """One request to the OTLP endpoint."""

    path: str
    content_type: str
    body: bytes


class Servers(NamedTuple):
    """Attributes:
    url: of both, without a path.
    received: what came to the OTLP endpoint, in order.
    asked: the paths of the calls of providers, in order.
    """

    url: str
    received: list[Received]
    asked: list[str]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received: list[Received]
    asked: list[str]

    def do_POST(self) -> None:
        length = self.headers["content-length"]
        body = self.rfile.read(int(length)) if length is not None else b"".join(self._chunks())
        path = self.path.partition("?")[0]
        if path in OTLP:
            kind = self.headers["content-type"]
            self.received.append(Received(path, kind, body))
            self._answer(kind, b"" if "proto" in kind else b"{}")
            return
        if path.startswith("/api/"):  # Langfuse's own
            self._answer("application/json", b"{}")
            return
        self.asked.append(path)
        self._provide(path, json.loads(body), f"{len(self.asked)}")

    def _provide(self, path: str, request: dict[str, Any], number: str) -> None:
        model, stream = request.get("model", path), request.get("stream")
        if REFUSED in model:
            self._refuse(path)
        elif ":" in path:
            self._gemini(path)
        elif path.endswith("/embeddings"):
            vector = [0.1, 0.2] if request.get("encoding_format") != "base64" else "AAAAAAAAAAA="
            data = [{"object": "embedding", "index": 0, "embedding": vector}]
            self._json({"object": "list", "data": data, "model": model, "usage": EMBEDDING})
        elif path.endswith("/chat/completions"):
            head = {"id": f"chatcmpl-{number}", "created": 1, "model": f"{model}-2024-08-06"}
            self._stream(_chat_chunks(head)) if stream else self._json(_chat(head))
        elif path.endswith("/responses"):
            whole = _response(f"resp_{number}", f"{model}-2024-08-06")
            self._stream(_response_events(whole)) if stream else self._json(whole)
        elif path.endswith("/messages"):
            whole = _message(f"msg_{number}", model)
            self._stream(_message_events(whole)) if stream else self._json(whole)
        else:
            self.asked.pop()
            self.send_error(404)

    def _refuse(self, path: str) -> None:
        """Words of each provider: see `refusals.yml`."""
        if path.endswith("/messages"):
            error = {"type": "rate_limit_error", "message": "This request would exceed your limit"}
            reset = str(int(time.time()) + 7200)
            headers = {
                "anthropic-ratelimit-unified-status": "rejected",
                "anthropic-ratelimit-unified-reset": reset,
                "anthropic-ratelimit-unified-representative-claim": "five_hour",
                "retry-after": "7200",
            }
            answer: dict[str, Any] = {"type": "error", "error": error}
        elif ":" in path:
            quota = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
            failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure"}
            details = [{**failure, "violations": [{"quotaId": quota}]}]
            answer = {"error": {"code": 429, "message": "You exceeded your current quota"}}
            answer["error"] |= {"status": "RESOURCE_EXHAUSTED", "details": details}
            headers = {}
        else:
            answer = {"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}
            answer["error"]["message"] = "You exceeded your current quota"
            headers = {}
        self._answer("application/json", json.dumps(answer).encode(), 429, headers)

    def _gemini(self, path: str) -> None:
        part = {"content": {"role": "model", "parts": [{"text": SAID}]}, "finishReason": "STOP"}
        model = path.rpartition("/")[2].partition(":")[0]
        whole = {"candidates": [part], "usageMetadata": GEMINI, "modelVersion": model}
        whole["responseId"] = f"gemini-{len(self.asked)}"
        if path.endswith(":countTokens"):
            self._json({"totalTokens": 100})
        elif "stream" in path:
            self._stream([f"data: {json.dumps(whole)}"])
        else:
            self._json(whole)

    def _json(self, answer: object) -> None:
        self._answer("application/json", json.dumps(answer).encode())

    def _stream(self, events: list[str]) -> None:
        self._answer("text/event-stream", "".join(f"{one}\n\n" for one in events).encode())

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().strip() or b"0", 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _answer(
        self, kind: str, body: bytes, status: int = 200, headers: Mapping[str, str] = _NONE
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("request-id", f"req_{len(self.asked)}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: tests read what arrived."""


@contextmanager
def running() -> Iterator[Servers]:
    """Both servers on one free port."""
    received: list[Received] = []
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"received": received, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Servers(f"http://127.0.0.1:{server.server_port}", received, asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _chat(head: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "assistant", "content": SAID}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": CHAT}


def _chat_chunks(head: dict[str, Any]) -> list[str]:
    chunk = {**head, "object": "chat.completion.chunk"}
    said = {"index": 0, "delta": {"role": "assistant", "content": SAID}, "finish_reason": None}
    done = {"index": 0, "delta": {}, "finish_reason": "stop"}
    chunks: list[Any] = [{**chunk, "choices": [one]} for one in (said, done)]
    chunks.append({**chunk, "choices": [], "usage": CHAT})
    return [*(f"data: {json.dumps(one)}" for one in chunks), "data: [DONE]"]


def _response(identity: str, model: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": SAID, "annotations": []}
    said = {"type": "message", "id": "m", "role": "assistant", "status": "completed"}
    return {
        "id": identity,
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": model,
        "output": [{**said, "content": [text]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": RESPONSES,
    }


def _response_events(whole: dict[str, Any]) -> list[str]:
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    item = whole["output"][0]
    where = {"item_id": "m", "output_index": 0, "content_index": 0}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {
            "type": "response.content_part.added",
            **where,
            "part": {**item["content"][0], "text": ""},
        },
        {"type": "response.output_text.delta", **where, "delta": SAID, "logprobs": []},
        {"type": "response.output_text.done", **where, "text": SAID, "logprobs": []},
        {"type": "response.content_part.done", **where, "part": item["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return [
        f"event: {one['type']}\ndata: {json.dumps({**one, 'sequence_number': number})}"
        for number, one in enumerate(events)
    ]


def _message(identity: str, model: str) -> dict[str, Any]:
    return {
        "id": identity,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": SAID}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": MESSAGES,
    }


def _message_events(whole: dict[str, Any]) -> list[str]:
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**MESSAGES, "output_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SAID}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 50},
        },
        {"type": "message_stop"},
    ]
    return [f"event: {one['type']}\ndata: {json.dumps(one)}" for one in events]
