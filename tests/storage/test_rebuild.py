"""What is counted while the history is read anew, on every store."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from exporter.config import parse
from exporter.core.series import Series
from exporter.core.slots import FINE_SECONDS
from exporter.service import Service
from exporter.storage.contract import Batch, Committed, StorageError
from exporter.storage.group_commit import GroupCommit
from tests.storage.conftest import Place
from tests.storage.values import NOW, SLOT, cell_of, counts

DAYS = 8640  # slots
MODELS = [f"model-{number}" for number in range(20)]
BEFORE = parse("budgets: {openai: {tokens: 1000000, period: 7d}}\n", "quota.yml")
AFTER = parse(
    "budgets: {openai: [{tokens: 1000000, period: 7d}, {requests: 5, period: 7d, model: model-7}]}",
    "quota.yml",
)
HISTORY = {
    cell_of("openai", model, SLOT - DAYS * n): counts(1) for model in MODELS for n in range(30)
}
WEEK = 8  # days of those within seven days and a bin


class Counted:
    """A service on a store with a month of history."""

    def __init__(self, service: Service, commits: GroupCommit, shared: bool) -> None:
        self.service = service
        self.commits = commits
        self.shared = shared
        self.pushed = 0

    async def push(self) -> None:
        told: asyncio.Future[Committed | StorageError]
        told = asyncio.get_running_loop().create_future()
        batch = Batch({(Series("openai", "model-7"), int(NOW // FINE_SECONDS)): counts(3)}, 1)
        self.service.recorder.record("usage", batch, told.set_result)
        assert isinstance(await told, Committed)
        self.pushed += 1

    async def check(self) -> None:
        """Everything counts once."""
        total, requests, *_ = [
            one.used for one in (await self.service.refresh(NOW))["openai"].measurements
        ]
        assert (total, requests) == (20 * WEEK + 3 * self.pushed, WEEK + self.pushed)
        sums = self.service.usage.totals
        assert sum(sums[Series("openai", model)][0] for model in MODELS) == 600 + 3 * self.pushed


def lived(place: Place, story: Callable[[Counted], Awaitable[None]]) -> None:
    store = place.empty(NOW)
    store.commit([Batch(HISTORY, len(HISTORY))], NOW)

    async def run() -> None:
        commits = GroupCommit(store, asyncio.get_running_loop(), lambda: NOW)
        service = Service(BEFORE, commits, store.shared, lambda: NOW)
        await service.start(NOW)
        try:
            await asyncio.wait_for(story(Counted(service, commits, store.shared)), 60)
        finally:
            await commits.close()

    asyncio.run(run())


def test_pushes_are_stored_while_a_reload_reads_the_history_and_count_once(place: Place) -> None:
    async def story(counted: Counted) -> None:
        await counted.push()
        adopted: list[int] = []
        reload = asyncio.create_task(
            counted.service.reload(AFTER, NOW, lambda: adopted.append(counted.pushed))
        )
        while not reload.done():
            await counted.push()
            if counted.pushed % 5 == 0:  # a scrape or a tick in between
                await counted.service.refresh(NOW)
        await reload
        assert adopted[0] > 1  # they did not wait for all of it
        await counted.push()
        await counted.check()
        counted.service = Service(AFTER, counted.commits, counted.shared, lambda: NOW)
        await counted.service.start(NOW)
        await counted.check()

    lived(place, story)


def test_a_reload_that_is_cancelled_changes_nothing_and_the_next_one_counts_once(
    place: Place,
) -> None:
    async def story(counted: Counted) -> None:
        reload = asyncio.create_task(counted.service.reload(AFTER, NOW))
        await counted.push()
        reload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reload
        await counted.push()
        assert counted.service.config is BEFORE
        (only,) = (await counted.service.refresh(NOW))["openai"].measurements
        assert only.used == 20 * WEEK + 6
        await counted.service.reload(AFTER, NOW)
        await counted.check()

    lived(place, story)
