"""A provider that answers about accounts, on a local port."""

import json
from http.server import ThreadingHTTPServer
from urllib.parse import urlsplit

from tests.local_server import QuietHandler


class Provider(ThreadingHTTPServer):
    """Answers each path with what is set for it, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: dict[str, object] = {}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(QuietHandler):
    server: Provider

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.path)
        server.keys.add(self.headers["authorization"])
        found = server.bodies.get(urlsplit(self.path).path)
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.answer(server.status if found is not None else 404, server.headers, body)
