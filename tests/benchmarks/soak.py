"""Everything at once, for a given time, with crashes: what was sent, acknowledged and counted.

    python -m tests.benchmarks.soak [--minutes 10 | --kills 20] [--pause 20] [--redis]

Clients push singles and batches, with ids, with Idempotency-Keys and with both, and try again
until they are answered; some push again what was answered, some hang up before they are answered,
some send slowly. Others report signals, scrape, read their answers slowly or never, and reload a
changed configuration. Meanwhile the wall clock of an exporter is set, by minutes or by a year, and
set right again, and processes are killed (SIGKILL) or ended (SIGTERM) and started again: the
exporter on SQLite, or with `--redis` any of two replicas and the Redis behind them.

What is rejected, because a clock is wrong, is sent again until it is taken. No scrape may show
less than what was acknowledged before it, or more than what was sent. At the end all is killed
once more, started, and compared. Exit 1 unless all three are equal.
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
LARGEST = 40  # events: the rejections of so many are all listed
AGAIN = 0.1  # share of the answered pushes that are pushed once more
OLDEST = 7200.0  # seconds before now of the oldest events
PATIENCE = 600.0  # seconds for one request, crashes included
PAUSE = 20.0  # seconds at most between two crashes
HANG_UP = 0.1  # share of the pushes that are sent before by a client that does not wait
UNTIMED = 0.1  # share of the events without a timestamp
ENDED = 0.3  # share of the exporters that are not killed but end by SIGTERM
MAX_KEYED = 15  # events of a push without ids
# Seconds by which a clock is wrong: within what is accepted, and far beyond it.
OFFSETS = (-240.0, -3600.0, -86400.0, -400 * 86400.0, 60.0, 5 * 3600.0, 86400.0, 40 * 86400.0)
SLOW = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
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
        traces: what each replica has logged, after the run.
    """

    def __init__(self, directory: Path, *, redis: bool, pause: float) -> None:
        self._pause = pause
        self._backing = [processes.Redis(directory)] if redis else []
        self._homes = [directory / name for name in ("a", "b")[: 2 if redis else 1]]
        self._replicas: list[processes.Program] = []
        self._clocks: list[processes.Clock] = []
        for home in self._homes:
            home.mkdir()
            clock = processes.Clock(home)
            self._clocks.append(clock)
            replica = processes.exporter(
                *(home, CONFIGS[0], "--web.enable-lifecycle", "--log.level", "error"),
                storage=self._backing[0].url if redis else "",
                environment=clock.environment,
            )
            self._replicas.append(replica)
        # In the order in which they have to start.
        self._programs = [*self._backing, *self._replicas]
        self._turn = itertools.cycle(self._replicas)
        self._number = itertools.count()
        self.sent, self.acknowledged = Tally(), Tally()
        self.did = Counter[str]()
        self.traces: list[str] = []

    async def run(self, finished: Callable[["Soak"], bool]) -> list[Tally]:
        """Go on until `finished`; what each replica shows after a last crash."""
        try:
            for program in self._programs:
                await asyncio.to_thread(program.start)
            async with httpx.AsyncClient(timeout=10.0) as self._client:
                await self._all(finished)
            for clock in self._clocks:
                clock.set(0.0)
            await self._crash(self._programs)
            self.traces = [replica.log() for replica in self._replicas]
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
            for work in (
                *[self._push] * PUSHERS,
                *(self._signal, self._scrape, self._reload, self._set_clock),
                *(self._read_slowly, self._read_nothing),
            ):
                tasks.create_task(repeat(work))
            while not finished(self):
                await asyncio.sleep(random.uniform(0.2, self._pause))
                await self._crash([one for one in self._programs if random.random() < 0.5])
            over = True

    async def _crash(self, victims: list[processes.Program]) -> None:
        for victim in reversed(victims):  # who ends cannot store while its Redis is dead
            if victim in self._replicas and random.random() < ENDED:
                assert await asyncio.to_thread(victim.stop) == 0, victim.log()
                self.did["ends"] += 1
            else:
                victim.kill()
                self.did["crashes"] += 1
        await asyncio.sleep(random.uniform(0.0, 0.5))
        for victim in victims:
            await asyncio.to_thread(victim.start)

    async def _answer(
        self,
        path: str,
        body: str,
        headers: dict[str, str],
        later: tuple[int, ...] = (429, 503),
        final: tuple[int, ...] = (),
    ) -> dict[str, Any]:
        """The 200 to a POST, tried in turn with every replica until there is one.

        A status in `later` asks to try again; one in `final` is as good as 200.
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
                if answer.status_code not in final:
                    answer.raise_for_status()
                found: dict[str, Any] = answer.json()
                return found

    async def _push(self) -> None:
        events, headers = self._request()
        self.sent.add(events)
        while events:
            body = "\n".join(map(json.dumps, events))
            if random.random() < HANG_UP:
                await self._hang_up(body, headers)
            for _ in range(2 if random.random() < AGAIN else 1):
                answer = await self._answer("/v1/usage", body, headers, final=(400,))
                assert "more_rejected" not in answer, answer
                refused = {rejection["index"] for rejection in answer["rejected"]}
                taken = [event for index, event in enumerate(events) if index not in refused]
                counted = answer["accepted"] + answer["duplicates"]
                # With ids alone, what was rejected may be taken the second time, and be counted
                # by then.
                assert counted == len(taken), answer
                self.did["pushes"] += 1
            self.acknowledged.add(taken)
            events = [event for index, event in enumerate(events) if index in refused]
            if events:
                self.did["rejected events"] += len(events)
                if key := headers.get("Idempotency-Key"):
                    headers = {**headers, "Idempotency-Key": key + "+"}
                await asyncio.sleep(1.0)

    async def _hang_up(self, body: str, headers: dict[str, str]) -> None:
        """Send a push, or a part of it, now and then slowly, and leave without an answer."""
        lines = [f"{name}: {value}" for name, value in headers.items()]
        lines += ["Host: x", f"Content-Length: {len(body)}"]
        data = "\r\n".join(["POST /v1/usage HTTP/1.1", *lines, "", body]).encode()
        if random.random() < 0.3:
            data = data[: random.randrange(len(data))]
        try:
            _, writer = await self._connect()
            pieces = random.choice([1, 1, 5])
            for at in range(pieces):
                writer.write(data[at * len(data) // pieces : (at + 1) * len(data) // pieces])
                await writer.drain()
                await asyncio.sleep(random.choice([0.0, 0.001, 0.05]))
            if random.random() < 0.5:
                writer.transport.abort()
            writer.close()
        except OSError:
            return
        self.did["hang-ups"] += 1

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", next(self._turn).port, limit=1024)

    async def _read_slowly(self) -> None:
        """Ask for metrics, and read a few bytes at a time."""
        try:
            reader, writer = await self._connect()
            writer.write(SLOW * random.choice([1, 50]))
            for _ in range(random.randrange(40)):
                if not await reader.read(256):
                    break
                await asyncio.sleep(0.05)
            writer.close()
        except OSError:
            return
        self.did["slow readers"] += 1

    async def _read_nothing(self) -> None:
        """Ask for metrics again and again, and read none of them."""
        try:
            _, writer = await self._connect()
            for _ in range(random.randrange(20)):
                writer.write(SLOW * 50)
                await asyncio.sleep(0.1)
            writer.transport.abort()
        except OSError:
            return
        self.did["readers of nothing"] += 1

    async def _set_clock(self) -> None:
        """Set a clock wrong for a while."""
        await asyncio.sleep(random.uniform(1.0, 8.0))
        clock = random.choice(self._clocks)
        clock.set(random.choice(OFFSETS))
        self.did["clocks set"] += 1
        await asyncio.sleep(random.uniform(0.5, 5.0))
        clock.set(0.0)

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
            for _ in range(
                random.choice([1, random.randint(2, LARGEST if identified else MAX_KEYED)])
            )
        ]
        for event in events:
            if random.random() < UNTIMED:
                del event["timestamp"]  # it counts at its arrival, whatever time that is there
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
    length.add_argument("--kills", type=int, help="end after so many crashes and ends instead")
    parser.add_argument(
        "--pause", type=float, default=PAUSE, help="seconds between crashes, at most"
    )
    parser.add_argument("--redis", action="store_true", help="two replicas over one Redis")
    options = parser.parse_args()
    print(report.machine())
    begun = time.monotonic()

    def finished(soak: Soak) -> bool:
        if options.kills is not None:
            return soak.did["crashes"] + soak.did["ends"] >= int(options.kills)
        return time.monotonic() - begun >= options.minutes * 60

    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(Path(directory), redis=options.redis, pause=options.pause)
        counted = asyncio.run(soak.run(finished))
    print(f"{time.monotonic() - begun:.0f} s: ", end="")
    print(", ".join(f"{times:,} {what}" for what, times in sorted(soak.did.items())))
    traces = [text for text in soak.traces if "Traceback" in text]
    for text in traces:
        print(text[-5000:])
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
        ["an exporter logged a traceback"] * bool(traces)
        + [
            f"{name}: differs from sent"
            for name, tally in tallies.items()
            if (tally.requests, tally.tokens) != (soak.sent.requests, soak.sent.tokens)
        ]
    )


if __name__ == "__main__":
    main()
