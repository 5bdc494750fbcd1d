"""One running exporter for each module of tests, and a plain socket to it."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.e2e.running import Exporter

CONFIG = """\
budgets:
  openai: 1_000_000
limits:
  providers: 200
  models_per_provider: 20
  body_bytes: 1MiB
  events_per_request: 20_000
"""
DEADLINE = 20.0

# Speed is measured elsewhere; here a busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


class Wire:
    """Says anything over TCP, and hears what comes back."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), DEADLINE)

    def send(self, *pieces: bytes) -> None:
        """Send pieces; the other side may have hung up."""
        for piece in pieces:
            try:
                self.socket.sendall(piece)
            except OSError:
                return

    def answers(self, count: int) -> list[tuple[int, bytes]]:
        """The next answers in order, as status and body; fewer when the connection ends."""
        found: list[tuple[int, bytes]] = []
        rest = b""
        while len(found) < count:
            head, end, body = rest.partition(b"\r\n\r\n")
            size = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            length = int(size[1]) if size else 0
            if end and len(body) >= length:
                found.append((int(head.split(b" ", 2)[1]), body[:length]))
                rest = body[length:]
                continue
            try:
                piece = self.socket.recv(1 << 20)
            except ConnectionError:
                break
            if not piece:
                break
            rest += piece
        return found

    def ended(self) -> bool:
        """Whether the exporter closes the connection without another word."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True


@contextmanager
def wire(exporter: Exporter) -> Iterator[Wire]:
    """A connection, closed in the end."""
    opened = Wire(exporter.port)
    try:
        yield opened
    finally:
        opened.socket.close()


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """The real program, which must have nothing to be ashamed of in its log at the end."""
    folder: Path = tmp_path_factory.mktemp("exporter")
    with Exporter(folder, CONFIG, storage="memory://") as running:
        yield running
        assert "Traceback" not in running.log(), running.log()[-4000:]
        assert running.http.get("/-/healthy").status_code == 200
