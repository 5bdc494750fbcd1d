"""A day of a recorded trace through the running exporter, and the totals against the file's own.

    python -m tests.benchmarks.replay_trace [--day 9] [--trace FILE.csv.gz]

The file has the columns `timestamp,provider,tokens`. The day is moved so that it ends now, and
pushed in order of time, as fast as it goes, over many connections: every other part as one NDJSON
body, the rest as single events. Exit 1 unless tokens and requests on `/metrics` are exactly the
file's, and the use of the running day that of its rows in it.
"""

import argparse
import asyncio
import csv
import gzip
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.benchmarks import processes, report

TRACE = os.environ.get("LLM_QUOTA_TRACE", "../shared/traces/servegen-train.csv.gz")
DAY = 86400
CONNECTIONS = 16
PART = 50


class Row(NamedTuple):
    """Tokens of a provider in the bin that begins at `timestamp` (Unix seconds)."""

    timestamp: int
    provider: str
    tokens: int


def read(path: str, day: int, end: int) -> list[Row]:
    """A day of the trace, counted from 0, moved so that its last second is before `end`."""
    with gzip.open(path, "rt") as lines:
        rows = [
            Row(int(line["timestamp"]), line["provider"], int(line["tokens"]))
            for line in csv.DictReader(lines)
        ]
    begin = min(row.timestamp for row in rows) + day * DAY
    shift = end - (begin + DAY)
    return sorted(
        row._replace(timestamp=row.timestamp + shift)
        for row in rows
        if begin <= row.timestamp < begin + DAY
    )


async def push(url: str, rows: list[Row]) -> int:
    """Push the rows; the number of requests it took."""
    lines = [json.dumps(row._asdict()) for row in rows]
    parts = [lines[at : at + PART] for at in range(0, len(lines), PART)]
    bodies = iter(
        [
            body
            for number, part in enumerate(parts)
            for body in (part if number % 2 else ["\n".join(part)])
        ]
    )

    async def worker(client: httpx.AsyncClient, bodies: Iterator[str]) -> int:
        sent = 0
        for body in bodies:
            headers = {"Content-Type": "application/x-ndjson"}
            answer = await client.post("/v1/usage", content=body, headers=headers)
            answer.raise_for_status()
            assert not answer.json()["rejected"], answer.text
            sent += 1
        return sent

    async with httpx.AsyncClient(base_url=url, timeout=processes.DEADLINE) as client:
        return sum(await asyncio.gather(*(worker(client, bodies) for _ in range(CONNECTIONS))))


def main() -> None:
    """Replay and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--day", type=int, default=9)
    parser.add_argument("--trace", default=TRACE)
    options = parser.parse_args()
    print(report.machine())
    rows = read(options.trace, options.day, int(time.time()))
    tokens, requests = Counter[str](), Counter[str]()
    for row in rows:
        tokens[row.provider] += row.tokens
        requests[row.provider] += 1
    config = "budgets:\n" + "".join(f"  {name}: {used}\n" for name, used in sorted(tokens.items()))
    with (
        tempfile.TemporaryDirectory() as directory,
        processes.exporter(Path(directory), config) as ours,
    ):
        begun = time.perf_counter()
        pushes = asyncio.run(push(ours.url, rows))
        took = time.perf_counter() - begun
        exposition = ours.get("/metrics")
    starts = processes.sums(exposition, "llm_quota_window_start_timestamp_seconds", "provider")
    today = Counter(dict.fromkeys(tokens, 0))
    for row in rows:
        if row.timestamp >= starts[row.provider,]:
            today[row.provider] += row.tokens
    rows_shown, missed = [], []
    for title, sample, expected in (
        ("tokens", "llm_quota_tokens_total", tokens),
        ("requests", "llm_quota_requests_total", requests),
        ("tokens of the running day", "llm_quota_used_tokens", today),
    ):
        found = {
            name: int(n) for (name,), n in processes.sums(exposition, sample, "provider").items()
        }
        differ = sum(found.get(name, 0) != expected[name] for name in found.keys() | expected)
        total = sum(found.values())
        rows_shown.append((title, f"{expected.total():,}", f"{total:,}", f"{differ}"))
        if differ:
            missed.append(f"{title}: {differ} of {len(expected)} providers differ")
    print(f"{len(rows):,} rows of {len(tokens)} providers in {pushes:,} requests, {took:.1f} s")
    report.table(("what", "in the file", "on /metrics", "providers that differ"), rows_shown)
    report.finish(missed)


if __name__ == "__main__":
    main()
