"""Days of a recorded trace, its clients as consumers of five providers, through the running
exporter: every total against the file's own, exactly.

    python -m tests.benchmarks.replay_consumers [--days 2] [--trace FILE.csv.gz]

The clients of the file (see `replay_trace`) are consumers; each is of one of five providers and
asks, in turn, for three models of it. The days are moved so that they end now. Totals by provider,
model, consumer, and use of a budget in every unit and scope are compared, on SQLite before and
after a crash and a start, and on two replicas over one Redis that get every other push, with a
crash of one. Exit 1 unless all of them are the file's.
"""

import argparse
import asyncio
import json
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.benchmarks import processes, report
from tests.benchmarks.replay_trace import CONNECTIONS, DAY, PART, TRACE, Row, read
from tests.storage.servers import RedisServer

PROVIDERS, MODELS = 5, 3
SETTLED = 30.0  # seconds for a replica to hear of what the other counted

CONFIG = "budgets:\n" + "".join(
    f"""\
  provider-{number}:
    - {{tokens: 1000G, period: 7d}}
    - {{requests: 1G, period: 7d, per: model}}
    - {{usd: 1_000_000, period: 7d, per: consumer}}
    - {{tokens: 1000G, period: 7d, consumer: m-large-1*}}
    - {{tokens: 1000G, period: 7d, model: model-0, per: consumer}}
"""
    for number in range(PROVIDERS)
)

Key = tuple[str, ...]
Sums = dict[str, Counter[Key]]
"""By name of what is summed."""


class Event(NamedTuple):
    """One event, its cost in nano-dollars."""

    timestamp: int
    provider: str
    model: str
    consumer: str
    tokens: int
    cost: int

    def line(self) -> str:
        """As it is pushed."""
        fields = self._asdict()
        dollars, nanos = divmod(fields.pop("cost"), 10**9)
        return f'{json.dumps(fields)[:-1]}, "cost_usd": {dollars}.{nanos:09}}}'


def events(rows: Iterable[Row]) -> Iterator[Event]:
    """The rows as events."""
    turns: Counter[str] = Counter()
    for timestamp, client, tokens in rows:
        provider = f"provider-{zlib.crc32(client.encode()) % PROVIDERS}"
        model = f"model-{turns[client] % MODELS}"
        turns[client] += 1
        yield Event(timestamp, provider, model, client, tokens, tokens * 1_250 + 7)


def expected(those: Iterable[Event]) -> Sums:
    """What is to be shown."""
    sums: Sums = {}

    def add(name: str, key: Key, amount: int) -> None:
        sums.setdefault(name, Counter())[key] += amount

    for _, provider, model, consumer, tokens, cost in those:
        add("tokens by model", (provider, model), tokens)
        add("requests by model", (provider, model), 1)
        add("cost by model", (provider, model), cost)
        add("tokens by consumer", (provider, consumer), tokens)
        add("requests by consumer", (provider, consumer), 1)
        add("cost by consumer", (provider, consumer), cost)
        add("budget of a provider, tokens", (provider, "", ""), tokens)
        add("budget of each model, requests", (provider, model, ""), 1)
        add("budget of each consumer, USD", (provider, "", consumer), cost)
        if consumer.startswith("m-large-1"):
            add("budget of a pattern of consumers", (provider, "", "m-large-1*"), tokens)
        elif model == "model-0":  # whom another budget in tokens for seven days names is not here
            add("budget of each consumer of a model", (provider, model, consumer), tokens)
    return sums


SAMPLES: Mapping[str, tuple[str, tuple[str, ...], Callable[[Key], bool]]] = {
    "tokens by model": ("llm_quota_tokens_total", ("provider", "model"), all),
    "requests by model": ("llm_quota_requests_total", ("provider", "model"), all),
    "cost by model": ("llm_quota_cost_usd_total", ("provider", "model"), all),
    "tokens by consumer": ("llm_quota_consumer_tokens_total", ("provider", "consumer"), all),
    "requests by consumer": ("llm_quota_consumer_requests_total", ("provider", "consumer"), all),
    "cost by consumer": ("llm_quota_consumer_cost_usd_total", ("provider", "consumer"), all),
    "budget of a provider, tokens": (
        "llm_quota_used_tokens",
        ("provider", "model", "consumer"),
        lambda key: not key[1] and not key[2],
    ),
    "budget of each model, requests": (
        "llm_quota_used_requests",
        ("provider", "model", "consumer"),
        lambda key: bool(key[1]),
    ),
    "budget of each consumer, USD": (
        "llm_quota_used_usd",
        ("provider", "model", "consumer"),
        lambda key: bool(key[2]),
    ),
    "budget of a pattern of consumers": (
        "llm_quota_used_tokens",
        ("provider", "model", "consumer"),
        lambda key: "*" in key[2],
    ),
    "budget of each consumer of a model": (
        "llm_quota_used_tokens",
        ("provider", "model", "consumer"),
        lambda key: bool(key[1]),
    ),
}
"""Where each sum is shown, and which of the series there it is."""


def shown(exposition: str, name: str) -> dict[Key, int]:
    """A sum as `/metrics` shows it, USD in nano-dollars."""
    sample, labels, wanted = SAMPLES[name]
    scale = 10**9 if "usd" in sample else 1
    found = processes.sums(exposition, sample, *labels)
    return {key: round(value * scale) for key, value in found.items() if wanted(key)}


def differing(exposition: str, sums: Sums) -> dict[str, int]:
    """By sum, how many series are not as they are to be."""
    found = {}
    for name, right in sums.items():
        said = shown(exposition, name)
        # A float tells amounts of money to about 10^-16 of them.
        apart = 2 if "cost" in name or "USD" in name else 0
        found[name] = sum(
            abs(said.get(key, -1) - right.get(key, -1)) > apart for key in said.keys() | right
        )
    return found


async def push(urls: Sequence[str], those: Sequence[Event]) -> None:
    """Push in NDJSON bodies, to the addresses in turn."""
    lines = [one.line() for one in those]
    bodies = iter(["\n".join(lines[first : first + PART]) for first in range(0, len(lines), PART)])
    turns = cycle(urls)

    async def worker(client: httpx.AsyncClient) -> None:
        headers = {"Content-Type": "application/x-ndjson"}
        for body in bodies:
            answer = await client.post(next(turns) + "/v1/usage", content=body, headers=headers)
            answer.raise_for_status()
            assert not answer.json()["rejected"], answer.text

    async with httpx.AsyncClient(timeout=processes.DEADLINE) as client:
        await asyncio.gather(*(worker(client) for _ in range(CONNECTIONS)))


def settled(ours: processes.Program, sums: Sums) -> dict[str, int]:
    """What differs once it has had time to hear of the rest."""
    end = time.monotonic() + SETTLED
    while True:
        found = differing(ours.get("/metrics"), sums)
        if not any(found.values()) or time.monotonic() > end:
            return found
        time.sleep(0.5)


def main() -> None:
    """Replay and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--trace", default=TRACE)
    options = parser.parse_args()
    print(report.machine())
    now = int(time.time())
    rows = [
        row for day in range(options.days)
        for row in read(options.trace, 7 + day, now - DAY * (options.days - 1 - day))
    ]  # fmt: skip
    those = list(events(rows))
    sums = expected(those)
    consumers = {(one.provider, one.consumer) for one in those}
    print(f"{len(those):,} events, {len(consumers)} consumers of {PROVIDERS} providers")
    found: dict[str, dict[str, int]] = {}
    half = len(those) // 2
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        with processes.exporter(home, CONFIG) as ours:
            asyncio.run(push([ours.url], those))
            found["SQLite"] = settled(ours, sums)
            ours.kill()
            ours.start()
            found["after a crash"] = settled(ours, sums)
        redis = RedisServer(home)
        with redis:
            both = [processes.exporter(home, CONFIG, storage=redis.url) for _ in range(2)]
            with both[0], both[1]:
                asyncio.run(push([one.url for one in both], those[:half]))
                both[1].kill()
                both[1].start()
                asyncio.run(push([one.url for one in both], those[half:]))
                for name, one in zip(("replica", "the other"), both, strict=True):
                    found[name] = settled(one, sums)
    missed = [
        f"{where}, {name}: {count} of {len(sums[name])} series differ"
        for where, those_there in found.items()
        for name, count in those_there.items()
        if count
    ]
    report.table(
        ("sum", "series", *(f"differ, {where}" for where in found)),
        [
            (name, f"{len(sums[name])}", *(f"{found[where][name]}" for where in found))
            for name in sums
        ],
    )
    report.finish(missed)


if __name__ == "__main__":
    main()
