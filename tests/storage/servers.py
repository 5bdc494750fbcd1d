"""Real Redis servers on free loopback ports, and a proxy that cuts connections."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import redis

from tests import real

DEADLINE = 10.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class RedisServer:
    """A redis-server that syncs every write, with its data in a directory of the test's."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._command = [
            real.program("redis-server"),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(directory)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *options,
        ]
        self.start()

    def __enter__(self) -> "RedisServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE
        with self.client() as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                assert self._process.poll() is None, "redis-server ended at once"
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)


class Proxy:
    """Passes TCP through to a port, until it has passed as many bytes as it may.

    Attributes:
        to_server: bytes that may still go to the server; None for any number.
        to_client: bytes that may still come back.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.to_server: int | None = None
        self.to_client: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, sink, limit in (
                    (client, server, "to_server"),
                    (server, client, "to_client"),
                ):
                    threading.Thread(
                        target=self._pass, args=(source, sink, limit), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                left = getattr(self, limit)
                if left is not None:
                    data = data[:left]
                    setattr(self, limit, left - len(data))
                sink.sendall(data)
                if left is not None and left <= len(data):
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
