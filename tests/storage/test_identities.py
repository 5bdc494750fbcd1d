"""Identities on their way from the log into the tables, and the filter before these."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.storage import Store, filter, identities, open_store
from exporter.storage.contract import Answer, Batch
from exporter.storage.filter import Filter
from tests.storage.conftest import DEDUPLICATION, RETENTION
from tests.storage.values import NOW, claim, claiming, digest, tokens


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few identities are many."""
    monkeypatch.setattr(identities, "MANY", 7)
    monkeypatch.setattr(identities, "SLICE", 3)
    monkeypatch.setattr(identities, "ROWS_READ", 2)
    monkeypatch.setattr(identities, "FULL", 8)
    monkeypatch.setattr(identities, "BUCKET_BITS", 2)
    monkeypatch.setattr(filter, "FIRST", 1)


def opened(path: Path, now: float = NOW) -> Store:
    return open_store(
        f"sqlite:///{path}", retention=RETENTION, deduplication=DEDUPLICATION, now=now
    )


def keyed(number: int) -> Batch:
    """A request with a key, and an answer that no other gets."""
    return claiming(key=digest(("key", number)), beside=Batch(rejected=b"x" * number))


names = st.lists(st.integers(0, 60), max_size=12)


@pytest.mark.usefixtures("merging")
@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.one_of(names, st.sampled_from(["open", "prune", "key", "key"])), min_size=5, max_size=40
    )
)
def test_an_id_counts_once_wherever_its_identity_is_on_its_way(
    tmp_path_factory: pytest.TempPathFactory, steps: list[list[int] | str]
) -> None:
    path = tmp_path_factory.mktemp("db") / "quota.db"
    store, now, claimed, keys = opened(path), NOW, set[int](), 0
    for step in steps:
        now += 0.8 * DEDUPLICATION / len(steps)
        if step == "open":
            store.close()
            store = opened(path, now)
        elif step == "prune":
            store.prune(now)
        elif step == "key":
            store.commit([keyed(keys)], now)
            keys += 1
        elif isinstance(step, list):
            (one,) = store.commit([claiming(*[claim(name, 1) for name in step])], now)
            fresh = set(step) - claimed
            assert (one.answer.accepted, one.answer.duplicates) == (
                len(fresh),
                len(step) - len(fresh),
            )
            claimed |= fresh
        store.tidy(now)
        assert tokens(store, now=now) == len(claimed)
    again = store.commit([keyed(number) for number in range(keys)], now)
    assert [one.answer for one in again] == [
        Answer(0, rejected=b"x" * number, repeated=True) for number in range(keys)
    ]
    store.close()


@pytest.mark.usefixtures("merging")
def test_identities_outlive_one_rotation_and_not_two(tmp_path: Path) -> None:
    store = opened(tmp_path / "quota.db")
    batch = claiming(*[claim(number, 1) for number in range(100)], key=digest("key"))
    store.commit([batch], NOW)
    store.prune(NOW + DEDUPLICATION)
    by_key, by_id = store.commit([batch, claiming(*batch.claims)], NOW + DEDUPLICATION)
    assert (by_key.answer.repeated, by_id.answer.duplicates) == (True, 100)
    store.prune(NOW + 2 * DEDUPLICATION)
    (again,) = store.commit([batch], NOW + 2 * DEDUPLICATION)
    assert again.answer.accepted == 100
    store.close()


@pytest.mark.usefixtures("merging")
def test_a_merge_that_could_not_begin_forgets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "quota.db")
    batch = claiming(*[claim(number, 1) for number in range(20)])
    store.commit([batch], NOW)
    with monkeypatch.context() as patch:
        patch.setattr(identities, "FULL", 0)
        with pytest.raises(ZeroDivisionError):
            store.tidy(NOW)
    while store.tidy(NOW):
        pass
    (again,) = store.commit([batch], NOW)
    assert again.answer.duplicates == 20
    store.close()


@given(sizes=st.lists(st.integers(1, 300), max_size=6), seed=st.integers(0, 99))
def test_a_filter_knows_all_that_was_added(sizes: list[int], seed: int) -> None:
    chance, known = random.Random(seed), Filter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filter, "FIRST", 4)
        added = [chance.randbytes(16 * size) for size in sizes]
        for some in added:
            known.add(some)
    assert known.added == sum(sizes)
    assert known.likely(b"".join(added)) == list(range(sum(sizes)))


def test_a_filter_is_wrong_about_few_others() -> None:
    chance, known = random.Random(5), Filter()
    assert known.likely(chance.randbytes(16 * 1000)) == []
    known.add(chance.randbytes(16 * filter.FIRST * filter.PER_WORD))
    others = 100_000
    assert len(known.likely(chance.randbytes(16 * others))) < others / 1000
