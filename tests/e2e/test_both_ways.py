"""The fast path answers as the ordinary way does: the same bytes to both, and what they say."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.running import COMMAND, ORDINARY, Exporter

CONFIG = """\
budgets: {openai: 1000, other-one: 5}
limits: {body_bytes: 100KiB, events_per_request: 100}
"""
EVENT = b'{"provider":"openai","tokens":1,"timestamp":"%d"}'

Answer = tuple[int, dict[str, str], bytes]


class Wire:
    """A connection that is read answer by answer."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20.0)
        self._rest = b""

    def ask(self, request: bytes, *, bodiless: bool = False) -> Answer:
        """Send a request; its answer, of which `bodiless` says that it has no body."""
        self.socket.sendall(request)
        while b"\r\n\r\n" not in self._rest:
            self._read()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        status = int(line.split(" ")[1])
        length = 0 if bodiless or status == 304 else int(headers.get("content-length", 0))
        while len(self._rest) < length:
            self._read()
        body, self._rest = self._rest[:length], self._rest[length:]
        return status, headers, body

    def _read(self) -> None:
        piece = self.socket.recv(1 << 16)
        assert piece, f"the connection ended after {self._rest!r}"
        self._rest += piece


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Exporter, Exporter]]:
    """One exporter with the fast path, one without."""
    with ExitStack() as stack:
        yield tuple(  # type: ignore[misc] # of two
            stack.enter_context(
                Exporter(
                    tmp_path_factory.mktemp("way"), CONFIG, storage="memory://", program=program
                )
            )
            for program in ((COMMAND,), ORDINARY)
        )


@pytest.fixture
def wires(both: tuple[Exporter, Exporter]) -> Iterator[list[Wire]]:
    wires = [Wire(exporter.port) for exporter in both]
    yield wires
    for wire in wires:
        wire.socket.close()


def push(body: bytes, *lines: bytes, target: bytes = b"/v1/usage") -> bytes:
    head = [
        b"POST " + target + b" HTTP/1.1",
        b"Content-Length: %d" % len(body),
        *(lines or (b"Content-Type: application/json",)),
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def event(**fields: object) -> bytes:
    return json.dumps({"provider": "openai", "tokens": 1, **fields}).encode()


JSON = b"Content-Type: application/json"
PUSHES = [
    push(event()),
    push(b"[" + event() + b"," + event() + b"]"),
    push(event() + b"\n" + event(), b"Content-Type: application/x-ndjson"),
    push(event(), b"content-type: APPLICATION/JSON; charset=UTF-8"),
    push(event(), b"Content-Type: text/plain"),
    push(event(), b"Content-Type: application/json", b"Content-Encoding: gzip"),
    push(event(), b"Accept: */*"),
    push(b""),
    push(b"{}"),
    push(b"[]"),
    push(b"null"),
    push(b"{"),
    push(b'{"a":1}{"a":2}'),
    push(event() + b" "),
    push(b"\xef\xbb\xbf" + event()),
    push(b"\xff\xfe"),
    push(event(tokens=-1)),
    push(event(tokens=1e300)),
    push(event(tokens=2**63)),
    push(event(provider="")),
    push(event(provider="x" * 129)),
    push(event(unknown=1)),
    push(event(timestamp=1)),
    push(event(timestamp="9999-12-31T23:59:59Z")),
    push(b'{"provider":"openai","tokens":1,"tokens":2}'),
    push(b'{"provider":"openai","tokens":NaN}'),
    push(b'{"provider":"openai","tokens":1e999}'),
    push(b'{"provider":"openai","tokens":1.0}'),
    push(b"[" + b",".join([event()] * 101) + b"]"),
    push(b'{"provider":"openai","model":"' + b"x" * 110_000 + b'","tokens":1}'),
    push(event(), JSON, b"Idempotency-Key: one"),
    push(event(tokens=2), JSON, b"Idempotency-Key: one"),
    push(event(), JSON, b"Idempotency-Key: " + b"k" * 300),
    push(event(), JSON, b"Idempotency-Key:"),
    push(event(), JSON, b"Idempotency-Key: two", b"Idempotency-Key: three"),
    push(event(), JSON, b"Idempotency-Key: three"),
    push(event(), JSON, b"Idempotency-Key: two"),
    push(event(), JSON, b"Content-Type: text/plain"),
    push(event(), b"Content-Type: text/plain", JSON),
    push(event(), JSON, b"X-Consumer: team"),
    push(event(), JSON, b"Authorization: Bearer unknown"),
    push(event(), JSON, target=b"/v1/usage?x=1"),
    push(event(), JSON, target=b"http://elsewhere/v1/usage"),
    push(event(), JSON, target=b"/v1/./usage"),
    push(event(), JSON, target=b"//v1/usage"),
    push(event(), JSON, target=b"/v1%2Fusage"),
]


@pytest.mark.parametrize("request_", PUSHES, ids=range(len(PUSHES)))
def test_a_push_is_answered_and_counted_the_same(
    both: tuple[Exporter, Exporter], wires: list[Wire], request_: bytes
) -> None:
    first, second = ([wire.ask(request_) for _ in range(2)] for wire in wires)
    assert first == second
    counted = [
        {
            key: value
            for key, value in exporter.metrics().items()
            if key[0]
            in ("llm_quota_requests_total", "llm_quota_tokens_total", "llm_quota_events_total")
        }
        for exporter in both
    ]
    assert counted[0] == counted[1]


PATHS = [
    *("/-/healthy", "/-/ready", "/v1/availability", "/v1/availability?provider=openai"),
    *("/v1/availability?provider=openai&model=gpt-5&consumer=team", "/v1/providers/never"),
    *("/v1/availability?provider=never%2Fseen%20%C3%A9", "/v1/availability?provider="),
    *("/v1/availability?provider=openai&provider=other-one", "/v1/availability?provide=x"),
    *("/v1/availability?provider=%ff", "/v1/availability?provider=a%00b", "/v1/availability?"),
    *("/v1/exhausted", "/v1/nowhere", "/openapi.json"),
]


def comparable(answer: Answer) -> Answer:
    """Without what differs from process to process, and from moment to moment."""
    status, headers, body = answer
    tagged = {name: "…" if name == "etag" else value for name, value in headers.items()}
    return status, tagged, re.sub(rb"\d{4}-[0-9T:.-]+Z|\d\.\d+(e-\d+)?", b"", body)


@pytest.mark.parametrize("path", PATHS)
def test_a_question_is_answered_the_same_and_head_without_the_body(
    wires: list[Wire], path: str
) -> None:
    found = []
    for wire in wires:
        for _ in range(2):  # the second time its head is known
            get = wire.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = wire.ask(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), bodiless=True)
            assert (head[0], head[1]) == (get[0], get[1])
            found.append(comparable(get))
    assert found[1:] == found[:-1]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{etag}", 304),
        ("W/{etag}", 304),
        ('"x", {etag}', 304),
        ("*", 304),
        ('"x"', 200),
        ("", 200),
        ("{etag}x", 200),
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/availability", "/v1/availability?provider=openai"], ids=["all", "one"]
)
def test_what_is_known_is_not_sent_again(
    wires: list[Wire], path: str, header: str, status: int
) -> None:
    for wire in wires:
        _, headers, body = wire.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        held = header.format(etag=headers["etag"])
        for method in ("GET", "HEAD", "GET"):
            request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {held}\r\n\r\n"
            again = wire.ask(request.encode(), bodiless=method == "HEAD")
            assert again[0] == status
            assert again[1]["etag"] == headers["etag"]
            assert again[2] == (body if status == 200 and method == "GET" else b"")
