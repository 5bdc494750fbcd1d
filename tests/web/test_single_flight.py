"""Many who ask at once share what is made, and nobody gets what was made before."""

import asyncio

import pytest

from exporter.web.single_flight import SingleFlight


class Work:
    """Takes until it is told to end; each run returns its number.

    Attributes:
        begun: how many runs have begun.
        goes: while it is not set, a run waits.
    """

    def __init__(self) -> None:
        self.begun = 0
        self.goes = asyncio.Event()

    async def __call__(self) -> int:
        self.begun += 1
        number = self.begun
        await self.goes.wait()
        return number


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_all_who_come_while_it_runs_share_the_next_run() -> None:
    async def story() -> None:
        flight, work = SingleFlight[int](), Work()
        first = [asyncio.create_task(flight.run("a", work)) for _ in range(3)]
        await turns()
        later = [asyncio.create_task(flight.run("a", work)) for _ in range(300)]
        await turns()
        assert work.begun == 1
        work.goes.set()
        assert await asyncio.gather(*first) == [1] * 3
        assert await asyncio.gather(*later) == [2] * 300
        assert await flight.run("a", work) == 3

    asyncio.run(story())


def test_keys_do_not_wait_for_each_other() -> None:
    async def story() -> None:
        flight, work = SingleFlight[int](), Work()
        waiting = [asyncio.create_task(flight.run(key, work)) for key in "abc"]
        await turns()
        assert work.begun == 3
        work.goes.set()
        assert sorted(await asyncio.gather(*waiting)) == [1, 2, 3]

    asyncio.run(story())


def test_who_leaves_takes_nothing_from_the_others() -> None:
    async def story() -> None:
        flight, work = SingleFlight[int](), Work()
        one, other = (asyncio.create_task(flight.run("a", work)) for _ in range(2))
        await turns()
        one.cancel()
        await turns()
        work.goes.set()
        assert await other == 1

    asyncio.run(story())


def test_a_failure_is_that_of_all_who_share_it_and_of_nobody_later() -> None:
    async def fail() -> int:
        raise ValueError("no")

    async def story() -> None:
        flight = SingleFlight[int]()
        failed = await asyncio.gather(
            *[flight.run("a", fail) for _ in range(3)], return_exceptions=True
        )
        assert [str(one) for one in failed] == ["no"] * 3
        with pytest.raises(ValueError, match="no"):
            await flight.run("a", fail)
        work = Work()
        work.goes.set()
        assert await flight.run("a", work) == 1

    asyncio.run(story())
