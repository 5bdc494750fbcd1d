"""Grouping of commits: order, failures, and the end."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Sequence

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

    def submit(self, number: int, *, raises: bool = False) -> None:
        def done(outcome: Committed | StorageError) -> None:
            failed = isinstance(outcome, StorageError)
            self.told.append((number, str(outcome) if failed else outcome.answer.accepted))
            if raises:
                raise ValueError(f"callback {number}")

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


async def stepped(
    bench: Bench, number: int, *, fails: bool = False
) -> "tuple[asyncio.Future[None], list[str]]":
    """Work of so many steps, of which the first is over."""
    begun = asyncio.Event()
    log: list[str] = []

    def work(store: GatedStore) -> Generator[None, None, None]:
        try:
            for step in range(number):
                store.log.append(f"step {step}")
                yield
            if fails:
                raise StorageError("cannot read")
        except GeneratorExit:
            log.append("closed")

    def first() -> None:
        bench.told.append((0, "begun"))
        begun.set()

    future = bench.commits.call_in_steps(work, lambda: bench.told.append((0, "then")), first)
    await begun.wait()
    return future, log


def test_groups_are_committed_between_the_steps_of_long_work_and_none_waits_for_all() -> None:
    async def scenario(bench: Bench) -> None:
        bench.allow()
        future, _ = await stepped(bench, 10**9)
        for number in (1, 2):
            bench.submit(number)
        while len(bench.told) < 3:
            await asyncio.sleep(0)
        assert not future.done()
        future.cancel()
        await bench.commits.close()

    bench = run(scenario)
    assert bench.told == [(0, "begun"), (1, 1), (2, 2)]


def test_what_a_store_has_put_off_stays_so_while_long_work_is_done() -> None:
    async def scenario(bench: Bench) -> None:
        bench.allow()
        bench.store.untidy = 1
        bench.store.tidied.release()
        future, _ = await stepped(bench, 3)
        bench.submit(1)
        await future
        assert "tidy" not in bench.store.log
        await bench.commits.call(lambda store: None)  # by then the long work is over for good
        bench.submit(2)
        while len(bench.told) < 4:
            await asyncio.sleep(0)
        while "tidy" not in bench.store.log:  # it comes when nothing else waits
            await asyncio.sleep(0)
        await bench.commits.close()

    assert run(scenario).told == [(0, "begun"), (1, 1), (0, "then"), (2, 2)]


def test_long_work_that_fails_is_cancelled_or_outlives_the_store_says_so_and_holds_up_nobody() -> (
    None
):
    async def scenario(bench: Bench) -> None:
        bench.allow()
        failing, _ = await stepped(bench, 3, fails=True)
        with pytest.raises(StorageError, match="cannot read"):
            await failing
        cancelled, log = await stepped(bench, 10**9)
        cancelled.cancel()
        while log != ["closed"]:
            await asyncio.sleep(0)
        late, _ = await stepped(bench, 10**9)
        await bench.commits.close()
        with pytest.raises(StorageError, match="the store is closed"):
            await late

    assert run(scenario).told == [(0, "begun")] * 3


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
    messages = [record.message for record in caplog.records]
    assert messages == ["cannot tidy the store", "store fails"]


def test_a_callback_that_raises_keeps_nobody_else_from_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(bench: Bench) -> None:
        def count(_: object) -> None:
            raise ValueError("counting")

        bench.commits.counted = count
        bench.submit(1)
        await bench.busy()
        for number in (2, 3, 4):
            bench.submit(number, raises=number == 3)
        bench.allow()
        await bench.commits.close()
        assert bench.commits.stats().failures == 3
        assert bench.commits.outstanding == 0

    assert run(scenario).told == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert [record.message for record in caplog.records] == ["callback of a commit failed"] * 3
    assert all(record.exc_info for record in caplog.records)


def test_what_then_raises_the_future_raises_and_later_work_is_done() -> None:
    async def scenario(bench: Bench) -> None:
        def then(_: object) -> None:
            raise ValueError("a reason unknown to this version")

        with pytest.raises(ValueError, match="unknown to this version"):
            await bench.commits.call(lambda store: store.prune(NOW), then=then)
        await bench.commits.call(lambda store: store.prune(NOW))
        await bench.commits.close()

    assert run(scenario).store.log == ["prune", "prune", "close"]


def test_work_whose_caller_was_cancelled_holds_up_nobody() -> None:
    async def scenario(bench: Bench) -> None:
        bench.submit(1)
        await bench.busy()
        for ends in (lambda store: store.prune(NOW), lambda store: store.load(NOW)):
            bench.commits.call(ends).cancel()
        bench.submit(2)
        bench.allow()
        await bench.commits.close()

    bench = run(scenario)
    assert bench.told == [(1, 1), (2, 2)]
    assert bench.commits.stats().failures == 0


def test_what_comes_after_the_end_is_answered_too() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.commits.close()
        bench.submit(1)
        with pytest.raises(StorageError, match="the store is closed"):
            await bench.commits.call(lambda store: store.prune(NOW))
        while not bench.told:
            await asyncio.sleep(0)
        assert bench.commits.outstanding == 0

    bench = run(scenario)
    assert bench.told == [(1, "the store is closed")]
    assert bench.store.log == ["close"]


def test_a_store_that_cannot_be_closed_says_so_and_its_thread_ends() -> None:
    async def scenario(bench: Bench) -> None:
        def fail() -> None:
            raise StorageError("cannot close: disk full")

        bench.store.close = fail  # type: ignore[method-assign] # for this store only
        bench.allow()
        bench.submit(1)
        with pytest.raises(StorageError, match="disk full"):
            await bench.commits.close()
        (thread,) = bench.store.threads
        await asyncio.to_thread(thread.join)

    run(scenario)


def test_a_store_that_fails_is_logged_once_and_so_is_that_it_works_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")

    async def scenario(bench: Bench) -> None:
        up = []
        bench.store.failing = {2, 3}
        bench.allow()
        for number in range(1, 6):
            bench.submit(number)
            while len(bench.told) < number:
                await asyncio.sleep(0)
            up.append(bench.commits.health.up)
        assert up == [True, False, False, True, True]
        await bench.commits.close()

    run(scenario)
    assert [record.message for record in caplog.records] == ["store fails", "store works again"]
    assert caplog.records[0].__dict__["fields"] == {"doing": "write", "error": "no room for [2]"}
