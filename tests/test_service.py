"""What the service keeps over reloads and restarts."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest

from exporter.config import Config, parse
from exporter.core.quota_state import State
from exporter.core.scope import Scope
from exporter.core.scorer import ForecastScorer
from exporter.core.series import Series
from exporter.core.signal import Signal, Verdict
from exporter.core.slots import FINE_SECONDS
from exporter.service import Service
from exporter.storage import open_store
from exporter.storage.contract import Batch, Committed, Loaded, StorageError, Store
from exporter.storage.group_commit import GroupCommit
from exporter.workers import Kind

NOW = 1_700_000_000.0
DAY = 86400.0


def record_of_three_windows() -> ForecastScorer:
    bins = [0.0] * 9
    tally = {"windows": 3, "squares": 0.3, "count": [3.0, *bins]}
    tally |= {"said": [0.3, *bins], "came": [0.0, *bins]}
    return ForecastScorer.load(msgspec.json.encode({"tallies": {"day": tally}, "waiting": {}}))


def test_the_forecasters_record_survives_a_reload_and_a_stop() -> None:
    async def story() -> None:
        store = open_store("memory://", retention=35 * 86400, deduplication=86400, now=NOW)
        commits = GroupCommit(store, asyncio.get_running_loop(), lambda: NOW)
        service = Service(Config(), commits, store.shared, lambda: NOW)
        await service.start(NOW)
        service.measurer.forecasts = record_of_three_windows()
        expected = service.measurer.forecasts.scores()

        await service.stop(NOW)

        following = Service(Config(), commits, store.shared, lambda: NOW)
        await following.start(NOW)
        assert following.measurer.forecasts.scores() == expected
        following.measurer.forecasts = ForecastScorer()  # it knows more by now than was stored
        await following.reload(Config(), NOW)
        assert following.measurer.forecasts.scores() == {}
        await commits.close()

    asyncio.run(story())


def test_what_nobody_has_looked_at_yet_counts_once_over_a_reload() -> None:
    config = parse("budgets: {openai: 1000}\n", "quota.yml")

    async def story() -> None:
        store = open_store("memory://", retention=35 * 86400, deduplication=86400, now=NOW)
        loop = asyncio.get_running_loop()
        commits = GroupCommit(store, loop, lambda: NOW)
        service = Service(config, commits, store.shared, lambda: NOW)
        await service.start(NOW)

        async def used() -> float:
            return (await service.refresh(NOW))["openai"].measurements[0].used

        for expected in (5, 10):
            told = loop.create_future()
            cell = (Series("openai", "gpt"), int(NOW // FINE_SECONDS))
            service.recorder.record(
                "usage", Batch({cell: [5, 0, 0, 0, 0, 0, 1, 0]}, 1), told.set_result
            )
            await told
            await service.reload(config, NOW)
            assert await used() == await used() == expected
            assert service.usage.totals == {
                Series("openai", "gpt"): [expected, 0, 0, 0, 0, 0, expected // 5, 0]
            }
        await commits.close()

    asyncio.run(story())


class Gated:
    """A store whose commits wait until they may go on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        self.entered.release()
        self.gate.acquire()
        return self._store.commit(batches, now)


def test_a_save_that_was_cancelled_does_not_keep_the_stop_from_its_answer() -> None:
    async def story() -> None:
        store = Gated(open_store("memory://", retention=35 * DAY, deduplication=DAY, now=NOW))
        commits = GroupCommit(store, asyncio.get_running_loop(), lambda: NOW)
        service = Service(Config(), commits, store.shared, lambda: NOW)
        await service.start(NOW)
        service.recorder.record("usage", Batch(events=1), lambda outcome: None)
        await asyncio.to_thread(store.entered.acquire)
        # Both wait for the same group: that of the tick first, as when a process is told to stop.
        service.states.overrule(Scope("openai"), State.QUOTA_EXHAUSTED, NOW + 60, NOW)
        tick = asyncio.create_task(service.recorder.save())
        await asyncio.sleep(0)
        stop = asyncio.create_task(service.stop(NOW))
        await asyncio.sleep(0)
        tick.cancel()
        store.gate.release(10)
        await asyncio.wait_for(stop, 10)
        await commits.close()

    asyncio.run(story())


def test_a_signal_that_was_not_stored_is_stored_later_though_nobody_waits_for_it() -> None:
    class Failing(Gated):
        def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
            super().commit(batches, now)
            raise StorageError("the disk is full")

    async def story() -> None:
        store = Failing(open_store("memory://", retention=35 * DAY, deduplication=DAY, now=NOW))
        commits = GroupCommit(store, asyncio.get_running_loop(), lambda: NOW)
        service = Service(Config(), commits, store.shared, lambda: NOW)
        await service.start(NOW)
        refusal = Signal("openai", NOW, Verdict.EXHAUSTED, NOW + 60)
        record = service.recorder.record_signals("signals", Batch(events=1), [refusal], NOW)
        waiting = asyncio.create_task(record)
        await asyncio.to_thread(store.entered.acquire)
        assert not service.states.changed
        waiting.cancel()
        store.gate.release(10)
        await commits.call(lambda store: None)
        assert "standing/openai" in service.states.changed
        await commits.close()

    asyncio.run(story())


def test_documents_of_another_version_are_skipped_with_a_word(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    documents = {
        "standing/openai": b'{"marks": {"provider": {"at": 1, "retry_at": 2e9}, "solar": {}}}',
        "standing/gemini": b'{"marks": 7}',
        "last_push": b'"yesterday"',
        "forecasts": b"[]",
    }

    async def story() -> None:
        store = open_store("memory://", retention=35 * DAY, deduplication=DAY, now=NOW)
        store.commit([Batch(documents=documents)], NOW)
        commits = GroupCommit(store, asyncio.get_running_loop(), lambda: NOW)
        service = Service(Config(), commits, store.shared, lambda: NOW)
        await asyncio.wait_for(service.start(NOW), 10)
        views = await asyncio.wait_for(service.refresh(NOW), 10)
        assert views["openai"].whole.view.reason == "provider"
        await commits.close()

    asyncio.run(story())
    skipped = [record.__dict__["fields"] for record in caplog.records]
    assert {"provider": "openai", "reason": "solar"} in skipped
    assert {fields["name"] for fields in skipped if "name" in fields} == documents.keys() - {
        "standing/openai"
    }


class Counting:
    """A store that counts how often its history was read, and what it was told to drop."""

    def __init__(self, retention: float = 35 * DAY) -> None:
        self._store = open_store("memory://", retention=retention, deduplication=DAY, now=NOW)
        self.loads = 0
        self.fails = False
        self.pruned: list[float] = []
        self.retention = retention

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def load(self, now: float) -> Loaded:
        self.loads += 1
        if self.fails:
            raise StorageError("cannot read")
        return self._store.load(now)

    def prune(self, now: float) -> None:
        self.pruned.append(now)
        self._store.prune(now)

    def set_retention(self, retention: float) -> None:
        self.retention = retention
        self._store.set_retention(retention)


class Running:
    """A service on a counting store, with clocks that stand still until they are set."""

    def __init__(self, config: str) -> None:
        self.store = Counting()
        self.now, self.steady = NOW, 0.0
        self.commits = GroupCommit(self.store, asyncio.get_running_loop(), lambda: self.now)
        self.service = Service(
            parse(config, "quota.yml"),
            self.commits,
            self.store.shared,
            lambda: self.now,
            lambda: self.steady,
        )

    async def push(self, tokens: int) -> None:
        told = asyncio.get_running_loop().create_future()
        cell = (Series("openai", "gpt"), int(self.now // FINE_SECONDS))
        batch = Batch({cell: [tokens, 0, 0, 0, 0, 0, 1, 0]}, 1)
        self.service.recorder.record("usage", batch, told.set_result)
        await told

    async def used(self) -> float:
        views = await self.service.refresh(self.now)
        return views["openai"].measurements[0].used

    async def pass_time(self, wall: float, steady: float) -> None:
        """Let clocks go on, as the tick of a server sees it."""
        self.now, self.steady = self.now + wall, self.steady + steady
        await self.service.tick(self.now)


def lived(story: Callable[[Running], Awaitable[None]], config: str) -> None:
    async def run() -> None:
        running = Running(config)
        await running.service.start(NOW)
        await asyncio.wait_for(story(running), 30)
        await running.commits.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("config", "loads"),
    [
        ("budgets: {openai: 1000}\n", 0),
        ("budgets: {openai: 2000}\n", 0),
        ("budgets: {openai: {tokens: 1000, period: 5h}}\n", 0),
        ("budgets: {openai: 1000}\nprediction: {method: linear}\n", 0),
        ("budgets: {openai: 1000}\nlimits: {providers: 7}\n", 0),
        ("budgets: {openai: 1000, gemini: 5}\n", 1),
        ("budgets: {openai: 1000}\nretention: 40d\n", 1),
    ],
)
def test_a_reload_reads_the_history_only_when_it_needs_more_of_it(config: str, loads: int) -> None:
    async def story(running: Running) -> None:
        await running.push(7)
        before = running.store.loads
        wanted, moments = parse(config, "quota.yml"), []
        adopted = lambda: moments.append(running.service.config is wanted)  # noqa: E731 - as short as it is
        await running.service.reload(wanted, NOW, adopted)
        assert moments == [True]
        assert running.store.loads - before == loads
        assert running.store.retention == wanted.retention
        await running.push(5)
        assert await running.used() == 12
        (measured, *_) = (await running.service.refresh(NOW))["openai"].measurements
        assert measured.budget == wanted.budgets["openai"][0]

    lived(story, "budgets: {openai: 1000}\n")


@pytest.mark.parametrize("config", ["budgets: {openai: 2000}\n", "budgets: {gemini: 5}\n"])
def test_a_reload_while_budgets_are_measured_spoils_neither(config: str) -> None:
    async def story(running: Running) -> None:
        await running.push(7)
        service, blocked = running.service, threading.Event()
        before = asyncio.create_task(service.workers.run(Kind.MEASURE, blocked.wait))
        measuring = asyncio.create_task(service.refresh(NOW))
        while service.workers.outstanding[Kind.MEASURE] < 2:
            await asyncio.sleep(0)
        await service.reload(parse(config, "quota.yml"), NOW)
        blocked.set()
        await before
        assert (await measuring)["openai"].measurements[0].used == 7
        views = await service.refresh(NOW)
        assert {name for name, view in views.items() if view.measurements} == set(
            service.config.budgets
        )

    lived(story, "budgets: {openai: 1000}\n")


def test_a_reload_stays_in_force_that_comes_while_all_is_counted_anew() -> None:
    async def story(running: Running) -> None:
        await running.push(7)
        loads = running.store.loads
        running.now += 400  # the clock is set
        refresh = asyncio.create_task(running.service.refresh(running.now))
        while running.store.loads == loads:
            await asyncio.sleep(0)
        wanted = parse("budgets: {openai: 2000}\n", "quota.yml")
        await running.service.reload(wanted, running.now)
        await refresh
        assert running.service.config is wanted
        views = await running.service.refresh(running.now)
        assert [one.budget.amount for one in views["openai"].measurements] == [2000]

    lived(story, "budgets: {openai: 1000}\n")


def test_nothing_is_said_any_more_of_a_pool_that_is_no_longer_configured() -> None:
    async def story(running: Running) -> None:
        service = running.service
        await running.push(960)
        await service.refresh(NOW)
        assert b"team" in service.availability.all(NOW).body
        await service.reload(parse("budgets: {openai: 100000}\n", "quota.yml"), NOW)
        await service.refresh(NOW)
        assert service.availability.all(NOW).body == b'{"scopes":[]}'

    lived(
        story,
        "budgets: {openai: 100000, team: {tokens: 1000, period: day, providers: [openai]}}\n",
    )


def test_a_reload_that_fails_changes_nothing() -> None:
    async def story(running: Running) -> None:
        await running.push(7)
        running.store.fails = True
        before, adopted = running.service.config, []
        wanted = parse("budgets: {gemini: 5}\nretention: 50d\n", "quota.yml")
        with pytest.raises(StorageError, match="cannot read"):
            await running.service.reload(wanted, NOW, lambda: adopted.append(1))
        assert adopted == []
        assert running.service.config is before
        assert running.store.retention == before.retention
        assert await running.used() == 7

    lived(story, "budgets: {openai: 1000}\n")


@pytest.mark.parametrize("seconds", [DAY, 400 * DAY, -DAY, -400 * DAY])
def test_usage_counts_at_once_when_the_clock_was_set_and_when_it_is_set_right(
    seconds: float,
) -> None:
    async def story(running: Running) -> None:
        await running.push(7)
        await running.pass_time(seconds, 0)
        await running.push(100)
        assert await running.used() == 100
        await running.pass_time(-seconds, 0)
        assert await running.used() == 7
        await running.push(5)
        await running.pass_time(1, 1)
        assert await running.used() == 12
        snapshot = await running.service.snapshot(running.now)
        assert snapshot.clock_jumps == {"ahead": 1, "back": 1}
        assert snapshot.clock_last_jump == -seconds
        assert snapshot.totals == {Series("openai", "gpt"): [112, 0, 0, 0, 0, 0, 3, 0]}

    lived(story, "budgets: {openai: {tokens: 1000, period: 5h}}\n")


def test_nothing_is_pruned_because_of_a_clock_that_was_set() -> None:
    async def story(running: Running) -> None:
        await running.pass_time(400 * DAY, 0)
        await running.pass_time(7200, 7200)
        assert running.store.pruned == []
        await running.pass_time(-400 * DAY, 0)
        for _ in range(23):
            await running.pass_time(3600, 3600)
        assert running.store.pruned == []
        await running.pass_time(3600, 3600)
        assert running.store.pruned == [running.now]

    lived(story, "budgets: {openai: 1000}\n")


def test_a_clock_that_is_wrong_at_the_start_has_an_hour_to_be_set_right() -> None:
    async def story(running: Running) -> None:
        await running.pass_time(1, 1)
        await running.pass_time(3500, 3500)
        assert running.store.pruned == []
        await running.pass_time(100, 100)
        assert running.store.pruned == [running.now]

    lived(story, "budgets: {openai: 1000}\n")
