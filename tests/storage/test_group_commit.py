"""Grouping of commits: order, failures, and the end."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import pytest

from exporter.storage.contract import (
    Answer,
    Batch,
    Changes,
    Committed,
    CorruptStorage,
    StorageError,
)
from exporter.storage.group_commit import GroupCommit
from tests.storage.values import NOW, events


class GatedStore:
    """Writes down what it is asked to do; commits only when allowed."""

    shared = False
    created = NOW
    warnings = ()

    def __init__(self) -> None:
        self.log: list[object] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.failing: set[int] = set()
        self.threads: set[threading.Thread] = set()
        self.untidy = 0
        self.tidied = threading.Semaphore(0)
        self.sick: Exception | None = None

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        self.entered.release()
        self.gate.acquire()
        self.threads.add(threading.current_thread())
        sizes = [batch.events for batch in batches]
        self.log.append(sizes)
        if self.failing.intersection(sizes):
            raise StorageError(f"no room for {sizes}")
        return [Committed(Answer(batch.events), batch.increments) for batch in batches]

    def tidy(self, now: float) -> bool:
        if self.sick:
            raise self.sick
        if self.untidy:
            self.tidied.acquire()
            self.untidy -= 1
            self.log.append("tidy")
        return self.untidy > 0

    def load(self, now: float) -> Changes:
        raise NotImplementedError

    def changes(self, now: float) -> Changes | None:
        return None

    def prune(self, now: float) -> None:
        self.log.append("prune")

    def close(self) -> None:
        self.log.append("close")


class Bench:
    """A group commit on a gated store; outcomes in the order they were told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.store = GatedStore()
        self.commits = GroupCommit(self.store, loop, lambda: NOW)
        self.told: list[tuple[int, int | str]] = []

    def submit(self, number: int) -> None:
        def done(outcome: Committed | StorageError) -> None:
            failed = isinstance(outcome, StorageError)
            self.told.append((number, str(outcome) if failed else outcome.answer.accepted))

        self.commits.submit(events(number, 1), done)

    def allow(self, groups: int = 100) -> None:
        self.store.gate.release(groups)

    async def busy(self) -> None:
        """The thread has taken up what was submitted, and waits at the gate."""
        await asyncio.to_thread(self.store.entered.acquire)


def run(scenario: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench(asyncio.get_running_loop())
        await asyncio.wait_for(scenario(bench), 10)
        return bench

    return asyncio.run(main())


async def one_after_the_other(bench: Bench, count: int) -> None:
    bench.allow()
    for number in range(1, count + 1):
        bench.submit(number)
        while len(bench.told) < number:
            await asyncio.sleep(0)
    await bench.commits.close()


def test_batches_that_arrive_during_a_commit_share_the_next_one_and_are_told_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        bench.submit(1)
        await bench.busy()
        for number in (2, 3, 4):
            bench.submit(number)
        assert bench.commits.outstanding == 4
        bench.allow()
        await bench.commits.close()

    bench = run(scenario)
    assert bench.store.log == [[1], [2, 3, 4], "close"]
    assert bench.told == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert bench.commits.outstanding == 0
    assert len(bench.store.threads) == 1


def test_a_failed_group_fails_alone() -> None:
    async def scenario(bench: Bench) -> None:
        bench.store.failing = {2}
        bench.submit(1)
        await bench.busy()
        bench.submit(2)
        bench.submit(3)
        bench.allow(1)
        await bench.busy()  # with the second group
        bench.submit(4)
        bench.allow()
        await bench.commits.close()

    reason = "no room for [2, 3]"
    assert run(scenario).told == [(1, 1), (2, reason), (3, reason), (4, 4)]


def test_closing_first_finishes_everything_submitted() -> None:
    async def scenario(bench: Bench) -> None:
        bench.submit(1)
        await bench.busy()
        bench.submit(2)
        closing = asyncio.ensure_future(bench.commits.close())
        await asyncio.sleep(0)
        assert not closing.done()
        bench.allow()
        await closing
        assert bench.told == [(1, 1), (2, 2)]

    assert run(scenario).store.log == [[1], [2], "close"]


def test_work_runs_between_groups_and_its_result_is_told_before_a_later_group() -> None:
    async def scenario(bench: Bench) -> None:
        bench.submit(1)
        await bench.busy()
        bench.submit(2)
        pruned = bench.commits.call(
            lambda store: store.prune(NOW), then=lambda _: bench.told.append((0, "pruned"))
        )
        bench.allow(2)
        await pruned
        bench.submit(3)
        bench.allow()
        await bench.commits.close()

    bench = run(scenario)
    assert bench.store.log == [[1], [2], "prune", [3], "close"]
    assert bench.told == [(1, 1), (2, 2), (0, "pruned"), (3, 3)]


def test_an_error_in_work_reaches_who_asked_and_nobody_else() -> None:
    async def scenario(bench: Bench) -> None:
        def fail(_: object) -> None:
            raise StorageError("cannot read")

        bench.submit(1)
        failing = bench.commits.call(fail)
        bench.allow()
        with pytest.raises(StorageError, match="cannot read"):
            await failing
        bench.submit(2)
        await bench.commits.close()

    assert run(scenario).told == [(1, 1), (2, 2)]


def test_outcomes_are_told_before_the_store_is_tidied_and_a_group_waits_for_a_little_of_it() -> (
    None
):
    async def scenario(bench: Bench) -> None:
        bench.store.untidy = 3
        bench.allow()
        bench.submit(1)
        while not bench.told:
            await asyncio.sleep(0)
        bench.submit(2)
        await asyncio.sleep(0)  # until the thread has been told
        bench.store.tidied.release(3)
        while len(bench.told) < 2:
            await asyncio.sleep(0)
        while bench.store.untidy:
            await asyncio.sleep(0)
        await bench.commits.close()

    assert run(scenario).store.log == [[1], "tidy", [2], "tidy", "tidy", "close"]


def test_a_store_that_cannot_tidy_is_reported_once_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.store.sick = StorageError("the disk is full")
        await one_after_the_other(bench, 3)

    assert run(scenario).told == [(1, 1), (2, 2), (3, 3)]
    assert [record.message for record in caplog.records] == ["cannot tidy the store"]


def test_a_store_found_damaged_while_it_is_tidied_takes_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(bench: Bench) -> None:
        bench.store.sick = CorruptStorage("quota.db: a damaged block; restore a backup")
        await one_after_the_other(bench, 3)

    damage = "quota.db: a damaged block; restore a backup"
    bench = run(scenario)
    assert bench.told == [(1, 1), (2, damage), (3, damage)]
    assert bench.store.log == [[1], "close"]
    assert len(caplog.records) == 1
