"""The Redis store on a cluster of three nodes."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from exporter.storage import StorageError, Store, open_store
from exporter.storage.contract import Answer, Batch, Changes, Merge, replace
from tests.storage.conftest import DEDUPLICATION, RETENTION
from tests.storage.servers import DEADLINE, RedisServer, free_port
from tests.storage.values import (
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

SLOTS = 16384


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Three nodes that share all slots."""
    with ExitStack() as stack:
        nodes, buses = [], [free_port() for _ in range(3)]
        for bus in buses:
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus))
            node = RedisServer(tmp_path_factory.mktemp("node"), *options)
            nodes.append(stack.enter_context(node))
        for index, node in enumerate(nodes):
            first, end = SLOTS * index // 3, SLOTS * (index + 1) // 3
            with node.client() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, buses[0])
        deadline = time.monotonic() + DEADLINE
        for node in nodes:
            with node.client() as client:
                while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                    assert time.monotonic() < deadline, "the nodes do not become a cluster"
                    time.sleep(0.02)
        yield nodes


def opened(node: RedisServer, merge: Merge = replace) -> Store:
    url = node.url.replace("redis://", "redis+cluster://")
    return open_store(url, retention=RETENTION, deduplication=DEDUPLICATION, now=NOW, merge=merge)


def test_a_cluster_keeps_every_provider_on_its_node_and_counts_once(
    cluster: list[RedisServer],
) -> None:
    with closing(opened(cluster[0])) as one, closing(opened(cluster[1])) as two:
        two.load(NOW)
        cells = [cell_of(f"provider {number}", "gpt", SLOT - number) for number in range(20)]
        batch = claiming(
            *[claim(cell, 7, cell) for cell in cells[5:]],
            key=digest("key"),
            beside=Batch(
                {cell: counts(5) for cell in cells[:10]},
                10,
                reports=[level(3, cell=cells[0])],
                rejected=b'[{"index":1}]',
                documents={"d": b"1"},
            ),
        )
        (first, plain) = one.commit([batch, events(2, 4, cells[0])], NOW)
        assert first.answer == Answer(26, rejected=b'[{"index":1}]')
        assert plain.answer == Answer(2)
        (again, by_id) = two.commit([batch, claiming(*batch.claims)], NOW)
        assert again.answer == Answer(26, rejected=b'[{"index":1}]', repeated=True)
        assert by_id.answer == Answer(0, duplicates=15)
        assert [tokens(one, f"provider {number}") for number in (0, 5, 19)] == [16, 12, 7]

        with closing(opened(cluster[2])) as reader:
            loaded = reader.load(NOW)
            everything = state(loaded)
        changes = two.changes(NOW)
        assert changes is not None
        assert loaded.documents == changes.documents == {"d": b"1"}
        assert changes.complete
        assert everything == expected(changes.increments.items())
        assert len(everything[0]) == 20
        assert two.changes(NOW) == Changes()


def test_a_share_that_a_cluster_kept_of_a_failed_request_is_not_counted_again(
    cluster: list[RedisServer],
) -> None:
    with closing(opened(cluster[0])) as store:
        whole = claiming(claim("x", 1), claim("y", 2, cell_of("gemini", "", SLOT)), key=digest("k"))
        share = claiming(claim("x", 1), key=whole.key)
        store.commit([share], NOW)
        (retried,) = store.commit([whole], NOW)
        assert retried.answer == Answer(2)
        assert list(retried.increments) == [cell_of("gemini", "", SLOT)]
        assert (tokens(store), tokens(store, "gemini")) == (1, 2)


def on_nodes(cluster: list[RedisServer]) -> list[str]:
    """A provider on each node that nobody has used."""
    found: list[str] = []
    for node in range(len(cluster)):
        for number in range(1000):
            with cluster[0].client() as client:
                name = f"of-{time.monotonic_ns()}-{number}"
                slot = client.execute_command("CLUSTER", "KEYSLOT", f"llmq:{{{name}}}")
            if SLOTS * node // 3 <= slot < SLOTS * (node + 1) // 3:
                found.append(name)
                break
    return found


def test_a_group_that_fails_on_one_node_counts_what_has_an_identity_once_when_it_is_sent_again(
    cluster: list[RedisServer],
) -> None:
    with closing(opened(cluster[0], union)) as store:
        here, _, away = on_nodes(cluster)
        store.commit([events(0, 0, cell_of(here)), events(0, 0, cell_of(away))], NOW)
        both = Batch({cell_of(here): counts(10), cell_of(away): counts(10)}, 2, key=digest(here))
        ids = [claim(f"{here} a", 5, cell_of(here)), claim(f"{here} b", 5, cell_of(away))]
        level_here = Batch(reports=[level(7, name=here, cell=cell_of(here))])
        group = [both, claiming(*ids), level_here]
        bare = events(1, 1000, cell_of(here))  # neither an identity nor a key
        with cluster[2].client() as client:
            client.execute_command("CLIENT", "PAUSE", 2500, "ALL")
        with pytest.raises(StorageError, match="cannot store"):
            store.commit([*group, bare], NOW)
        answers = commit_until_stored(store, group)
        assert answers == [Answer(2, repeated=False), Answer(1, duplicates=1), Answer(1)]
        assert (tokens(store, here), tokens(store, away)) == (1000 + 10 + 5 + 7, 10 + 5)
        store.commit([bare], NOW)  # as its sender does
        assert tokens(store, here) == 2000 + 10 + 5 + 7


def commit_until_stored(store: Store, group: list[Batch]) -> list[Answer]:
    """Retry as clients would; what they are answered in the end."""
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return [one.answer for one in store.commit(group, NOW)]
        except StorageError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_documents_of_two_replicas_are_merged_and_what_is_beside_them_counts_once(
    cluster: list[RedisServer],
) -> None:
    with closing(opened(cluster[0], union)) as one, closing(opened(cluster[1], union)) as two:
        for store in (one, two):
            store.load(NOW)
        for store, word in ((one, b"1"), (two, b"2")):
            cell = cell_of("beside documents", "", SLOT)
            store.commit([Batch({cell: counts(5)}, 1, documents={"merged": word})], NOW)
        assert two.load(NOW).documents["merged"] == b"1 2"
        assert tokens(two, "beside documents") == 10


def test_a_slot_that_moved_to_another_node_is_followed(cluster: list[RedisServer]) -> None:
    with closing(opened(cluster[0])) as store:
        store.commit([events(1, 1, cell_of("moving", "", SLOT))], NOW)
        with cluster[0].client() as client:
            slot = client.execute_command("CLUSTER", "KEYSLOT", "llmq:{moving}")
        source = cluster[next(i for i in range(3) if slot < SLOTS * (i + 1) // 3)]
        target = next(node for node in cluster if node is not source)
        move(slot, source, target, cluster)
        store.commit([events(1, 2, cell_of("moving", "", SLOT))], NOW)
        assert tokens(store, "moving") == 3


def move(slot: int, source: RedisServer, target: RedisServer, nodes: list[RedisServer]) -> None:
    """Hand a slot over, with all its keys."""
    with source.client() as leaving, target.client() as arriving:
        to, of = (client.execute_command("CLUSTER", "MYID") for client in (arriving, leaving))
        arriving.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", of)
        leaving.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", to)
        for key in leaving.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            leaving.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
    for node in (target, source, *nodes):
        with node.client() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", to)
