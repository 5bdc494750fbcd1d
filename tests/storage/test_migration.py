"""Databases of layout 2, made by the version that wrote it (see `testdata`), under this one.

Each holds what a day of use leaves behind: several providers and models, events with ids, requests
with Idempotency-Keys, a cumulative counter, signals, an operator's word, forecasts; the SQLite file
also a journal that is half folded. Beside each lies what that version read from it.
"""

import gzip
import json
import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import redis

from exporter.core.series import Series
from exporter.core.slots import COST, REQUESTS
from exporter.intake.batching import event_digest, event_scope, request_key
from exporter.storage import StorageError, Store, migration, open_store, redis_migration
from exporter.storage.contract import Batch, CumulativeReport
from exporter.storage.migration import SCHEMA_VERSION
from exporter.storage.redis_link import Link
from tests.storage.conftest import RETENTION
from tests.storage.servers import RedisServer
from tests.storage.values import bins, claiming, counts, events

TESTDATA = Path(__file__).parent / "testdata"

DEDUPLICATION = 2 * 86400.0  # as in the configuration under which the data was made

Expected = dict[str, Any]


def read(name: str) -> Expected:
    found: Expected = json.loads(gzip.decompress((TESTDATA / name).read_bytes()))
    return found


def opened(url: str, now: float) -> Store:
    return open_store(url, retention=RETENTION, deduplication=DEDUPLICATION, now=now)


def assert_taken_over(store: Store, expected: Expected) -> None:
    """Everything that the version before read is there."""
    loaded = store.load(expected["now"])
    assert dict(loaded.totals) == {
        Series(provider, model): [*old, 0] for provider, model, old in expected["totals"]
    }
    tokens: Counter[tuple[object, ...]] = Counter()
    for (series, *place), count in bins(loaded.blocks).items():
        if place[2] < REQUESTS:
            tokens[(series.provider, *place)] += count
    assert tokens == {tuple(place): count for *place, count in expected["bins"]}
    documents = {name: body.decode() for name, body in loaded.documents.items()}
    assert documents == expected["documents"]
    assert {"forecasts", "otlp/sources", "limits/openai", "standing/gemini"} < documents.keys()
    assert store.created == expected["created"]


def assert_goes_on(store: Store, expected: Expected) -> None:
    """Identities are remembered, counters go on where they were, and new usage adds up."""
    now, slot = expected["now"], int(expected["now"] // 10)
    series = Series("openai", "gpt-5")
    before = dict(store.load(now).totals)
    scope = event_scope("openai")
    known = [event_digest(scope, f"event-{part}-{n}") for part in (1, 2) for n in range(50)]
    claims = claiming()
    claims.claims.digests, claims.claims.cells = known, [(series, slot)] * len(known)
    claims.claims.counts_of = lambda at: counts(1)
    claims.increments = {(series, slot): [len(known) * n for n in counts(1)]}
    keyed = Batch(key=request_key("usage", "", "request-1"))
    by_id, by_key, plain = store.commit([claims, keyed, events(1, 7, (series, slot))], now)
    assert (by_id.answer.accepted, by_id.answer.duplicates) == (0, len(known))
    assert by_key.answer.repeated
    assert b"-5" in by_key.answer.rejected
    assert plain.increments == {(series, slot): counts(7)}
    after = dict(store.load(now).totals)
    assert after.pop(series) == [a + b for a, b in zip(before.pop(series), counts(7), strict=True)]
    assert after == before


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "quota.db"
    path.write_bytes(gzip.decompress((TESTDATA / "schema2.db.gz").read_bytes()))
    return path


def test_a_file_of_layout_2_is_taken_over_whole_with_a_line_in_the_log(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read("schema2.db.json.gz")
    caplog.set_level(logging.INFO, "exporter")
    for _ in range(2):
        with closing(opened(f"sqlite:///{file}", expected["now"])) as store:
            assert_taken_over(store, expected)
    with closing(opened(f"sqlite:///{file}", expected["now"])) as store:
        assert_goes_on(store, expected)
    (line,) = [one for one in caplog.records if one.message == "database migrated"]
    assert vars(line)["fields"] == {"path": str(file), "from": 2, "to": SCHEMA_VERSION}


def test_a_cumulative_counter_goes_on_where_the_version_before_left_it(file: Path) -> None:
    expected = read("schema2.db.json.gz")
    with closing(sqlite3.connect(file)) as db:
        (stored,) = db.execute("SELECT digest, started FROM level LIMIT 1").fetchall()
    digest, started = stored
    with closing(opened(f"sqlite:///{file}", expected["now"])) as store:
        cell = (Series("anthropic", "claude-opus-4"), int(expected["now"] // 10))
        value = [0] * 8
        value[0], value[3], value[COST] = 10**6, 10**6, 5
        report = CumulativeReport(digest, started, cell, value)
        (one,) = store.commit([Batch(reports=[report])], expected["now"])
        rise = one.increments[cell]
    assert rise[COST] == 5
    assert 0 < sum(rise[:REQUESTS]) < 2 * 10**6


def failing(_: sqlite3.Connection, now: float) -> None:
    raise sqlite3.OperationalError("disk full")


def test_a_migration_of_a_file_that_fails_changes_nothing(file: Path) -> None:
    expected = read("schema2.db.json.gz")
    steps = (*migration.MIGRATIONS, failing)
    with (
        patch.object(migration, "MIGRATIONS", steps),
        pytest.raises(StorageError, match="disk full"),
    ):
        opened(f"sqlite:///{file}", expected["now"])
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    with closing(opened(f"sqlite:///{file}", expected["now"])) as store:
        assert_taken_over(store, expected)


@pytest.mark.parametrize("version", [1, SCHEMA_VERSION + 1])
def test_a_file_of_an_unknown_layout_is_refused_with_what_to_do(file: Path, version: int) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(StorageError) as error:
        opened(f"sqlite:///{file}", 1.0)
    assert str(error.value) == (
        f"{file}: written by another version (schema {version}, this one reads 2 to "
        f"{SCHEMA_VERSION}); run that version, or choose another path"
    )


def restore(server: RedisServer) -> None:
    """Lay down a Redis as the version before left it."""

    def raw(text: str) -> bytes:
        return text.encode("latin-1")

    with server.client() as client, client.pipeline() as pipeline:
        client.flushall()
        for key, kind, ttl, body in json.loads(
            gzip.decompress((TESTDATA / "schema2.redis.gz").read_bytes())
        ):
            name = raw(key)
            if kind == "string":
                pipeline.set(name, raw(body))
            elif kind == "hash":
                pipeline.hset(name, mapping={raw(k): raw(v) for k, v in body.items()})
            elif kind == "set":
                pipeline.sadd(name, *map(raw, body))
            else:
                pipeline.zadd(name, {raw(member): score for member, score in body})
            if ttl > 0:
                pipeline.expire(name, ttl)
        pipeline.execute()


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    restore(redis_server)
    return redis_server


def old_keys(client: redis.Redis) -> list[bytes]:
    names = client.scan_iter("*", count=1000)
    return [one for one in names if one.endswith((b":changed", b":totals")) or b":d:" in one]


def test_a_redis_of_layout_2_is_taken_over_whole_with_a_line_in_the_log(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read("schema2.redis.json.gz")
    caplog.set_level(logging.INFO, "exporter")
    for _ in range(2):
        with closing(opened(server.url, expected["now"])) as store:
            assert_taken_over(store, expected)
    with closing(opened(server.url, expected["now"])) as store:
        assert_goes_on(store, expected)
    (line,) = [one for one in caplog.records if one.message == "database migrated"]
    assert vars(line)["fields"] == {"server": server.url, "from": 2, "to": redis_migration.LAYOUT}
    with server.client() as client:
        assert old_keys(client) == []
        blocks = list(client.scan_iter("*}:[cf]:*", count=1000))
        assert blocks
        assert all(client.ttl(one) > 0 for one in blocks)


def test_replicas_that_start_together_take_a_redis_over_once(server: RedisServer) -> None:
    expected = read("schema2.redis.json.gz")
    gate = threading.Barrier(4)
    stores: list[Store] = []

    def start() -> None:
        gate.wait()
        stores.append(opened(server.url, expected["now"]))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) == 4
    for store in stores:
        with closing(store):
            assert_taken_over(store, expected)


@pytest.mark.parametrize("calls", [0, 1, 2, 3, 4])
def test_a_migration_of_a_redis_that_was_interrupted_goes_on(
    server: RedisServer, calls: int
) -> None:
    expected = read("schema2.redis.json.gz")
    run: Callable[..., list[Any]] = Link.run
    left = calls

    def interrupted(self: Link, commands: Any) -> list[Any]:
        nonlocal left
        if left == 0:
            raise redis.ConnectionError("cut")
        left -= 1
        return run(self, commands)

    with patch.object(Link, "run", interrupted), pytest.raises(StorageError, match="cut"):
        opened(server.url, expected["now"])
    with closing(opened(server.url, expected["now"])) as store:
        assert_taken_over(store, expected)


def test_what_a_replica_of_the_version_before_still_counts_is_taken_over_in_time(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read("schema2.redis.json.gz")
    series = Series("openai", "gpt-5")
    with closing(opened(server.url, expected["now"])) as store:
        before = store.load(expected["now"]).totals[series]
        with server.client() as client:
            client.hincrby("llmq:{openai}:totals", "5:gpt-5", 100)
        store.prune(expected["now"])
        changes = store.changes(expected["now"])
        assert changes is not None
        assert not changes.complete  # everybody reads anew
        assert store.load(expected["now"]).totals[series][5] == before[5] + 100
    assert "replicas of an older version still count; stop them" in caplog.messages


def test_a_redis_of_a_later_layout_is_refused_with_what_to_do(server: RedisServer) -> None:
    with server.client() as client:
        client.set("llmq:layout", 99)
    with pytest.raises(StorageError) as error:
        opened(server.url, 1.0)
    assert str(error.value) == (
        f"{server.url}: written by another version (layout 99, this one reads 2 to "
        f"{redis_migration.LAYOUT}); run that version, or choose another database"
    )
