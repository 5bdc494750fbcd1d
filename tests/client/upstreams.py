"""A provider's API that answers every chat in OpenAI's format, and says which one it is."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Upstream:
    """One provider on a loopback port.

    Attributes:
        name: what its answers say.
        url: where it listens.
        requests: how many came, by path.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.requests: Counter[str] = Counter()

    def answer(self) -> bytes:
        message = {"role": "assistant", "content": self.name}
        usage = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
        document = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-x",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": usage,
        }
        return json.dumps(document).encode()


@contextmanager
def upstream(name: str) -> Iterator[Upstream]:
    """Serve one."""
    owner = Upstream(name)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            owner.requests[self.path] += 1
            body = owner.answer()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            """Keeps the test output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    owner.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield owner
    server.shutdown()
    server.server_close()
