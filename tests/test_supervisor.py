"""Background tasks: none dies in silence."""

import asyncio
import logging
from typing import NoReturn

import pytest

from exporter import supervisor
from exporter.supervisor import Supervisor


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_WAIT", 0.0)


class Work:
    """Fails the first few times, then goes on until it is cancelled."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.runs = 0
        self.steady = asyncio.Event()

    async def run(self) -> NoReturn:
        self.runs += 1
        if self.runs <= self.failures:
            raise KeyError(f"run {self.runs}")
        self.steady.set()
        while True:
            await asyncio.sleep(3600)


def test_a_task_that_fails_is_logged_counted_shown_and_started_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        parent, work = Supervisor(), Work(2)
        parent.keep("tick", work.run)
        assert (parent.failures["tick"], parent.failing) == (0, {})
        await work.steady.wait()
        assert (parent.failures["tick"], parent.failing) == (2, {"tick": "KeyError"})
        await parent.stop()

    asyncio.run(story())
    assert [record.message for record in caplog.records] == ["background task failed"] * 2
    assert caplog.records[0].__dict__["fields"] == {"task": "tick", "error": "KeyError('run 1')"}
    assert all(record.exc_info for record in caplog.records)


def test_a_failure_is_over_when_the_task_has_run_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        now = 0.0
        monkeypatch.setattr(supervisor, "_now", lambda: now)
        parent, work = Supervisor(), Work(1)
        parent.keep("tick", work.run)
        await work.steady.wait()
        now = supervisor.STEADY - 1
        assert parent.failing == {"tick": "KeyError"}
        now = supervisor.STEADY
        assert parent.failing == {}
        await parent.stop()

    asyncio.run(story())


def test_a_task_that_ends_by_itself_has_failed() -> None:
    async def story() -> None:
        parent, runs = Supervisor(), 0

        async def work() -> None:
            nonlocal runs
            runs += 1

        parent.keep("tick", work)  # type: ignore[arg-type] # it should never return
        while runs < 2:
            await asyncio.sleep(0)
        assert parent.failing == {"tick": "RuntimeError"}
        await parent.stop()

    asyncio.run(story())


def test_the_failure_of_one_task_leaves_the_others_alone() -> None:
    async def story() -> None:
        parent, good, bad = Supervisor(), Work(0), Work(10**9)
        parent.keep("good", good.run)
        parent.keep("bad", bad.run)
        while bad.runs < 5:
            await asyncio.sleep(0)
        assert (good.runs, set(parent.failing)) == (1, {"bad"})
        await parent.stop()

    asyncio.run(story())


def test_work_that_runs_once_is_counted_when_it_fails() -> None:
    async def story() -> None:
        async def reload() -> None:
            raise OSError("no such file")

        parent = Supervisor()
        parent.start("reload", reload())
        while not parent.failures["reload"]:
            await asyncio.sleep(0)
        await parent.stop()

    asyncio.run(story())


def test_a_stop_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "STOP_WITHIN", 0.05)

    async def story() -> None:
        released = asyncio.Event()

        async def stubborn() -> NoReturn:
            while True:
                try:
                    await released.wait()
                except asyncio.CancelledError:
                    if not released.is_set():
                        continue
                    raise
                await asyncio.sleep(3600)

        parent, work = Supervisor(), Work(0)
        parent.keep("stubborn", stubborn)
        parent.keep("tick", work.run)
        await work.steady.wait()
        await parent.stop()
        released.set()

    asyncio.run(story())
    said = [(one.message, one.__dict__["fields"]) for one in caplog.records]
    assert said == [("background task does not end", {"task": "stubborn"})]


def test_what_nobody_catches_on_the_loop_is_logged_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)

    async def story() -> None:
        parent = Supervisor()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(parent.loop_failed)
        loop.call_soon(lambda: {}["missing"])
        await asyncio.sleep(0)
        assert parent.failures["event_loop"] == 1

    asyncio.run(story())
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[0] is KeyError
