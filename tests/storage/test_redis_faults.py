"""What the Redis store does when servers and connections fail, and for several replicas."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from exporter.storage import StorageError, Store, open_store
from exporter.storage.contract import Answer, Batch, Changes, Merge, replace
from exporter.storage.redis_blocks import read_total
from exporter.storage.redis_documents import MAX_MERGES
from tests.storage.conftest import DEDUPLICATION, RETENTION
from tests.storage.counting import numbered
from tests.storage.servers import DEADLINE, RedisServer, proxy_to
from tests.storage.values import (
    GPT,
    NOW,
    SLOT,
    cell_of,
    claim,
    claiming,
    counts,
    digest,
    events,
    expected,
    level,
    state,
    tokens,
    union,
)

HOUR = 3600.0
DAY = 86400.0


def opened(
    url: str, merge: Merge = replace, deduplication: float = DEDUPLICATION, now: float = NOW
) -> Store:
    return open_store(url, retention=RETENTION, deduplication=deduplication, now=now, merge=merge)


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """The shared server, emptied."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    with closing(opened(server.url)) as store:
        yield store


def keyed(tokens: int = 10) -> Batch:
    """A request of events over two providers, repeatable by its key."""
    batch = events(2, tokens)
    batch.increments |= events(1, tokens, cell_of("gemini", "", SLOT)).increments
    batch.key = digest("key")
    return batch


def commit_until_stored(store: Store, batch: Batch) -> int:
    """Retry as a client would; how many times it was refused."""
    refused, deadline = 0, time.monotonic() + DEADLINE
    while True:
        try:
            store.commit([batch], NOW)
        except StorageError:
            assert time.monotonic() < deadline
            refused += 1
            time.sleep(0.01)
        else:
            return refused


def test_redis_killed_and_restarted_keeps_what_it_acknowledged_once(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, closing(opened(server.url)) as store:
        refused = 0
        for life in range(3):
            killer = threading.Timer(0.05 + 0.04 * life, server.kill)
            killer.start()
            number = 0
            while killer.is_alive() or number == 0:
                if number == 20 and not killer.is_alive():
                    break
                try:
                    store.commit([claiming(numbered(1000 * life + number))], NOW)
                except StorageError:
                    break
                number += 1
            killer.join()
            server.start()
            with closing(opened(server.url)) as other:
                kept = tokens(other) - 10_000 * life
            assert number <= kept <= number + 1  # one may have been on its way
            rest = claiming(*[numbered(1000 * life + number) for number in range(1000)])
            refused += commit_until_stored(store, rest)
            store.commit([claiming(claim(("life", life), 9000))], NOW)
        assert tokens(store) == 30_000


@pytest.mark.parametrize("passed", [0, 1, 100, 200, 300])
def test_a_request_cut_on_its_way_counts_nothing_until_it_is_retried(
    server: RedisServer, passed: int
) -> None:
    with (
        proxy_to(server.port) as proxy,
        closing(opened(f"redis://127.0.0.1:{proxy.port}")) as store,
    ):
        store.commit([events(1, 1)], NOW)
        proxy.to_server = passed
        with pytest.raises(StorageError, match="cannot store"):
            store.commit([keyed()], NOW)
        proxy.to_server = None
        assert tokens(store) == 1
        (one,) = store.commit([keyed()], NOW)
        assert one.answer == Answer(2)
        assert (tokens(store), tokens(store, "gemini")) == (21, 10)


@pytest.mark.parametrize("passed", [0, 3])
def test_a_request_whose_answer_was_lost_is_not_counted_again(
    server: RedisServer, passed: int
) -> None:
    with (
        proxy_to(server.port) as proxy,
        closing(opened(f"redis://127.0.0.1:{proxy.port}")) as store,
    ):
        store.commit([events(1, 1, cell_of("gemini", "", SLOT)), events(1, 1)], NOW)
        proxy.to_client = passed
        with pytest.raises(StorageError, match="cannot store"):
            store.commit([keyed()], NOW)
        proxy.to_client = None
        with closing(opened(server.url)) as another_replica:
            (one,) = another_replica.commit([keyed()], NOW)
        assert one.answer == Answer(2, repeated=True)
        assert (tokens(store), tokens(store, "gemini")) == (21, 11)


def configured(**settings: str) -> Callable[[redis.Redis], None]:
    def apply(client: redis.Redis) -> None:
        for name, value in settings.items():
            client.config_set(name.replace("_", "-"), value)

    return apply


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        (configured(maxmemory="1"), configured(maxmemory="0"), "OOM|maxmemory"),
        (
            configured(min_replicas_to_write="1"),
            configured(min_replicas_to_write="0"),
            "NOREPLICAS",
        ),
        (
            lambda client: client.replicaof("127.0.0.1", "1"),
            lambda client: client.replicaof("NO", "ONE"),
            "read only replica",
        ),
    ],
    ids=["out of memory", "too few replicas", "demoted"],
)
def test_a_server_that_refuses_to_write_is_an_error_and_nothing_is_half_counted(
    server: RedisServer,
    store: Store,
    break_it: Callable[[redis.Redis], None],
    mend_it: Callable[[redis.Redis], None],
    reason: str,
) -> None:
    beside = Batch(keyed().increments, 3, reports=[level(7)])
    batch = claiming(claim("a", 5), key=digest("key"), beside=beside)
    store.commit([events(1, 1), events(1, 1, cell_of("gemini", "", SLOT))], NOW)
    with server.client() as client:
        break_it(client)
        try:
            with pytest.raises(StorageError, match=reason) as error:
                store.commit([batch], NOW)
        finally:
            mend_it(client)
    assert str(error.value).startswith(f"{server.url}: cannot store: ")
    assert (tokens(store), tokens(store, "gemini")) == (1, 1)
    (one,) = store.commit([batch], NOW)
    assert one.answer == Answer(5)
    assert (tokens(store), tokens(store, "gemini")) == (33, 11)


def test_a_server_that_hangs_is_an_error_soon_and_counts_once_at_the_retry(
    server: RedisServer, store: Store
) -> None:
    store.commit([keyed(1)], NOW)
    batch = claiming(claim("a", 5))
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", 2500, "ALL")
        with pytest.raises(StorageError, match="Timeout"):
            store.commit([batch], NOW)
    commit_until_stored(store, batch)
    assert tokens(store) == 7


def test_scripts_that_the_server_forgot_are_sent_again(server: RedisServer, store: Store) -> None:
    store.commit([events(1, 1)], NOW)
    with server.client() as client:
        client.script_flush()
    store.commit([events(1, 1)], NOW)
    assert tokens(store) == 2


def test_a_refused_password_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, server.client() as client:
        client.config_set("requirepass", "right")
        for password, reason in (("wrong-secret@", "password"), ("", "authenticated")):
            url = f"redis://:{password}127.0.0.1:{server.port}".replace("//:127", "//127")
            with pytest.raises(StorageError, match=reason) as error:
                opened(url)
            assert "secret" not in str(error.value)
        with closing(opened(f"redis://:right@127.0.0.1:{server.port}")) as store:
            store.commit([events(1, 1)], NOW)


def test_no_server_is_an_error_that_names_the_place() -> None:
    with pytest.raises(StorageError, match=r"^redis://127\.0\.0\.1:1/2: cannot open: .*refused"):
        opened("redis://user:secret@127.0.0.1:1/2")


def test_what_endangers_acknowledged_tokens_is_warned_of(server: RedisServer) -> None:
    settings = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "allkeys-lru"}
    with server.client() as client:
        before = client.config_get(*settings)
        configured(**settings)(client)
        try:
            with closing(opened(server.url)) as store:
                assert store.warnings == (
                    f"{server.url}: acknowledged tokens can be lost: "
                    "appendfsync: expected always, got everysec",
                    f"{server.url}: acknowledged tokens can be lost: "
                    "maxmemory-policy: expected noeviction, got allkeys-lru",
                )
        finally:
            configured(**before)(client)


def test_a_server_that_hides_its_configuration_is_warned_of(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "guest", "on", ">pw", "~llmq:*", "+@all", "-config"
        )
    url = f"redis://guest:pw@127.0.0.1:{server.port}"
    with closing(opened(url)) as store:
        (warning,) = store.warnings
        assert warning.startswith(f"{server.url}: cannot check that Redis keeps what it ack")
        store.commit([keyed()], NOW)
        assert tokens(store) == 20


def test_replicas_see_each_others_usage_and_documents(server: RedisServer) -> None:
    with closing(opened(server.url)) as one, closing(opened(server.url)) as two:
        one.commit([events(1, 5)], NOW)
        held = state(two.load(NOW))
        assert two.changes(NOW) == Changes()
        later = cell_of("openai", "gpt", SLOT - 7)
        batch = claiming(
            claim("a", 3, cell_of("new {one}", "", SLOT)), beside=Batch(documents={"d": b"1"})
        )
        one.commit([events(1, 7, later), batch], NOW)
        two.commit([claiming(claim("a", 3, cell_of("new {one}", "", SLOT)))], NOW)
        changes = two.changes(NOW)
        assert changes is not None
        assert changes.documents == {"d": b"1"}
        assert held == expected([(GPT, counts(5))])
        assert state(one.load(NOW)) == expected([(GPT, counts(5)), *changes.increments.items()])
        one.commit([events(1, 0)], NOW)
        assert two.changes(NOW) == Changes({GPT: counts(0)})
        assert two.changes(NOW) == Changes()


def test_documents_that_two_replicas_store_at_once_are_merged(server: RedisServer) -> None:
    with closing(opened(server.url, union)) as one, closing(opened(server.url, union)) as two:
        for store in (one, two):
            store.load(NOW)
        one.commit([Batch(documents={"a": b"1", "b": b"x"})], NOW)
        mixed = claiming(claim("a", 5), beside=Batch(documents={"a": b"2", "c": b"y"}))
        (counted,) = two.commit([mixed], NOW)
        assert counted.answer == Answer(1)
        merged = {"a": b"1 2", "b": b"x", "c": b"y"}
        for store in (one, two):
            changes = store.changes(NOW)
            assert changes is not None
            assert changes.documents == merged
        assert one.load(NOW).documents == merged
        assert tokens(one) == 5
        two.commit([Batch(documents=merged)], NOW)
        assert one.changes(NOW) == Changes()  # nothing that was not stored already


def test_documents_that_another_replica_always_stores_first_are_stored_in_the_end(
    server: RedisServer,
) -> None:
    attempts: list[bytes] = []

    def slow(name: str, ours: bytes, theirs: bytes) -> bytes:
        attempts.append(theirs)
        with server.client() as client:
            client.hset("llmq:{*documents}:bodies", name, b"%d" % len(attempts))
        return union(name, ours, theirs)

    with closing(opened(server.url, slow)) as store:
        store.commit([Batch(documents={"a": b"0"})], NOW)
        (one,) = store.commit([Batch({GPT: counts(5)}, 1, documents={"a": b"mine"})], NOW)
        assert one.answer == Answer(1)
        assert len(attempts) == pytest.approx(MAX_MERGES, abs=2)
        assert b"mine" in store.load(NOW).documents["a"].split()
        assert tokens(store) == 5


def test_many_documents_that_all_replicas_store_all_the_time_lose_nothing(
    server: RedisServer,
) -> None:
    failures: list[Exception] = []

    def work(store: Store, replica: int) -> None:
        try:
            for step in range(100):
                word = b"%d-%d" % (replica, step)
                documents = {"all": word, f"of {step % 7}": word}
                batch = Batch(events(1, 1).increments, 1, documents=documents)
                store.commit([batch, Batch(documents={"all": b"and-" + word})], NOW)
        except Exception as error:
            failures.append(error)

    stores = [opened(server.url, union) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(s, n)) for n, s in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    documents = stores[0].load(NOW).documents
    words = {b"%d-%d" % (replica, step) for replica in range(3) for step in range(100)}
    assert set(documents.pop("all").split()) == words | {b"and-" + word for word in words}
    assert set(b" ".join(documents.values()).split()) == words
    assert tokens(stores[0]) == 300
    for store in stores:
        store.close()


def test_a_retry_on_another_replica_with_a_clock_ahead_counts_once(server: RedisServer) -> None:
    with closing(opened(server.url)) as one, closing(opened(server.url)) as two:
        midnight = (NOW // DEDUPLICATION + 1) * DEDUPLICATION
        batch = claiming(claim("a", 3), key=digest("key"))
        one.commit([batch], midnight + 2)
        (again, by_id) = two.commit([batch, claiming(claim("a", 3))], midnight - 2)
        assert again.answer == Answer(1, repeated=True)
        assert by_id.answer == Answer(0, duplicates=1)
        assert tokens(one) == 3


@pytest.mark.parametrize("jump", [-400 * DAY, -5 * DAY, -HOUR, HOUR, 5 * DAY, 400 * DAY])
@pytest.mark.parametrize("restarted", [False, True])
def test_a_replica_whose_clock_was_set_counts_no_retry_again(
    server: RedisServer, jump: float, restarted: bool
) -> None:
    def sent(number: int) -> Batch:
        return claiming(claim(number, 3), key=digest(f"key {number}"))

    with closing(opened(server.url)) as right, ExitStack() as stack:
        wrong = stack.enter_context(closing(opened(server.url)))
        right.commit([sent(1)], NOW)
        wrong.commit([sent(2)], NOW)
        if restarted:
            wrong = stack.enter_context(closing(opened(server.url, now=NOW + jump)))
        wrong.commit([sent(3)], NOW + jump)
        wrong.check(NOW + jump + 1)
        wrong.commit([sent(4)], NOW + jump + 1)
        for store, now in ((wrong, NOW + jump + 2), (right, NOW + 2), (wrong, NOW + 3)):
            for number in range(1, 5):
                again, by_id = store.commit([sent(number), claiming(claim(number, 3))], now)
                assert again.answer == Answer(1, repeated=True)
                assert by_id.answer == Answer(0, duplicates=1)
        assert tokens(right) == 12


OURS = [
    *("llmq:{*keys}:version", "llmq:{*keys}:log", "llmq:{*keys}:keys:*", "llmq:{openai}:series"),
    *("llmq:{openai}:seen:*", "llmq:{openai}:total:*", "llmq:{openai}:f:*", "llmq:{openai}:c:*"),
    *("llmq:{openai}:level:*", "llmq:{*documents}:bodies"),
]


@pytest.mark.parametrize("pattern", OURS)
def test_a_key_that_somebody_else_has_taken_fails_the_whole_group(
    server: RedisServer, pattern: str
) -> None:
    def group(number: int) -> list[Batch]:
        return [
            claiming(claim(number, 3), key=digest(f"key {number}")),
            Batch(reports=[level(5 * number, started=NOW)]),
            Batch(documents={"a": b"%d" % number}),
        ]

    with closing(opened(server.url)) as store, server.client() as client:
        store.commit(group(1), NOW)
        before = state(store.load(NOW))
        key, *_ = client.keys(pattern.replace("*keys", "\\*keys").replace("*doc", "\\*doc"))
        kept = client.dump(key)
        client.delete(key)
        client.geoadd(key, (0, 0, "theirs"))  # a sorted set, which nothing here is
        with pytest.raises(StorageError, match=r"cannot store: .*WRONGTYPE"):
            store.commit(group(2), NOW)
        client.delete(key)
        client.restore(key, 0, kept)
        assert state(store.load(NOW)) == before
        keyed, report, _ = store.commit(group(2), NOW)
        assert (keyed.answer, report.answer.accepted) == (Answer(1), 1)


@pytest.mark.parametrize("wanted", [(DAY, 3 * DAY), (3 * DAY, DAY), (DAY, HOUR), (HOUR, DAY)])
@pytest.mark.parametrize("age", [1.0, HOUR - 1, DAY, 2.9 * DAY, 8 * DAY])
def test_replicas_that_want_to_remember_for_different_times_do_so_for_the_longest(
    server: RedisServer, wanted: tuple[float, float], age: float
) -> None:
    first, second = wanted
    with (
        closing(opened(server.url, deduplication=first)) as one,
        closing(opened(server.url, deduplication=second)) as two,
    ):
        one.check(NOW)  # by now it has heard of the other
        batches = [claiming(claim(n, 3), key=digest(f"key {n}")) for n in range(2)]
        one.commit(batches[:1], NOW)
        two.commit(batches[1:], NOW)
        for store in (one, two):
            for hour in range(int(age // HOUR) + 1):
                store.check(NOW + HOUR * hour)
        for number, store in enumerate((two, one)):
            by_id = claiming(claim(number, 3))
            answers = [o.answer for o in store.commit([batches[number], by_id], NOW + age)]
            if age <= max(wanted):
                assert answers == [Answer(1, repeated=True), Answer(0, duplicates=1)]
            elif age > 2 * max(wanted) + HOUR:
                assert answers[0] == Answer(1)


def test_a_replica_is_told_when_another_one_remembers_for_longer(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(opened(server.url, deduplication=DAY)) as one:
        assert one.warnings == ()
        with closing(opened(server.url, deduplication=7 * DAY)) as longer:
            assert longer.warnings == ()
        one.check(NOW)
        one.check(NOW)
        assert [record.message for record in caplog.records] == [
            "deduplication: another replica is configured to remember for longer"
        ]
        with closing(opened(server.url, deduplication=DAY)) as shorter:
            assert shorter.warnings == (
                f"{server.url}: deduplication: identities are remembered for 604800 s, as another "
                "replica is or was configured, not for 86400 s: configure all alike; to shorten "
                "it, stop all, delete the key llmq:deduplication, and start them",
            )
    with server.client() as client:
        client.delete("llmq:deduplication")
    with closing(opened(server.url, deduplication=HOUR)) as anew:
        assert anew.warnings == ()


def test_a_store_that_was_flushed_takes_nothing_until_it_is_restored_or_all_begin_anew(
    server: RedisServer,
) -> None:
    with closing(opened(server.url)) as store, server.client() as client:
        store.commit([events(1, 5)], NOW)
        store.load(NOW)
        kept = {key: client.dump(key) for key in client.keys("*")}
        client.flushall()
        for doing in (store.changes, store.load, store.check):
            with pytest.raises(StorageError, match="was flushed, or replaced by another"):
                doing(NOW)
        with pytest.raises(StorageError, match="was flushed"):
            store.commit([events(1, 7)], NOW)

        with closing(opened(server.url, now=NOW + 60)) as anew:
            anew.commit([events(1, 9)], NOW + 60)
            assert tokens(anew) == 9
            with pytest.raises(StorageError, match="replaced by another"):
                store.check(NOW + 60)

        for key, body in kept.items():
            client.restore(key, 0, body, replace=True)
        store.check(NOW)
        assert store.changes(NOW) == Changes()
        store.commit([events(1, 7)], NOW)
        assert tokens(store) == 12


@pytest.mark.parametrize("ahead", [-600.0, 0.0, 600.0])
def test_a_clock_is_compared_with_that_of_the_server(store: Store, ahead: float) -> None:
    assert store.check(time.time() + ahead) == pytest.approx(ahead, abs=3)


def test_after_the_server_came_back_nothing_is_missed(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, closing(opened(server.url)) as store:
        store.commit([events(1, 5)], NOW)
        store.load(NOW)
        server.kill()
        with pytest.raises(StorageError, match="cannot read"):
            store.changes(NOW)
        server.start()
        store.commit([events(1, 7)], NOW)
        assert store.changes(NOW) == Changes({GPT: counts(7)})
        assert tokens(store) == 12


def test_a_commit_waits_for_as_many_replicas_as_the_url_asks_for(tmp_path: Path) -> None:
    for name in ("primary", "replica"):
        (tmp_path / name).mkdir()
    with RedisServer(tmp_path / "primary", "--repl-diskless-sync-delay", "0") as primary:
        follow = ("--replicaof", f"127.0.0.1 {primary.port}")
        with closing(opened(f"{primary.url}?replicas=1")) as store:
            with RedisServer(tmp_path / "replica", *follow) as replica:
                commit_until_stored(store, claiming(claim("a", 5)))
                with replica.client() as client:
                    total = client.get('llmq:{openai}:total:["openai","gpt"]')
                    assert read_total(total) == counts(5)
            expectation = re.escape("expected 1 replicas to confirm, got 0")
            with pytest.raises(StorageError, match=expectation):
                store.commit([claiming(claim("b", 5))], NOW)
        assert tokens(opened(primary.url)) == 10
