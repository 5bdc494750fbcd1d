"""Reads what providers say of an account, where the configuration asks for it.

Only documented endpoints, one request at a time of each provider, no more often than the interval.
After an error the interval doubles, up to a day, and a Retry-After is waited for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn
from urllib.parse import urlencode

import httpx2

from exporter.config import Account, AccountApi
from exporter.core.provider_count import DayCount
from exporter.core.signal import Limit
from exporter.core.windows import DAY
from exporter.intake.accounts import anthropic, openai, openrouter
from exporter.intake.accounts.reading import AccountError, Page, Question
from exporter.intake.signals.values import moment
from exporter.probe import doubled, fetch, http_client, reason_of, warn
from exporter.storage.contract import StorageError

CHECK_SECONDS = 5.0
"""Seconds between checks of who is due."""

FIRST_WITHIN = 10.0
"""Seconds after the start within which the first reading is: a process that starts over and over
must not ask over and over."""

MAX_PAGES = 20
"""Pages that are read in answer to one question."""

MAX_LIMITS = 30
"""Limits taken of one provider, of 64 that are kept: those in the headers of responses say more."""

_APIS = {
    AccountApi.OPENROUTER: openrouter,
    AccountApi.OPENAI: openai,
    AccountApi.ANTHROPIC: anthropic,
}


class _Request(NamedTuple):
    url: str
    headers: Mapping[str, str]
    method: str = "GET"


class _Refused(AccountError):
    """An answer with another status than 200; `retry_at` in Unix seconds, if it says so."""

    def __init__(self, status: int, retry_at: float | None) -> None:
        super().__init__(f"status {status}")
        self.retry_at = retry_at


class Reading(NamedTuple):
    """What was read of one account.

    Attributes:
        provider: whose.
        at: Unix seconds.
        limits: of the account, and of models that are used.
        counts: one for each UTC day.
    """

    provider: str
    at: float
    limits: tuple[Limit, ...]
    counts: tuple[DayCount, ...]


@dataclass(slots=True)
class _Turn:
    account: Account
    due: float
    failures: int = field(default=0)


class AccountPoller:
    """Reads every account that is configured.

    Args:
        accounts: by provider, as the configuration has them at the moment.
        models: the models that a provider is used for: only their limits are of interest.
        report: takes what was read; after a `StorageError` the next reading tries again.
        failed: gets an error that nobody expected; other accounts go on.
        clock: Unix seconds.
        jitter: a random number from 0 to 1.
    """

    def __init__(
        self,
        accounts: Callable[[], Mapping[str, Account]],
        models: Callable[[str], Collection[str]],
        report: Callable[[Reading], Awaitable[object]],
        failed: Callable[[Exception], None],
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
        jitter: Callable[[], float],
    ) -> None:
        self._accounts = accounts
        self._models = models
        self._report = report
        self._failed = failed
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._turns: dict[str, _Turn] = {}

    async def run(self) -> NoReturn:
        """Read until cancelled."""
        while not self._accounts():  # certificates take memory
            await self._sleep(CHECK_SECONDS)
        async with await asyncio.to_thread(http_client) as client:
            while True:
                await self.read_due(client)
                await self._sleep(CHECK_SECONDS)

    async def read_due(self, client: httpx2.AsyncClient) -> None:
        """Read the accounts that are due, those of several providers at once."""
        now, accounts = self._clock(), self._accounts()
        self._turns = {name: self._turn(name, account, now) for name, account in accounts.items()}
        async with asyncio.TaskGroup() as readings:
            for name, turn in self._turns.items():
                if turn.due <= now:
                    readings.create_task(self._isolated(client, name, turn), name="account")

    def _turn(self, provider: str, account: Account, now: float) -> _Turn:
        known = self._turns.get(provider)
        if known is None or known.account != account:
            return _Turn(account, now + FIRST_WITHIN * self._jitter())
        # A clock that was set back must not put it off for long.
        known.due = min(known.due, now + 1.1 * DAY)
        return known

    async def _isolated(self, client: httpx2.AsyncClient, provider: str, turn: _Turn) -> None:
        try:
            await self._read(client, provider, turn)
        except Exception as error:
            self._failed(error)

    async def _read(self, client: httpx2.AsyncClient, provider: str, turn: _Turn) -> None:
        turn.due = self._next(turn, turn.failures + 1)
        try:
            reading = await self._reading(client, provider, turn.account)
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            turn.failures += 1
            if isinstance(error, _Refused) and error.retry_at is not None:
                turn.due = max(turn.due, min(error.retry_at, self._clock() + DAY))
            ours = isinstance(error, AccountError)  # whose words are ours
            warn("account not read", provider, error=str(error) if ours else reason_of(error))
            return
        turn.failures = 0
        turn.due = self._next(turn, 0)
        try:
            await self._report(reading)
        except StorageError as error:
            warn("account not stored", provider, error=str(error))

    def _next(self, turn: _Turn, failures: int) -> float:
        delay = doubled(turn.account.interval, failures, DAY)
        # Later, never earlier: replicas are not to ask in step, nor more often than they may.
        return self._clock() + delay * (1 + self._jitter() / 10)

    async def _reading(
        self, client: httpx2.AsyncClient, provider: str, account: Account
    ) -> Reading:
        limits: dict[str, Limit] = {}
        counts: dict[int, DayCount] = {}
        for question in _APIS[account.api].questions(account.project, self._clock()):
            for page in await self._pages(client, account, question):
                limits.update((limit.key, limit) for limit in page.limits)
                for count in page.counts:
                    held = counts.get(count.day)
                    counts[count.day] = count if held is None else held.plus(count)
        used = set(self._models(provider))
        return Reading(
            provider, self._clock(), _chosen(limits.values(), used), tuple(counts.values())
        )

    async def _pages(
        self, client: httpx2.AsyncClient, account: Account, question: Question
    ) -> list[Page]:
        api = _APIS[account.api]
        base = (account.url or api.URL).rstrip("/")
        headers = {**getattr(api, "HEADERS", {}), **account.headers}
        pages: list[Page] = []
        following: Mapping[str, str] = {}
        while not pages or following:
            if len(pages) >= MAX_PAGES:
                raise AccountError(f"expected at most {MAX_PAGES} pages of {question.path}")
            query = urlencode([*question.query, *following.items()])
            url = f"{base}{question.path}" + (f"?{query}" if query else "")
            answer = await fetch(client, _Request(url, headers))
            now = self._clock()
            if answer.status != 200:
                raise _Refused(answer.status, moment(answer.headers.get("retry-after"), now))
            try:
                pages.append(question.read(answer.body, now))
            except AccountError as error:
                raise AccountError(f"{question.path}: {error}") from None
            following = pages[-1].following
        return pages


def _chosen(limits: Iterable[Limit], used: Collection[str]) -> tuple[Limit, ...]:
    """Those of the account and of models in use, the longest first."""
    found = [one for one in limits if not one.model or one.model in used or "*" in one.model]
    return tuple(sorted(found, key=lambda one: -(one.window or 0.0)))[:MAX_LIMITS]
