"""Replicas on one Redis: services that share nothing else."""

import asyncio
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
from exporter.storage.contract import Batch
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

    async def push(self, tokens: int) -> None:
        told = asyncio.get_running_loop().create_future()
        cell = (Series("openai", "gpt"), int(self.now // FINE_SECONDS))
        batch = Batch({cell: [tokens, 0, 0, 0, 0, 0, 1, 0]}, 1)
        self.service.recorder.record("usage", batch, told.set_result)
        await told

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
