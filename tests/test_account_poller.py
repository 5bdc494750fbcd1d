"""Accounts are read politely, from a local port that speaks the documented formats."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.account_poller import FIRST_WITHIN, MAX_PAGES, AccountPoller, Reading
from exporter.config import Account, AccountApi
from exporter.core.provider_count import DayCount
from exporter.probe import http_client
from exporter.storage.contract import StorageError
from tests.account_provider import Provider
from tests.intake.test_accounts import (
    ANTHROPIC_LIMITS,
    ANTHROPIC_USAGE,
    OPENAI_LIMITS,
    OPENAI_USAGE,
    OPENROUTER_KEY,
    TODAY,
)
from tests.local_server import serving

NOW = 1_800_000_000.0
KEY = "sk-or-v1-secret"
COMPLETIONS = "/v1/organization/usage/completions"
EMBEDDINGS = "/v1/organization/usage/embeddings"
NO_MORE = {"has_more": False, "next_page": None}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving(Provider()) as server:
        server.bodies["/api/v1/key"] = {"data": OPENROUTER_KEY}
        server.bodies[COMPLETIONS] = {**OPENAI_USAGE, **NO_MORE}
        server.bodies[EMBEDDINGS] = {"data": [], **NO_MORE}
        server.bodies["/v1/organization/projects/p/rate_limits"] = OPENAI_LIMITS
        server.bodies["/v1/organizations/usage_report/messages"] = ANTHROPIC_USAGE
        server.bodies["/v1/organizations/rate_limits"] = ANTHROPIC_LIMITS
        yield server


class World:
    """A clock, one account, and what was read."""

    def __init__(
        self, url: str, api: AccountApi = AccountApi.OPENROUTER, project: str = ""
    ) -> None:
        self.now = NOW
        headers = {"authorization": f"Bearer {KEY}"}
        account = Account(api, Path("key"), url, project, 300.0, headers)
        self.accounts = {"a": account}
        self.models: set[str] = set()
        self.readings: list[Reading] = []
        self.failures: list[Exception] = []
        self.fails = False
        self.jitter = 0.0
        self.poller = AccountPoller(
            lambda: self.accounts,
            lambda _: self.models,
            self.report,
            self.failures.append,
            clock=lambda: self.now,
            sleep=self.sleep,
            jitter=lambda: self.jitter,
        )

    async def sleep(self, seconds: float) -> None:
        raise asyncio.CancelledError

    async def report(self, reading: Reading) -> None:
        if self.fails:
            raise StorageError("disk full")
        self.readings.append(reading)

    def look(self, at: float) -> None:
        self.now = at

        async def read() -> None:
            async with http_client() as client:
                await self.poller.read_due(client)

        asyncio.run(read())
        assert self.failures == []


def test_an_account_is_read_at_the_interval(provider: Provider) -> None:
    world = World(provider.url)
    for at in (0, 5, 299, 300, 599, 600):
        world.look(NOW + at)
    assert [reading.at for reading in world.readings] == [NOW, NOW + 300, NOW + 600]
    assert [limit.name for limit in world.readings[0].limits] == ["key_month"]
    assert provider.keys == {f"Bearer {KEY}"}


def test_jitter_only_ever_puts_off(provider: Provider) -> None:
    world = World(provider.url)
    world.jitter = 1.0
    for at in (0, FIRST_WITHIN - 1, FIRST_WITHIN, FIRST_WITHIN + 329, FIRST_WITHIN + 330):
        world.look(NOW + at)
    assert [reading.at - NOW for reading in world.readings] == [FIRST_WITHIN, FIRST_WITHIN + 330]


def test_openais_use_is_the_sum_of_all_that_counts_in_tokens(provider: Provider) -> None:
    result = {"input_tokens": 20, "num_model_requests": 1}
    bucket = {"start_time": (TODAY - 1) * 86400, "results": [result]}
    provider.bodies[EMBEDDINGS] = {"data": [bucket], **NO_MORE}
    world = World(provider.url, AccountApi.OPENAI, "p")
    world.models = {"gpt-5"}
    world.look(NOW)
    (reading,) = world.readings
    assert sorted(reading.counts) == [DayCount(TODAY - 1, 1520, 6), DayCount(TODAY, 0, 0)]
    names = [(limit.name, limit.model) for limit in reading.limits]
    assert names[0] == ("requests_per_day", "gpt-5")
    assert len(provider.asked) == 3


def test_limits_of_models_that_nobody_uses_are_left_out(provider: Provider) -> None:
    world = World(provider.url, AccountApi.ANTHROPIC)
    world.models = {"claude-opus-5", "another"}
    world.look(NOW)
    assert {limit.model for limit in world.readings[0].limits} == {"claude-opus-5"}


def test_pages_without_end_are_given_up(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.bodies[COMPLETIONS] = OPENAI_USAGE  # whose next page is itself
    world = World(provider.url, AccountApi.OPENAI)
    world.look(NOW)
    assert len(provider.asked) == MAX_PAGES
    assert provider.asked[1].endswith("&page=AAAAAGdGxdEiJdKOAAAAAGcqsYA%3D")
    assert world.readings == []
    assert said(caplog)["error"] == f"expected at most {MAX_PAGES} pages of {COMPLETIONS}"


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 500])
def test_after_an_error_the_interval_doubles(
    provider: Provider, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    world = World(provider.url)
    provider.status = status
    for at in (0, 599, 600, 1799, 1800):
        world.look(NOW + at)
    assert len(provider.asked) == 3
    assert said(caplog) == {"provider": "a", "error": f"status {status}"}
    provider.status = 200
    world.look(NOW + 1800 + 2400)
    world.look(NOW + 1800 + 2700)
    assert [reading.at - NOW for reading in world.readings] == [4200, 4500]


@pytest.mark.parametrize(("wait", "after"), [("5000", 5000), ("60", 600), ("9999999", 86_400)])
def test_who_says_when_to_come_back_is_asked_no_sooner(
    provider: Provider, wait: str, after: float
) -> None:
    world = World(provider.url)
    provider.status, provider.headers = 429, {"retry-after": wait}
    world.look(NOW)
    world.look(NOW + after - 1)
    assert len(provider.asked) == 1
    world.look(NOW + after)
    assert len(provider.asked) == 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>" + KEY.encode(), "/api/v1/key: expected JSON"),
        ({"data": {"limit": 5, "usage_daily": KEY}}, "/api/v1/key: expected a number usage_daily"),
        (b'{"data": "' + b"x" * 100_000 + b'"}', "/api/v1/key: expected JSON"),
    ],
)
def test_what_is_not_understood_is_logged_without_being_shown(
    provider: Provider, caplog: pytest.LogCaptureFixture, body: object, error: str
) -> None:
    provider.bodies["/api/v1/key"] = body
    world = World(provider.url)
    world.look(NOW)
    assert world.readings == []
    assert said(caplog) == {"provider": "a", "error": error}
    assert KEY not in caplog.text


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", f"http://127.0.0.1:9/{KEY}", "http://["])
def test_who_does_not_answer_is_logged_without_the_key(
    caplog: pytest.LogCaptureFixture, url: str
) -> None:
    world = World(url)
    world.look(NOW)
    assert world.readings == []
    assert KEY not in caplog.text + str(said(caplog))


def test_what_cannot_be_stored_is_read_again_at_the_next_turn(provider: Provider) -> None:
    world = World(provider.url)
    world.fails = True
    world.look(NOW)
    world.fails = False
    world.look(NOW + 300)
    assert [reading.at for reading in world.readings] == [NOW + 300]


def test_another_account_in_the_configuration_is_read_at_once(provider: Provider) -> None:
    world = World(provider.url)
    world.look(NOW)
    world.accounts = {"b": world.accounts["a"]}
    world.look(NOW + 5)
    assert [reading.provider for reading in world.readings] == ["a", "b"]


def test_without_an_account_nothing_is_asked(provider: Provider) -> None:
    world = World(provider.url)
    world.accounts = {}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(world.poller.run())
    assert provider.asked == []


def said(caplog: pytest.LogCaptureFixture) -> object:
    record: logging.LogRecord = caplog.records[-1]
    return record.__dict__["fields"]
