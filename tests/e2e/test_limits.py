"""Clients that ask too much: slow ones, and more than the disk can take."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.e2e.running import Exporter, until

CONFIG = """\
limits: {request_timeout: 1s, connections: 8, outstanding_requests: 1, body_bytes: 1KiB}
"""
HEAD = b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with Exporter(tmp_path_factory.mktemp("limits"), CONFIG) as running:
        yield running
    assert "Traceback" not in running.log()


def connected(exporter: Exporter) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", exporter.port))
    connection.settimeout(20)
    return connection


def answered(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer."""
    with connection.makefile("rb") as lines:
        status = int(lines.readline().split()[1])
        headers = {}
        while line := lines.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return status, headers, lines.read(int(headers["content-length"]))


def dripped(connection: socket.socket, text: bytes) -> bool:
    """Send a byte every now and then; whether the connection was closed before the end."""
    for byte in text:
        try:
            connection.sendall(bytes([byte]))
            connection.settimeout(0.2)
            if connection.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"", b"POST /v1/usage HTTP/1.1\r\nHost: x"),
        (b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"s" * 40),
        (HEAD + b"Content-Length: 100\r\n\r\n", b"{" + b" " * 40),
        (HEAD + b"X-Other: 1\r\nContent-Length: 100\r\n\r\n", b"{" + b" " * 40),
    ],
    ids=["line", "headers", "body", "body, ordinary way"],
)
def test_a_client_that_drips_its_request_is_cut_off(
    exporter: Exporter, start: bytes, drip: bytes
) -> None:
    with closing(connected(exporter)) as connection:
        connection.sendall(start)
        assert dripped(connection, drip)


def test_a_client_that_says_nothing_is_cut_off(exporter: Exporter) -> None:
    with closing(connected(exporter)) as connection:
        assert connection.recv(1) == b""


def test_more_than_the_disk_can_take_gets_429_and_is_not_counted(exporter: Exporter) -> None:
    """Pushes that arrive while another waits for the disk, of which one may."""

    def burst() -> list[tuple[int, dict[str, str], bytes]]:
        with ExitStack() as stack:
            connections = [stack.enter_context(closing(connected(exporter))) for _ in range(6)]
            for number, connection in enumerate(connections):
                body = json.dumps({"provider": "burst", "tokens": 1}).encode()
                key = f"{time.monotonic()}-{number}".encode()
                connection.sendall(
                    HEAD
                    + b"Idempotency-Key: %s\r\nContent-Length: %d\r\n\r\n" % (key, len(body))
                    + body
                )
            return [answered(connection) for connection in connections]

    answers: list[tuple[int, dict[str, str], bytes]] = []
    deadline = time.monotonic() + 20
    while not any(status == 429 for status, _, _ in answers):
        assert time.monotonic() < deadline
        answers += burst()
    assert {status for status, _, _ in answers} == {200, 429}
    _, headers, body = next(one for one in answers if one[0] == 429)
    assert headers["retry-after"] == "1"
    assert json.loads(body) == {"error": "too many requests are waiting to be stored"}
    accepted = sum(status == 200 for status, _, _ in answers)
    counted = until(
        lambda: exporter.value("llm_quota_requests_total", provider="burst", model=""), "count"
    )
    assert counted == accepted


@pytest.mark.parametrize("other", [{}, {"X-Other": "1"}])
def test_the_body_limit_holds_for_the_smallest_too(
    exporter: Exporter, other: dict[str, str]
) -> None:
    for size, status in ((1024, 200), (1025, 413)):
        event = json.dumps({"provider": "sized", "tokens": 1}).encode()
        answer = exporter.http.post(
            "/v1/usage",
            content=event.ljust(size),
            headers={"content-type": "application/json"} | other,
        )
        assert answer.status_code == status


def test_requests_that_never_come_to_their_end_are_told_when_the_exporter_ends(
    tmp_path: Path,
) -> None:
    head = b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nX-Other: 1\r\nContent-Length: 100\r\n\r\n"
    with Exporter(tmp_path, storage="memory://") as exporter:
        with socket.create_connection(("127.0.0.1", exporter.port), 60.0) as connection:
            connection.sendall(head + b"[")
            exporter.metrics()  # what came before it has been read
            exporter.process.terminate()
            status, headers, body = answered(connection)
        assert exporter.process.wait(60.0) == 0
        assert (status, headers["retry-after"]) == (503, "1")
        assert body == b'{"error":"the exporter ends"}'
        assert "Traceback" not in exporter.log()
