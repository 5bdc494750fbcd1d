"""Everything at once, for a given time, with crashes: what was sent, acknowledged and counted.

    python -m tests.benchmarks.soak [--minutes 10 | --kills 20] [--redis]

Clients push singles and batches, with ids, with Idempotency-Keys and with both, and try again
until they are answered; some push again what was answered. Others report signals, scrape, and
reload a changed configuration. Meanwhile processes are killed (SIGKILL) and started again: the
exporter on SQLite, or with `--redis` any of two replicas and the Redis behind them.

No scrape may show less than what was acknowledged before it, or more than what was sent. At the
end all is killed once more, started, and compared. Exit 1 unless all three are equal.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from tests.benchmarks import processes, report

PROVIDERS = [f"provider-{i}" for i in range(5)]
PUSHERS = 8
LARGEST = 50
AGAIN = 0.1  # share of the answered pushes that are pushed once more
OLDEST = 7200.0  # seconds before now of the oldest events
PATIENCE = 120.0  # seconds for one request, crashes included
CONFIGS = [
    "budgets:\n" + "".join(f"  {name}: {tokens}\n" for name in PROVIDERS)
    for tokens in (1_000_000, 900_000_000)
]

Event = dict[str, Any]


class Tally:
    """Requests and tokens by provider."""

    def __init__(self) -> None:
        self.requests = Counter[str]()
        self.tokens = Counter[str]()

    def add(self, events: list[Event]) -> None:
        """Count the events."""
        for event in events:
            self.requests[event["provider"]] += 1
            self.tokens[event["provider"]] += event["input_tokens"] + event["output_tokens"]

    @classmethod
    def shown(cls, exposition: str) -> "Tally":
        """What `/metrics` counts."""
        tally = cls()
        for counter, sample in (
            (tally.requests, "llm_quota_requests_total"),
            (tally.tokens, "llm_quota_tokens_total"),
        ):
            for (name,), value in processes.sums(exposition, sample, "provider").items():
                counter[name] = int(value)
        return tally


class Soak:
    """The clients, the crashes, and the books.

    Attributes:
        sent: what was pushed, whether answered or not.
        acknowledged: what was answered.
        did: how often what was done.
    """

    def __init__(self, directory: Path, *, redis: bool) -> None:
        self._backing = [processes.Redis(directory)] if redis else []
        self._homes = [directory / name for name in ("a", "b")[: 2 if redis else 1]]
        self._replicas = []
        for home in self._homes:
            home.mkdir()
            options = ("--web.enable-lifecycle", "--log.level", "error")
            storage = self._backing[0].url if redis else ""
            replica = processes.exporter(home, CONFIGS[0], *options, storage=storage)
            self._replicas.append(replica)
        # In the order in which they have to start.
        self._programs = [*self._backing, *self._replicas]
        self._turn = itertools.cycle(self._replicas)
        self._number = itertools.count()
        self.sent, self.acknowledged = Tally(), Tally()
        self.did = Counter[str]()

    async def run(self, finished: Callable[["Soak"], bool]) -> list[Tally]:
        """Go on until `finished`; what each replica shows after a last crash."""
        try:
            for program in self._programs:
                await asyncio.to_thread(program.start)
            async with httpx.AsyncClient(timeout=10.0) as self._client:
                await self._all(finished)
            await self._crash(self._programs)
            return [Tally.shown(replica.get("/metrics")) for replica in self._replicas]
        finally:
            for program in self._programs:
                program.kill()

    async def _all(self, finished: Callable[["Soak"], bool]) -> None:
        over = False

        async def repeat(work: Callable[[], Awaitable[None]]) -> None:
            while not over:
                await work()

        async with asyncio.TaskGroup() as tasks:
            for work in (*[self._push] * PUSHERS, self._signal, self._scrape, self._reload):
                tasks.create_task(repeat(work))
            while not finished(self):
                await asyncio.sleep(random.uniform(0.2, 2.0))
                await self._crash([one for one in self._programs if random.random() < 0.5])
            over = True

    async def _crash(self, victims: list[processes.Program]) -> None:
        for victim in victims:
            victim.kill()
            self.did["crashes"] += 1
        await asyncio.sleep(random.uniform(0.0, 0.5))
        for victim in victims:
            await asyncio.to_thread(victim.start)

    async def _answer(
        self, path: str, body: str, headers: dict[str, str], later: tuple[int, ...] = (429, 503)
    ) -> dict[str, Any]:
        """The 200 to a POST, tried in turn with every replica until there is one.

        A status in `later` asks to try again.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    url = next(self._turn).url + path
                    answer = await self._client.post(url, content=body, headers=headers)
                except httpx.TransportError:
                    self.did["tries without an answer"] += 1
                    await asyncio.sleep(0.02)
                    continue
                if answer.status_code in later:
                    self.did["refusals"] += 1
                    await asyncio.sleep(0.1)
                    continue
                answer.raise_for_status()
                found: dict[str, Any] = answer.json()
                return found

    async def _push(self) -> None:
        events, headers = self._request()
        body = "\n".join(map(json.dumps, events))
        self.sent.add(events)
        for _ in range(2 if random.random() < AGAIN else 1):
            answer = await self._answer("/v1/usage", body, headers)
            assert answer["accepted"] + answer["duplicates"] == len(events), answer
            self.did["pushes"] += 1
        self.acknowledged.add(events)

    def _request(self) -> tuple[list[Event], dict[str, str]]:
        """Events, and headers, that make a retry harmless in one of three ways."""
        number = next(self._number)
        identified, keyed = random.choice([(True, False), (False, True), (True, True)])
        events: list[Event] = [
            {
                "provider": random.choice(PROVIDERS),
                "model": f"model-{random.randrange(3)}",
                "timestamp": time.time() - random.choice([0.0, random.uniform(0, OLDEST)]),
                "input_tokens": random.randrange(1, 5000),
                "output_tokens": random.randrange(1000),
            }
            for _ in range(random.choice([1, random.randint(2, LARGEST)]))
        ]
        if identified:
            for index, event in enumerate(events):
                event["id"] = f"request-{number}-{index}"
        headers = {"Content-Type": "application/x-ndjson"}
        if keyed:
            headers["Idempotency-Key"] = f"push-{number}"
        return events, headers

    async def _signal(self) -> None:
        said = {"provider": "throttled", "status": 429, "headers": {"retry-after": "5"}}
        await self._answer("/v1/signals", json.dumps(said), {"Content-Type": "application/json"})
        self.did["signals"] += 1
        await asyncio.sleep(0.1)

    async def _scrape(self) -> None:
        replica = next(self._turn)
        before = self.acknowledged.requests.copy()
        try:
            answer = await self._client.get(replica.url + "/metrics")
        except httpx.TransportError:
            return
        answer.raise_for_status()
        # While its Redis is away, a replica shows what it knew, and says so.
        current = processes.sums(answer.text, "llm_quota_exporter_storage_up")[()] == 1
        shown, sent = Tally.shown(answer.text).requests, self.sent.requests
        for name in PROVIDERS:
            assert shown[name] <= sent[name], f"{name}: sent {sent[name]}, shown {shown[name]}"
            assert not current or before[name] <= shown[name], (
                f"{name}: acknowledged {before[name]}, shown {shown[name]}"
            )
        self.did["scrapes"] += 1
        await asyncio.sleep(0.2)

    async def _reload(self) -> None:
        for home in self._homes:
            written = home / "new.yml"
            written.write_text(random.choice(CONFIGS))
            written.replace(home / "quota.yml")  # never half of it: an exporter may be starting
        await self._answer("/-/reload", "", {}, later=(500,))  # as it is while its store is away
        self.did["reloads"] += 1
        await asyncio.sleep(0.3)


def main() -> None:
    """Soak, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=10.0)
    length.add_argument("--kills", type=int, help="end after so many crashes instead")
    parser.add_argument("--redis", action="store_true", help="two replicas over one Redis")
    options = parser.parse_args()
    print(report.machine())
    begun = time.monotonic()

    def finished(soak: Soak) -> bool:
        if options.kills is not None:
            return soak.did["crashes"] >= int(options.kills)
        return time.monotonic() - begun >= options.minutes * 60

    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory), redis=options.redis)
        counted = asyncio.run(soak.run(finished))
    print(f"{time.monotonic() - begun:.0f} s: ", end="")
    print(", ".join(f"{times:,} {what}" for what, times in sorted(soak.did.items())))
    tallies = {"sent": soak.sent, "acknowledged": soak.acknowledged}
    tallies |= {f"counted by replica {at}": tally for at, tally in enumerate(counted)}
    report.table(
        ("events", "requests", "tokens"),
        [
            (name, f"{tally.requests.total():,}", f"{tally.tokens.total():,}")
            for name, tally in tallies.items()
        ],
    )
    report.finish(
        [
            f"{name}: differs from sent"
            for name, tally in tallies.items()
            if (tally.requests, tally.tokens) != (soak.sent.requests, soak.sent.tokens)
        ]
    )


if __name__ == "__main__":
    main()
