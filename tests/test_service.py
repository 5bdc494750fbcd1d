"""What the service keeps over reloads and restarts."""

import asyncio

import msgspec

from exporter.config import Config, parse
from exporter.core.scorer import ForecastScorer
from exporter.core.slots import FINE_SECONDS
from exporter.service import Service
from exporter.storage import open_store
from exporter.storage.contract import Batch
from exporter.storage.group_commit import GroupCommit

NOW = 1_700_000_000.0


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
            cell = ("openai", "gpt", int(NOW // FINE_SECONDS))
            service.record(Batch({cell: [5, 0, 0, 0, 0, 0, 1]}, 1), told.set_result)
            await told
            await service.reload(config, NOW)
            assert await used() == await used() == expected
            assert service.totals == {("openai", "gpt"): [expected, 0, 0, 0, 0, 0, expected // 5]}
        await commits.close()

    asyncio.run(story())
