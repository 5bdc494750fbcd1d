"""Speaks what the exporter says of its states, and misbehaves on request.

For what the real exporter cannot be made to do: hang, lie, refuse, or keep quiet.
"""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def entry(provider: str, **more: Any) -> dict[str, Any]:
    """A scope as the exporter reports it."""
    return {
        "provider": provider,
        "state": "available",
        "reason": None,
        "retry_after": None,
        "throttled_until": None,
        "probability": None,
        "exhaustion_at": None,
        **more,
    }


def out(provider: str, until: str | None = "2099-01-01T00:00:00Z", **more: Any) -> dict[str, Any]:
    """A scope that is exhausted."""
    return entry(provider, state="quota_exhausted", reason="budget", retry_after=until, **more)


class StatesServer:
    """`/v1/watch` and `/v1/availability` over a state that tests set.

    Attributes:
        watch_status: what `/v1/watch` answers; 200 streams.
        poll_status: what `/v1/availability` answers.
        silent: the stream opens and nothing comes.
        requests: (path, headers) of each request.
        connections: streams that are open.
    """

    def __init__(self) -> None:
        self.watch_status = self.poll_status = 200
        self.silent = False
        self.names: dict[str, list[str]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.connections = 0
        self._scopes: dict[Any, dict[str, Any]] = {}
        self._log: list[bytes] = []
        self._changed = threading.Condition()
        self._stop = False
        self._generation = 0

    def set(self, *entries: dict[str, Any]) -> None:
        """Report these scopes, changed."""
        with self._changed:
            for one in entries:
                key = one["provider"], one.get("model"), one.get("consumer")
                self._scopes[key] = one
                if one["state"] == "available" and not one["probability"]:
                    del self._scopes[key]
                self.say(f"event: change\ndata: {json.dumps(one)}\n\n".encode())

    def say(self, raw: bytes) -> None:
        """Send these bytes to everybody who watches."""
        with self._changed:
            self._log.append(raw)
            self._changed.notify_all()

    def hang_up(self) -> None:
        """End all streams."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    def whole(self) -> bytes:
        scopes = list(self._scopes.values())
        return json.dumps({"scopes": scopes, "names": self.names}).encode()

    def wait_for(self, ready: Any) -> None:
        """Until `ready()` is true."""
        with self._changed:
            assert self._changed.wait_for(ready, 20), "nobody came"

    @contextmanager
    def serving(self, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[str]:
        """Serve; the URL."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with owner._changed:
                    owner.requests.append((self.path, dict(self.headers)))
                    owner._changed.notify_all()
                if self.path == "/v1/watch":
                    owner._watch(self)
                else:
                    owner._poll(self)

            def log_message(self, *_: Any) -> None:
                """Keeps the test output clean."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                """A watcher that hung up is part of the tests."""

        server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self._stop = False
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        finally:
            with self._changed:
                self._stop = True
                self._changed.notify_all()
            server.shutdown()
            server.server_close()

    def _poll(self, handler: BaseHTTPRequestHandler) -> None:
        body = self.whole()
        tag = f'"{hash(body)}"'
        same = handler.headers.get("If-None-Match") == tag
        handler.send_response(304 if same else self.poll_status)
        handler.send_header("ETag", tag)
        handler.send_header("Content-Length", "0" if same else str(len(body)))
        handler.end_headers()
        if not same:
            handler.wfile.write(body)

    def _watch(self, handler: BaseHTTPRequestHandler) -> None:
        if self.watch_status != 200:
            handler.send_error(self.watch_status)
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        with self._changed:
            generation, sent = self._generation, len(self._log)
            first = b"event: state\nid: 1\ndata: " + self.whole() + b"\n\n"
            self.connections += 1
            self._changed.notify_all()
        try:
            if not self.silent:
                handler.wfile.write(first)
            while new := self._next(generation, sent):
                handler.wfile.write(b"".join(new))
                sent += len(new)
        finally:
            with self._changed:
                self.connections -= 1
                self._changed.notify_all()
            handler.close_connection = True

    def _next(self, generation: int, sent: int) -> list[bytes]:
        """What is to be sent after the first `sent`; empty when the stream is to end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stop or generation != self._generation or sent < len(self._log)
            )
            ended = self._stop or generation != self._generation
            return [] if ended else self._log[sent:]
