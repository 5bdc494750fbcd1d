"""Replicas on one Redis: services that share nothing else."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from exporter.config import parse
from exporter.core.quota_state import Reason, State
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.signal import Signal, Verdict
from exporter.core.slots import FINE_SECONDS
from exporter.core.views import ProviderView
from exporter.quota_states import merge
from exporter.service import Service
from exporter.storage import open_store
from exporter.storage.contract import Batch, Committed, StorageError
from exporter.storage.group_commit import GroupCommit
from tests.storage.conftest import DEDUPLICATION, RETENTION
from tests.storage.servers import RedisServer
from tests.storage.values import NOW

CONFIG = "budgets: {openai: 1000}\n"
OPENAI = Scope("openai")


class Replica:
    """A service on a Redis, with clocks that stand still until they are set."""

    def __init__(self, url: str, now: float, config: str) -> None:
        self.now = now
        self.store = open_store(
            url, retention=RETENTION, deduplication=DEDUPLICATION, now=now, merge=merge
        )
        self.commits = GroupCommit(self.store, asyncio.get_running_loop(), lambda: self.now)
        self.service = Service(
            parse(config, "quota.yml"), self.commits, True, lambda: self.now, lambda: 0.0
        )

    async def push(self, tokens: int) -> Committed | StorageError:
        told: asyncio.Future[Committed | StorageError]
        told = asyncio.get_running_loop().create_future()
        cell = (Series("openai", "gpt"), int(self.now // FINE_SECONDS))
        batch = Batch({cell: [tokens, 0, 0, 0, 0, 0, 1, 0]}, 1)
        self.service.recorder.record("usage", batch, told.set_result)
        return await told

    async def view(self, provider: str = "openai") -> ProviderView:
        return (await self.service.refresh(self.now))[provider]

    async def overrule(self, retry_at: float) -> None:
        """What a PUT of the state does."""
        self.service.states.overrule(OPENAI, State.QUOTA_EXHAUSTED, retry_at, self.now)
        await self.service.recorder.save()


class Replicas:
    """As many replicas as are started."""

    def __init__(self, url: str, config: str) -> None:
        self._url = url
        self._config = config
        self.started: list[Replica] = []

    async def start(self, now: float = NOW) -> Replica:
        replica = Replica(self._url, now, self._config)
        self.started.append(replica)
        await replica.service.start(now)
        return replica


def refused(provider: str, model: str = "") -> Signal:
    return Signal(provider, NOW, Verdict.EXHAUSTED, NOW + 7200, model=model)


Story = Callable[[Replicas], Awaitable[None]]


@pytest.fixture
def lived(redis_server: RedisServer) -> Callable[..., None]:
    """Lives a story on an empty server."""

    def live(story: Story, config: str = CONFIG) -> None:
        with redis_server.client() as client:
            client.flushall()

        async def run() -> None:
            replicas = Replicas(redis_server.url, config)
            try:
                await asyncio.wait_for(story(replicas), 30)
            finally:
                for replica in replicas.started:
                    await replica.commits.close()

        asyncio.run(run())

    return live


def test_what_two_operators_said_at_once_is_the_same_on_all_replicas_and_after_a_restart(
    lived: Callable[..., None],
) -> None:
    async def story(replicas: Replicas) -> None:
        one, two = await replicas.start(), await replicas.start()
        await one.overrule(NOW + 3600)
        await two.overrule(NOW + 60)  # which has not heard of the other
        views = [await replica.view() for replica in (one, two, await replicas.start())]
        assert {view.whole.view.retry_at for view in views} == {views[0].whole.view.retry_at}

    lived(story)


def test_a_refusal_and_an_operators_word_on_two_replicas_are_both_kept(
    lived: Callable[..., None],
) -> None:
    async def story(replicas: Replicas) -> None:
        one, two = await replicas.start(), await replicas.start()
        two.service.states.signal(refused("openai"), NOW)
        await asyncio.gather(one.overrule(NOW + 60), two.service.recorder.save())
        for replica in (one, two, await replicas.start()):
            await replica.view()
            scope = replica.service.states.scope
            assert scope(OPENAI, NOW).view.reason is Reason.OPERATOR
            assert scope(OPENAI, NOW).view.retry_at == NOW + 7200
            assert scope(OPENAI, NOW + 61).view.reason is Reason.PROVIDER

    lived(story)


def test_a_provider_that_one_replica_forgot_stays_so_on_all(lived: Callable[..., None]) -> None:
    async def story(replicas: Replicas) -> None:
        one, two = await replicas.start(), await replicas.start()
        two.service.signal(refused("gemini"), NOW)
        await two.service.recorder.save()
        two.service.place("gemini", "flash")
        await one.view()
        two.service.signal(refused("gemini", "flash"), NOW + 1)
        await two.service.recorder.save()  # of which the first has not heard
        one.now += 2
        await one.service.forget("gemini")
        await two.view()
        two.service.signal(refused("mistral"), NOW + 2)
        await two.service.recorder.save()
        for replica in (one, two, await replicas.start()):
            await replica.view()
            assert "gemini" not in replica.service.providers()
            assert replica.service.states.parts("gemini", NOW) == []
            assert replica.service.states.knows("mistral")
        two.service.signal(refused("gemini"), NOW + 3)
        await two.service.recorder.save()
        for replica in (one, two, await replicas.start()):
            await replica.view()
            assert replica.service.states.knows("gemini")

    lived(story)


def test_a_flushed_redis_makes_replicas_unready_and_pushes_fail_until_it_is_restored(
    lived: Callable[..., None], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(replicas: Replicas) -> None:
        one, two = await replicas.start(), await replicas.start()
        await one.push(7)
        for replica in (one, two):
            await replica.view()
        with redis_server.client() as client:
            kept = {key: client.dump(key) for key in client.keys("*")}
            client.flushall()
            for replica in (one, two):
                with pytest.raises(StorageError, match="was flushed"):
                    await replica.service.tick(NOW)
                assert not replica.service.storage_up
                assert isinstance(await replica.push(5), StorageError)
                assert (await replica.view()).measurements[0].used == 7  # what is known stays
            for key, body in kept.items():
                client.restore(key, 0, body, replace=True)
        for replica in (one, two):
            await replica.service.tick(NOW)
            await replica.push(1)
            assert replica.service.storage_up
        for replica in (one, two):
            assert (await replica.view()).measurements[0].used == 9

    lived(story)
    assert "store fails" in caplog.messages


@pytest.mark.parametrize("ahead", [600.0, -600.0])
def test_what_a_replica_counts_whose_clock_is_wrong_counts_at_once_on_both(
    lived: Callable[..., None], caplog: pytest.LogCaptureFixture, ahead: float
) -> None:
    async def story(replicas: Replicas) -> None:
        now = time.time()  # of the server, whose clock cannot be set
        right, wrong = await replicas.start(now), await replicas.start(now + ahead)
        for replica in (right, wrong):
            await replica.view()
        await wrong.push(7)
        await right.push(5)
        for replica in (right, wrong):
            assert [one.used for one in (await replica.view()).measurements] == [12.0, 12.0]
            assert replica.service.usage.totals[Series("openai", "gpt")][0] == 12
        for replica in (right, wrong):
            await replica.service.tick(replica.now)
            await replica.service.tick(replica.now)
        snapshots = [await replica.service.snapshot(replica.now) for replica in (right, wrong)]
        offsets = [snapshot.clock_ahead for snapshot in snapshots]
        assert offsets == pytest.approx([0, ahead], abs=4)

    lived(story, "budgets: {openai: [{tokens: 1000, period: 5h}, {tokens: 1000, period: 7d}]}\n")
    differs = [one for one in caplog.records if "differs from that of the store" in one.message]
    assert len(differs) == 1
    assert differs[0].fields["ahead_seconds"] == pytest.approx(ahead, abs=4)
