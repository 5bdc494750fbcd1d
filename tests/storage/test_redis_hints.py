"""Hints that somebody committed, from a real Redis."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.client import PubSub

from exporter.core.series import Series
from exporter.storage import Store, open_store
from exporter.storage.contract import Batch
from tests.storage.servers import RedisServer

NOW = 1_700_000_000.0
DAY = 86400.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path) as running:
        yield running


def opened(url: str) -> Store:
    return open_store(url, retention=35 * DAY, deduplication=DAY, now=NOW)


def usage() -> Batch:
    return Batch({(Series("openai", "gpt"), int(NOW // 10)): [5, 0, 0, 0, 0, 0, 1, 0]}, 1)


class Heard:
    """Counts hints."""

    def __init__(self, store: Store) -> None:
        self._changed = threading.Condition()
        self._count = 0
        store.on_commit(self._hint)

    def _hint(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._count >= count, 20), self._count

    @property
    def count(self) -> int:
        return self._count


def test_what_one_replica_commits_the_other_hears_of(server: RedisServer) -> None:
    one, other = opened(server.url), opened(server.url)
    heard = Heard(other)
    heard.wait(1)  # it listens, and may have missed something
    one.commit([usage()], NOW)
    heard.wait(2)
    one.commit([Batch(documents={"note": b"1"})], NOW)
    heard.wait(3)
    one.close()
    other.close()


def test_a_commit_of_nothing_new_is_no_news(server: RedisServer) -> None:
    store = opened(server.url)
    heard = Heard(store)
    heard.wait(1)
    store.commit([Batch(events=1)], NOW)
    store.commit([usage()], NOW)
    heard.wait(2)
    assert heard.count == 2
    store.close()


def test_listening_goes_on_when_the_server_comes_back(server: RedisServer) -> None:
    store = opened(server.url)
    heard = Heard(store)
    heard.wait(1)
    server.kill()
    server.start()
    heard.wait(2)
    other = opened(server.url)
    other.commit([usage()], NOW)
    heard.wait(3)
    other.close()
    store.close()


def test_who_may_not_publish_commits_all_the_same(server: RedisServer) -> None:
    server.client().execute_command(
        *("ACL", "SETUSER", "quiet", "on", ">secret", "~*", "+@all", "resetchannels")
    )
    url = server.url.replace("redis://", "redis://quiet:secret@")
    store = opened(url)
    heard = Heard(store)
    (done,) = store.commit([usage()], NOW)
    assert done.answer.accepted == 1
    changes = store.changes(NOW)
    assert changes is not None
    store.close()
    assert heard.count == 0


def test_an_error_within_the_driver_does_not_end_the_hints(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_message, failed = PubSub.get_message, threading.Event()

    def fail_once(self: PubSub, **options: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise TypeError("argument must be an int, or have a fileno() method.")
        return get_message(self, **options)

    monkeypatch.setattr(PubSub, "get_message", fail_once)
    store = opened(server.url)
    heard = Heard(store)
    assert failed.wait(20)
    heard.wait(1)
    store.commit([usage()], NOW)
    heard.wait(2)
    store.close()


def test_whoever_listens_last_is_the_one_who_listens(server: RedisServer) -> None:
    before = threading.active_count()
    store = opened(server.url)
    first = Heard(store)
    first.wait(1)
    last = Heard(store)
    last.wait(1)
    assert threading.active_count() == before + 1
    heard = first.count
    store.commit([usage()], NOW)
    last.wait(2)
    store.close()
    assert (first.count, threading.active_count()) == (heard, before)
