"""An exporter and a provider's API, both on a loopback port in threads of their own."""

import gzip
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Sink:
    """Stands in for the exporter: accepts everything, after the answers it was told to give.

    Attributes:
        requests: everything that came, in order, failed attempts included.
        answers: what to do with the next requests: a status, or a status with headers and a
            body, or a function called instead of answering.
    """

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    answers: deque[Any] = field(default_factory=deque)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    events_by_id: dict[str, dict[str, Any]] = field(default_factory=dict)
    signals: list[dict[str, Any]] = field(default_factory=list)

    def wait_for(self, ready: Callable[[], Any]) -> None:
        with self.arrived:
            assert self.arrived.wait_for(ready, timeout=20), "the exporter waited in vain"

    @property
    def events(self) -> list[dict[str, Any]]:
        return list(self.events_by_id.values())

    def answer(self, handler: "Handler") -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        if handler.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self.arrived:
            self.requests.append(Received(handler.path, dict(handler.headers), body))
            answer = self.answers.popleft() if self.answers else 200
            self.arrived.notify_all()
        if callable(answer):
            answer(handler)
            return
        status, headers, text = answer if isinstance(answer, tuple) else (answer, {}, b"{}")
        if status == 200:
            self._keep(handler.path, body)
        handler.reply(status, headers, [text])

    def _keep(self, path: str, body: bytes) -> None:
        with self.arrived:
            documents = [json.loads(line) for line in body.splitlines()]
            if path == "/v1/signals":
                self.signals += documents
            else:
                self.events_by_id |= {document["id"]: document for document in documents}
            self.arrived.notify_all()


@dataclass
class Api:
    """A provider: gives the same answer to every request.

    Attributes:
        chunks: pieces of the body, flushed one by one.
        asked: bodies of the requests that came.
    """

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)

    def answer_json(self, document: Any, status: int = 200, **headers: str) -> None:
        self.status, self.chunks = status, [json.dumps(document).encode()]
        self.headers = {"Content-Type": "application/json", **_dashed(headers)}

    def answer_events(self, *lines: str, **headers: str) -> None:
        self.status, self.chunks = 200, [line.encode() + b"\n\n" for line in lines]
        self.headers = {"Content-Type": "text/event-stream; charset=utf-8", **_dashed(headers)}

    def answer(self, handler: "Handler") -> None:
        self.asked.append(handler.rfile.read(int(handler.headers.get("Content-Length") or 0)))
        handler.reply(self.status, self.headers, self.chunks)


def _dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


class Handler(BaseHTTPRequestHandler):
    def reply(self, status: int, headers: dict[str, str], chunks: list[bytes]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(chunk)
            self.wfile.flush()

    def do_POST(self) -> None:
        self.server.owner.answer(self)  # type: ignore[attr-defined]  # set by _serving

    do_GET = do_POST

    def log_message(self, *_: Any) -> None:
        """Keeps the test output clean."""


class Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, *_: Any) -> None:
        """A peer that hung up is part of the tests."""


def _serving(owner: Any) -> Iterator[Any]:
    server = Server(("127.0.0.1", 0), Handler)
    server.owner = owner  # type: ignore[attr-defined]  # read by Handler
    owner.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield owner
    server.shutdown()
    server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    yield from _serving(Sink())


@pytest.fixture
def api() -> Iterator[Api]:
    yield from _serving(Api())


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.client.delivery._FIRST_BACKOFF", 0.01)


@pytest.fixture
def hang() -> Iterator[Callable[[Handler], None]]:
    """An answer that does not come before the test ends, or `hang.release` is set."""

    class Hang:
        release = threading.Event()

        def __call__(self, handler: Handler) -> None:
            self.release.wait(20)
            handler.reply(200, {}, [b"{}"])

    answer = Hang()
    answer.release = threading.Event()
    yield answer
    answer.release.set()
