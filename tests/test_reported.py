"""Windows that providers report, from signal to measurement, over restarts and on replicas."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from exporter.config import Config, parse
from exporter.core.measurement import Measurement
from exporter.core.quota_state import Reason
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.signal import Limit, Signal, Verdict
from exporter.core.slots import FINE_SECONDS
from exporter.core.windows import DAY, HOUR
from exporter.service import Service
from exporter.storage import open_store
from exporter.storage.contract import Batch, Store
from exporter.storage.group_commit import GroupCommit

NOW = 1_790_000_003.0  # in the midst of the shortest slots that are counted
ENDS = NOW + 4 * DAY
WEEK = 7.0 * DAY


class Exporter:
    """A service over a store, with a clock that tests move."""

    def __init__(self, store: Store, config: Config) -> None:
        self.now = NOW
        self.store = store
        commits = GroupCommit(store, asyncio.get_running_loop(), lambda: self.now)
        self.service = Service(config, commits, store.shared, lambda: self.now, lambda: self.now)

    async def use(
        self, tokens: int, model: str = "claude-opus-5", provider: str = "claude"
    ) -> None:
        done = asyncio.get_running_loop().create_future()
        cell = (Series(provider, model), int(self.now // FINE_SECONDS))
        batch = Batch({cell: [0, 0, 0, 0, 0, tokens, 1, 0]}, 1)
        self.service.recorder.record("usage", batch, done.set_result)
        await done

    async def say(self, *limits: Limit, provider: str = "claude") -> None:
        signal = Signal(provider, self.now, Verdict.SUCCESS, limits=limits)
        await self.service.recorder.record_signals("signals", Batch(events=1), [signal], self.now)

    async def measured(self, provider: str = "claude") -> dict[str, Measurement]:
        views = await self.service.refresh(self.now)
        return {one.quota.name: one for one in views[provider].measurements}


def story(
    told: Callable[[Callable[[], Awaitable[Exporter]]], Awaitable[None]], config: str = ""
) -> None:
    """Tell a story of exporters that start one after the other on one store."""

    async def tell() -> None:
        store = open_store("memory://", retention=35 * DAY, deduplication=DAY, now=NOW)
        running: list[Exporter] = []

        async def start() -> Exporter:
            exporter = Exporter(store, parse(config, "quota.yml"))
            exporter.now = running[-1].now if running else NOW
            await exporter.service.start(exporter.now)
            running.append(exporter)
            return exporter

        await told(start)
        await running[-1].service.stop(running[-1].now)
        store.close()

    asyncio.run(tell())


def week(used: float, ends: float = ENDS) -> Limit:
    return Limit("7d", utilization=used, reset_at=ends, unit="share", window=WEEK)


def test_a_reported_window_is_measured_without_any_configuration() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        await exporter.say(week(0.3))
        found = await exporter.measured()
        assert list(found) == ["7d/share"]
        assert found["7d/share"].used == 0.3

    story(told)


@pytest.mark.parametrize(
    ("budget", "names"),
    [
        ("requests: 7, period: 1d", {"1d/requests", "1d/requests/gpt-5"}),
        ("requests: 7, period: 1d, model: gpt-5", {"1d/requests/gpt-5"}),
        ("requests: 7, period: 1d, per: model", {"1d/requests/gpt-5"}),
        ("requests: 7, period: 1d, consumer: a", {"1d/requests/gpt-5", "1d/requests//a"}),
        ("tokens: 7, period: 1d, model: gpt-5", {"1d//gpt-5", "1d/requests/gpt-5"}),
    ],
)
def test_a_configured_budget_replaces_only_the_reported_one_of_its_name(
    budget: str, names: set[str]
) -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        await exporter.use(1, "gpt-5", "openai")
        limit = Limit("requests_per_day", 10, unit="requests", model="gpt-5", window=DAY)
        await exporter.say(limit, provider="openai")
        found = await exporter.measured("openai")
        assert set(found) == names
        if "model" in budget and "requests" in budget:
            assert found["1d/requests/gpt-5"].quota.budget.amount == 7

    story(told, f"budgets: {{openai: [{{{budget}}}]}}")


def test_it_knows_at_once_what_was_counted_before_it_was_reported() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        exporter.now = ENDS - WEEK
        await exporter.use(1)
        for _ in range(3 * 24):
            exporter.now += HOUR
            await exporter.use(1000)
            exporter.now += 10
        await exporter.say(week(0.36))
        exporter.now += 60
        await exporter.use(2000)
        found = await exporter.measured()
        assert found["7d/share"].used == pytest.approx(0.37, abs=1e-3)

    story(told)


def test_what_was_learnt_survives_a_restart() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        for used in (0.1, 0.2, 0.3):
            await exporter.say(week(used))
            exporter.now += HOUR
            await exporter.use(1000)
        before = await exporter.measured()
        await exporter.service.stop(exporter.now)
        after = await (await start()).measured()
        assert after == before
        assert after["7d/share"].used == pytest.approx(0.4)

    story(told)


def test_a_window_that_is_spent_takes_its_scope_out_until_the_reset() -> None:
    opus = Limit(
        "7d_opus", utilization=1.0, reset_at=ENDS, unit="share", window=WEEK, model="*opus*"
    )

    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        await exporter.say(week(0.5), opus)
        await exporter.measured()
        states = exporter.service.states
        view = states.scope(Scope("claude", "*opus*"), NOW).view
        assert (view.reason, view.retry_at) == (Reason.BUDGET, ENDS)
        assert "100.0% of 100.0% per 7d_opus for *opus*" in view.detail
        assert states.scope(Scope("claude"), NOW).view.reason is None
        exporter.now = ENDS + 1
        await exporter.measured()
        assert states.scope(Scope("claude", "*opus*"), ENDS + 1).view.reason is None

    story(told)


def test_a_window_that_is_not_reported_any_more_is_forgotten() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        await exporter.say(week(0.9))
        assert await exporter.measured()
        exporter.now += WEEK
        assert not await exporter.measured()
        assert exporter.service.states.scope(Scope("claude"), exporter.now).outlook.probability == 0

    story(told)


def test_limits_of_two_models_stand_beside_each_other() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        for model, remaining in (("llama", 900), ("qwen", 100)):
            limit = Limit(
                "requests_day", 1000, remaining, reset_at=NOW + HOUR, unit="requests",
                model=model, window=DAY,
            )  # fmt: skip
            await exporter.say(limit, provider="groq")
        found = await exporter.measured("groq")
        assert {name: one.used for name, one in found.items()} == {
            "requests_day/requests/llama": 100,
            "requests_day/requests/qwen": 900,
        }
        assert set(exporter.service.states.limits("groq")) == {
            "requests_day/llama", "requests_day/qwen",
        }  # fmt: skip

    story(told)


def test_a_budget_that_could_not_be_told_from_it_stands_for_it() -> None:
    limit = Limit("day", 1000, 900, reset_at=NOW + HOUR, unit="requests", window=DAY)

    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        await exporter.say(limit)
        found = await exporter.measured()
        assert [one.budget.amount for one in found.values()] == [500]

    story(told, "budgets: {claude: {requests: 500, period: day}}")


def test_a_window_reported_while_the_store_fails_is_measured_later() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        await exporter.use(5)
        await exporter.say(week(0.3))
        assert await exporter.measured()
        await exporter.say(Limit("5h", utilization=0.2, reset_at=NOW + HOUR, unit="share",
                                 window=5.0 * HOUR))  # fmt: skip
        assert "5h/share" in await exporter.measured()  # counts the same as the other
        exporter.now += 10
        limit = Limit("7d_opus", utilization=0.2, reset_at=ENDS, unit="share", window=WEEK,
                      model="*opus*")  # fmt: skip
        await exporter.say(limit)
        assert "7d_opus/share/*opus*" not in await exporter.measured()
        exporter.now += 60
        assert "7d_opus/share/*opus*" in await exporter.measured()

    story(told)


def test_a_window_of_which_only_reports_tell_the_use_is_explained_by_them() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        for hour in range(0, 48, 2):
            exporter.now = NOW + hour * HOUR
            await exporter.say(week(0.1 + 0.01 * hour))
            await exporter.service.refresh(exporter.now)
        (one,) = await exporter.service.explain("claude", exporter.now)
        assert one.measurement.used == pytest.approx(0.56)
        assert one.explanation.used[-1] == pytest.approx(0.56, abs=0.05)
        assert one.explanation.moments[-1] == ENDS
        assert one.explanation.learning

    story(told)


def test_forecasts_of_a_reported_window_are_held_against_what_came() -> None:
    async def told(start: Callable[[], Awaitable[Exporter]]) -> None:
        exporter = await start()
        for hour in range(16):
            exporter.now = ENDS - 5 * HOUR * 3 + hour * HOUR
            window = int(hour // 5)
            used = 1.0 if window == 1 and hour % 5 == 4 else round(0.1 * (hour % 5), 1)
            ends = ENDS - 5 * HOUR * (2 - window)
            await exporter.say(
                Limit("5h", utilization=used, reset_at=ends, unit="share", window=5.0 * HOUR)
            )
            found = await exporter.measured()
        assert exporter.service.measurer.forecasts.scores()["5h"].windows == 3
        record = exporter.service.measurer.forecasts.record(found["5h/share"].quota)
        assert record is not None
        assert record.windows == 3
        # Of each window four looks count, of the spent one those three before it was.
        assert record.came / record.count == pytest.approx(3 / 11, abs=0.01)

    story(told)
