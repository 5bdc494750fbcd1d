"""Clients without any credential that try to take the memory, the connections or the time."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.e2e.running import Exporter, until
from tests.fuzz.conftest import Wire, wire
from tests.fuzz.test_bounds import memory

CONNECTIONS = 40
CONFIG = f"""\
budgets: {{openai: 1_000_000}}
limits:
  connections: {CONNECTIONS}
  request_timeout: 1s
  body_bytes: 1MiB
  outstanding_bytes: 16MiB
"""
MIB = 1 << 20
HEALTHY = b"GET /-/healthy HTTP/1.1\r\n\r\n"
EVENT = b'{"provider":"a","tokens":1}'
ACCEPTED = (200, b'{"accepted":1,"duplicates":0,"rejected":[]}')


def push(body: bytes = EVENT, *lines: bytes, path: bytes = b"/v1/usage") -> bytes:
    head = [
        b"POST " + path + b" HTTP/1.1",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        *lines,
    ]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with Exporter(tmp_path_factory.mktemp("attacked"), CONFIG, storage="memory://") as running:
        yield running
        assert "Traceback" not in running.log(), running.log()[-4000:]


class Flood:
    """A connection that sends without reading."""

    def __init__(self, port: int, data: bytes) -> None:
        # Little room for answers here: they are to wait on the other side.
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self._data = memoryview(data)

    def send(self) -> None:
        """Send as much as is taken."""
        try:
            while self._data:
                self._data = self._data[self.socket.send(self._data[:65536]) :]
        except BlockingIOError:
            pass
        except OSError:
            self._data = self._data[:0]

    def ended(self) -> bool:
        """Whether the other side has closed it; what it has sent is not read."""
        try:
            self.socket.send(b"\r\n")
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False


REQUESTS = {
    "tiny": b"GET / HTTP/1.1\r\n\r\n",
    "lookups": HEALTHY,
    "large answers": b"GET /openapi.json HTTP/1.1\r\n\r\n",
    "pushes": push(),
    "pushes, ordinary way": push(EVENT, b"X-Other: 1"),
    "pushes in chunks": b"POST /v1/usage HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1b\r\n" + EVENT + b"\r\n0\r\n\r\n",
    "unknown": b"GET /x HTTP/1.1\r\n\r\n",
}


@pytest.fixture
def floods(exporter: Exporter, request: pytest.FixtureRequest) -> Iterator[list[Flood]]:
    """Connections full of pipelined requests."""
    data = request.param * (MIB // len(request.param))
    found = [Flood(exporter.port, data) for _ in range(CONNECTIONS - 10)]
    yield found
    for flood in found:
        flood.socket.close()


@pytest.mark.parametrize("floods", REQUESTS.values(), ids=REQUESTS.keys(), indirect=True)
def test_pipelined_requests_whose_answers_are_never_read_take_little_and_stop_nobody(
    exporter: Exporter, floods: list[Flood]
) -> None:
    before = memory(exporter)
    for _ in range(50):
        for flood in floods:
            flood.send()
        assert exporter.http.get("/-/healthy").status_code == 200
        assert exporter.push({"provider": "a", "tokens": 1}).status_code == 200
    assert memory(exporter) - before < 40 * MIB


@pytest.mark.parametrize("floods", [REQUESTS["large answers"]], ids=["large"], indirect=True)
def test_a_client_that_does_not_read_its_answers_is_left(
    exporter: Exporter, floods: list[Flood]
) -> None:
    def all_ended() -> bool:
        for flood in floods:
            flood.send()
        return all(flood.ended() for flood in floods)

    until(all_ended, "end of those that do not read")


def test_idle_connections_give_way_to_newcomers_and_harm_nobody_who_came_before(
    exporter: Exporter,
) -> None:
    with ExitStack() as stack:

        def client() -> Wire:
            return stack.enter_context(wire(exporter))

        established = client()
        for _ in range(2 * CONNECTIONS):
            client()
            established.send(HEALTHY, push())
            assert [status for status, _ in established.answers(2)] == [200, 200]
        newcomer = client()
        newcomer.send(HEALTHY)
        assert [status for status, _ in newcomer.answers(1)] == [200]


def test_answered_connections_give_way_the_longest_idle_first(exporter: Exporter) -> None:
    exporter.http.close()
    with ExitStack() as stack:
        clients = []
        for _ in range(CONNECTIONS + 3):
            client = stack.enter_context(wire(exporter))
            client.send(HEALTHY)
            assert [status for status, _ in client.answers(1)] == [200]
            clients.append(client)
            if len(clients) == 3:
                time.sleep(0.01)  # the loop's clock counts in milliseconds
        assert all(client.ended() for client in clients[:3])
        for client in clients[3:]:
            client.send(HEALTHY)
            assert [status for status, _ in client.answers(1)] == [200]
    exporter.http = type(exporter.http)(base_url=exporter.url, trust_env=False)


@pytest.mark.parametrize("path", [b"/v1/usage", b"/v1/usage?"], ids=["short", "ordinary"])
@pytest.mark.parametrize("count", [1, 5])
def test_a_client_that_sends_no_more_gets_its_answers(
    exporter: Exporter, path: bytes, count: int
) -> None:
    with wire(exporter) as client:
        client.send(push(path=path) * count)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answers(count) == [ACCEPTED] * count
        assert client.ended()


def test_a_client_that_sends_no_more_in_the_middle_of_a_request_is_left(
    exporter: Exporter,
) -> None:
    with wire(exporter) as client:
        client.send(push() + push()[:-1])
        client.socket.shutdown(socket.SHUT_WR)
        assert client.answers(2) == [ACCEPTED]


def test_connections_that_never_begin_tls_are_limited_and_ended(tmp_path: Path) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: server.pem, key_file: server.pem}\n")
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with (
        Exporter(tmp_path, CONFIG, "--web.config.file", str(web), tls=context) as exporter,
        ExitStack() as stack,
    ):
        silent = [stack.enter_context(wire(exporter)) for _ in range(3 * CONNECTIONS)]
        assert exporter.http.get("/-/healthy").status_code == 200
        files = Path(f"/proc/{exporter.process.pid}/fd")
        until(lambda: len(list(files.iterdir())) < CONNECTIONS + 30, "limit")
        assert all(client.ended() for client in silent)
        assert exporter.push({"provider": "a", "tokens": 1}).status_code == 200
        until(lambda: exporter.http.get("/-/healthy").status_code == 200, "answer")
