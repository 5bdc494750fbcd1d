"""The service as metric families: what is known shows, what is not known is absent."""

import asyncio
import math
import threading
from itertools import chain

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from exporter.snapshot import Snapshot
from exporter.supervisor import Supervisor
from exporter.web.collector import QuotaCollector
from exporter.web.exporter_collector import ExporterCollector
from exporter.web.exposition import Exposition
from exporter.workers import Kind
from tests.web.test_routes import DAY, HOUR, NOON, House, lived

BUDGETED = {
    "budget_info",
    "used_ratio",
    "budget_tokens",
    "used_tokens",
    "window_start_timestamp_seconds",
    "window_end_timestamp_seconds",
    "projected_tokens",
    "projected_tokens_lower",
    "projected_tokens_upper",
    "exhaustion_probability",
}


async def of(house: House, provider: str) -> dict[str, float]:
    """Name -> value of a provider's series that have no further label but the period."""
    return {
        name.removeprefix("llm_quota_"): value
        for (name, labels), value in (await house.metrics()).items()
        if ("provider", provider) in labels
        and {key for key, _ in labels} <= {"provider", "period", "unit"}
    }


def test_a_budget_nobody_used_shows_zero_and_its_window() -> None:
    async def story(house: House) -> None:
        seen = await of(house, "openai")
        assert seen.keys() == BUDGETED | {"recovery_pending"}
        assert (seen["budget_tokens"], seen["used_tokens"]) == (1000, 0)
        assert seen["window_start_timestamp_seconds"] == NOON - 12 * HOUR
        assert seen["window_end_timestamp_seconds"] == NOON + 12 * HOUR
        assert 0 <= seen["exhaustion_probability"] < 0.5

    lived(story)


def test_a_provider_without_a_budget_shows_its_state_and_no_budget() -> None:
    async def story(house: House) -> None:
        await house.push({"provider": "free", "tokens": 5})
        assert (await of(house, "free")).keys() == {"recovery_pending"}
        assert await house.value("llm_quota_state", provider="free", state="available") == 1

    lived(story)


@pytest.mark.parametrize(("each", "shows"), [(1, False), (10, True)])
def test_the_moment_of_exhaustion_shows_only_when_more_likely_than_not(
    each: int, shows: bool
) -> None:
    async def story(house: House) -> None:
        times = [NOON - 600 * step for step in range(3 * 144)]  # three steady days
        await house.push(*({"provider": "openai", "tokens": each, "timestamp": t} for t in times))
        seen = await of(house, "openai")
        assert (seen["exhaustion_probability"] > 0.5) == shows
        assert ("exhaustion_timestamp_seconds" in seen) == shows
        if shows:
            assert NOON < seen["exhaustion_timestamp_seconds"] < NOON + 12 * HOUR

    lived(story)


def test_the_retry_time_shows_only_while_exhausted() -> None:
    async def story(house: House) -> None:
        assert "retry_after_timestamp_seconds" not in await of(house, "openai")
        await house.push({"provider": "openai", "tokens": 1000})
        seen = await of(house, "openai")
        assert seen["retry_after_timestamp_seconds"] == NOON + 12 * HOUR
        assert (
            await house.value("llm_quota_exhausted_info", provider="openai", reason="budget") == 1
        )
        house.clock.now = NOON + 12 * HOUR
        assert "retry_after_timestamp_seconds" not in await of(house, "openai")
        assert not any(name == "llm_quota_exhausted_info" for name, _ in await house.metrics())

    lived(story)


def test_quantiles_are_in_order_and_never_below_what_is_used() -> None:
    async def story(house: House) -> None:
        for tokens in (0, 1, 50, 5000):
            await house.push({"provider": "openai", "tokens": tokens})
            seen = await of(house, "openai")
            lower, median, upper = (
                seen["projected_tokens" + end] for end in ("_lower", "", "_upper")
            )
            assert seen["used_tokens"] <= lower <= median <= upper

    lived(story)


def test_burn_rate_is_one_when_the_budget_is_spent_evenly() -> None:
    async def story(house: House) -> None:
        minutes = range(0, 24 * 60, 10)
        events = [
            {"provider": "openai", "tokens": 10, "timestamp": NOON - 60 * minute - 300}
            for minute in minutes
        ]
        await house.push(*events)
        for window in ("10m", "1h", "6h"):
            labels = {"provider": "openai", "period": "day", "unit": "tokens", "window": window}
            assert await house.value("llm_quota_burn_rate", **labels) == pytest.approx(1, abs=0.01)

    lived(story, "budgets: {openai: 1440}\n")


def test_a_family_appears_once_with_help_and_type() -> None:
    async def story(house: House) -> None:
        await house.push({"provider": "openai", "tokens": 1}, {"provider": "x", "tokens": 1})
        text = (await house.http.get("/metrics")).text
        for marker in ("# HELP ", "# TYPE "):
            names = [line.split()[2] for line in text.splitlines() if line.startswith(marker)]
            assert len(names) == len(set(names))
        assert all(family.documentation for family in text_string_to_metric_families(text))

    lived(story)


def test_the_age_of_the_last_push_is_absent_before_the_first() -> None:
    async def story(house: House) -> None:
        name = "llm_quota_exporter_last_push_timestamp_seconds"
        assert await house.value(name) is None
        await house.push({"provider": "openai", "tokens": 1, "timestamp": NOON - DAY})
        assert await house.value(name) == NOON

    lived(story)


def test_tokens_by_kind_add_up_to_what_was_pushed() -> None:
    async def story(house: House) -> None:
        kinds = ("input", "cache_read", "cache_write", "output", "reasoning")
        event = {"provider": "x", "model": "m", **{f"{kind}_tokens": 2 for kind in kinds}}
        await house.push(event, event, {"provider": "x", "model": "m", "tokens": 3})
        for kind in kinds:
            labels = {"provider": "x", "model": "m", "kind": kind}
            assert await house.value("llm_quota_tokens_total", **labels) == 4
        labels["kind"] = "unspecified"
        assert await house.value("llm_quota_tokens_total", **labels) == 3
        assert await house.value("llm_quota_requests_total", provider="x", model="m") == 3

    lived(story)


def test_huge_numbers_stay_finite() -> None:
    async def story(house: House) -> None:
        events = [{"provider": "openai", "tokens": 10**12}] * 1000
        assert (await house.push(*events)).json()["accepted"] == 1000
        assert all(math.isfinite(value) for value in (await house.metrics()).values())
        assert (await house.provider("openai"))["periods"]["day"]["used_tokens"] == 1e15

    lived(story)


def test_the_process_shows_as_the_official_library_shows_it() -> None:
    async def story(house: House) -> None:
        text = (await house.http.get("/metrics")).text
        shown = {family.name: family for family in text_string_to_metric_families(text)}
        for official in ProcessCollector(registry=None).collect():
            ours = shown[official.name]
            assert (ours.type, ours.documentation) == (official.type, official.documentation)
            assert [(one.name, one.labels) for one in ours.samples] == [
                (one.name, one.labels) for one in official.samples
            ]

    lived(story)


def test_a_snapshot_shows_its_moment_whatever_happens_after_it() -> None:
    async def story(house: House) -> None:
        def shown(snapshot: Snapshot) -> bytes:
            own = list(ExporterCollector(NOON, Supervisor()).collect(snapshot))
            families = chain(QuotaCollector(snapshot).collect(), own)
            return Exposition().write(families, openmetrics=False)

        async def happen() -> None:
            house.clock.now += 30
            await house.push({"provider": "openai", "tokens": 999}, {"provider": "", "tokens": 1})
            signal = {"provider": "openai", "status": 429, "headers": {"retry-after": "7200"}}
            await house.http.post("/v1/signals", json=signal)
            await house.service.refresh(house.clock())

        await happen()
        snapshot = await house.service.snapshot(house.clock())
        before = shown(snapshot)
        for _ in range(8):
            await happen()
        assert shown(snapshot) == before
        after = shown(await house.service.snapshot(house.clock()))
        changed = {
            line.partition("{")[0].partition(" ")[0]
            for line in set(after.splitlines()) ^ set(before.splitlines())
            for line in [line.decode()]
        }
        assert {
            "llm_quota_used_tokens",
            "llm_quota_tokens_total",
            "llm_quota_events_total",
            "llm_quota_forecast_scored_windows",
            "llm_quota_exporter_commit_group_size_count",
            "llm_quota_exporter_last_push_timestamp_seconds",
        } <= changed

    lived(story, "budgets: {openai: {tokens: 1000, period: minute}}\n")


def test_a_scrape_does_not_wait_for_slow_work_of_another_kind() -> None:
    async def story(house: House) -> None:
        blocked = threading.Event()
        others = [
            asyncio.create_task(house.service.workers.run(kind, blocked.wait))
            for kind in (Kind.INTAKE, Kind.RELOAD)
            for _ in range(10)
        ]
        others += [asyncio.create_task(asyncio.to_thread(blocked.wait)) for _ in range(40)]
        await asyncio.sleep(0)
        try:
            assert await house.value("llm_quota_exporter_queue_depth", queue="intake") == 10
            assert (await house.http.get("/v1/providers")).status_code == 200
            assert (await house.http.get("/")).status_code == 200
        finally:
            blocked.set()
        await asyncio.gather(*others)
        assert await house.value("llm_quota_exporter_queue_depth", queue="intake") == 0

    lived(story)


def test_commits_are_counted_by_size_and_time() -> None:
    async def story(house: House) -> None:
        none = frozenset[tuple[str, str]]()
        for _ in range(3):
            await house.push({"provider": "openai", "tokens": 1})
        seen = await house.metrics()
        commits = seen["llm_quota_exporter_commit_duration_seconds_count", none]
        assert commits >= 3
        assert seen["llm_quota_exporter_commit_group_size_count", none] == commits
        # The first push also had the time of the last push stored, in the same group.
        assert seen["llm_quota_exporter_commit_group_size_sum", none] >= commits

    lived(story)
