"""What the service keeps over reloads and restarts."""

import asyncio

import msgspec

from exporter.config import Config
from exporter.core.record import Record
from exporter.service import Service
from exporter.storage import open_store
from exporter.storage.group_commit import GroupCommit

NOW = 1_700_000_000.0


def record_of_three_windows() -> Record:
    bins = [0.0] * 9
    tally = {"windows": 3, "squares": 0.3, "count": [3.0, *bins]}
    tally |= {"said": [0.3, *bins], "came": [0.0, *bins]}
    return Record.load(msgspec.json.encode({"tallies": {"day": tally}, "waiting": {}}))


def test_the_forecasters_record_survives_a_reload_and_a_stop() -> None:
    async def story() -> None:
        store = open_store("memory://", retention=35 * 86400, deduplication=86400, now=NOW)
        commits = GroupCommit(store, asyncio.get_running_loop(), lambda: NOW)
        service = Service(Config(), commits, store.shared, lambda: NOW)
        await service.start(NOW)
        service.forecasts = record_of_three_windows()
        expected = service.forecasts.scores()

        await service.stop(NOW)

        service.forecasts = Record()  # it knows more by now than was stored
        await service.reload(Config(), NOW)
        assert service.forecasts.scores() == {}
        following = Service(Config(), commits, store.shared, lambda: NOW)
        await following.start(NOW)
        assert following.forecasts.scores() == expected
        await commits.close()

    asyncio.run(story())
