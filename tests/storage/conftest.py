"""The places in which every store keeps its promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.storage import Store, open_store
from exporter.storage.contract import Merge, replace
from tests.storage.servers import RedisServer

RETENTION = 35 * 86400.0
DEDUPLICATION = 86400.0


class Place:
    """Where one kind of store keeps its data; may be emptied, and opened again and again."""

    lasting = True

    def __init__(self) -> None:
        self._open: list[Store] = []

    def url(self) -> str:
        raise NotImplementedError

    def clear(self) -> None:
        """Forget all data."""

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def open(self, now: float, merge: Merge = replace) -> Store:
        """The store, after whoever had it open before closed it."""
        self.close()
        store = open_store(
            self.url(), retention=RETENTION, deduplication=DEDUPLICATION, now=now, merge=merge
        )
        self._open.append(store)
        return store

    def empty(self, now: float, merge: Merge = replace) -> Store:
        """A store that holds nothing yet."""
        self.close()
        self.clear()
        return self.open(now, merge)


class Memory(Place):
    lasting = False

    def url(self) -> str:
        return "memory://"


class File(Place):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._number = 0

    def url(self) -> str:
        return f"sqlite:///{self._directory}/{self._number}.db"

    def clear(self) -> None:
        self._number += 1


class Server(Place):
    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self._server = server

    def url(self) -> str:
        return self._server.url

    def clear(self) -> None:
        with self._server.client() as client:
            client.flushall()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def make_place(kind: str, request: pytest.FixtureRequest) -> Place:
    if kind == "memory":
        return Memory()
    if kind == "sqlite":
        return File(request.getfixturevalue("tmp_path_factory").mktemp("sqlite"))
    return Server(request.getfixturevalue("redis_server"))


@pytest.fixture(scope="session", params=["memory", "sqlite", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Every kind of store in turn."""
    made = make_place(request.param, request)
    yield made
    made.close()


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def lasting(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Every kind of store that outlives the process."""
    made = make_place(request.param, request)
    yield made
    made.close()
