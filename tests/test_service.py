"""What the service keeps over reloads and restarts."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from exporter.config import Config, parse
from exporter.core.scorer import ForecastScorer
from exporter.core.series import Series
from exporter.core.slots import FINE_SECONDS
from exporter.service import Service
from exporter.storage import open_store
from exporter.storage.contract import Batch, Committed, Store
from exporter.storage.group_commit import GroupCommit

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
        service.forecasts = record_of_three_windows()
        expected = service.forecasts.scores()

        await service.stop(NOW)

        service.forecasts = ForecastScorer()  # it knows more by now than was stored
        await service.reload(Config(), NOW)
        assert service.forecasts.scores() == {}
        following = Service(Config(), commits, store.shared, lambda: NOW)
        await following.start(NOW)
        assert following.forecasts.scores() == expected
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
            service.record("usage", Batch({cell: [5, 0, 0, 0, 0, 0, 1, 0]}, 1), told.set_result)
            await told
            await service.reload(config, NOW)
            assert await used() == await used() == expected
            assert service.totals == {
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
        service.record("usage", Batch(events=1), lambda outcome: None)
        await asyncio.to_thread(store.entered.acquire)
        # Both wait for the same group: that of the tick first, as when a process is told to stop.
        service.states.overrule("openai", NOW + 60, NOW)
        tick = asyncio.create_task(service.save())
        await asyncio.sleep(0)
        stop = asyncio.create_task(service.stop(NOW))
        await asyncio.sleep(0)
        tick.cancel()
        store.gate.release(10)
        await asyncio.wait_for(stop, 10)
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
        assert views["openai"].view.reason == "provider"
        await commits.close()

    asyncio.run(story())
    skipped = [record.__dict__["fields"] for record in caplog.records]
    assert {"provider": "openai", "reason": "solar"} in skipped
    assert {fields["name"] for fields in skipped if "name" in fields} == documents.keys() - {
        "standing/openai"
    }
