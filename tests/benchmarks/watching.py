"""How long after a change 1,000 watchers of one process have it, and those of another replica.

    python -m tests.benchmarks.watching [--watchers 1000] [--changes 50]

An operator's word is the change: times count from the moment it was sent until each watcher has
the event. The watchers are one process, so its own work is in the times; exit 1 when a target is
missed.
"""

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import uvloop

from tests.benchmarks import processes, report

CONFIG = "limits: {connections: 4000, watchers: 3000}\nbudgets:\n" + "".join(
    f"  provider-{number}: 2_000_000_000\n" for number in range(100)
)
P99, ELSEWHERE = 0.050, 1.0
"""Seconds, on the same replica and on another."""

REQUEST = b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n"


class _Watcher(asyncio.Protocol):
    """One who waits for the change under way."""

    def __init__(self, all_of_them: "_Watchers") -> None:
        self._all = all_of_them
        self.whole = False
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(REQUEST)

    def data_received(self, data: bytes) -> None:
        if not self.whole:
            self._seen += data
            self.whole = b"event: state" in self._seen and self._seen.endswith(b"\n\n\r\n")
        elif self._all.marker in data:
            self._all.arrived()


class _Watchers:
    """Attributes: marker: what the change under way holds; times: seconds of all arrivals."""

    def __init__(self) -> None:
        self.marker = b""
        self.times: list[float] = []
        self._begun = 0.0
        self._left = 0
        self._done = asyncio.Event()
        self.all: list[_Watcher] = []

    async def connect(self, host: str, port: int, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, watcher = await loop.create_connection(lambda: _Watcher(self), host, port)
            self.all.append(watcher)
        while not all(watcher.whole for watcher in self.all):
            await asyncio.sleep(0.05)

    def arrived(self) -> None:
        self.times.append(time.perf_counter() - self._begun)
        self._left -= 1
        if not self._left:
            self._done.set()

    async def change(self, host: str, port: int, number: int) -> None:
        """Say that a provider is out, and wait until all have it."""
        self.marker = b'"provider":"provider-%d"' % number
        self._left = len(self.all)
        self._done.clear()
        body = json.dumps({"state": "quota_exhausted", "retry_after": f"{3600 + number}s"})
        reader, writer = await asyncio.open_connection(host, port)
        request = (
            f"PUT /v1/providers/provider-{number}/state HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        self._begun = time.perf_counter()
        writer.write(request.encode())
        async with asyncio.timeout(processes.DEADLINE):
            await self._done.wait()
            answer = await reader.read(65536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        writer.close()


def _address(program: processes.Program) -> tuple[str, int]:
    host, _, port = program.url.removeprefix("http://").rpartition(":")
    return host, int(port)


async def measure(
    changed: processes.Program, watched: processes.Program, watchers: int, changes: int
) -> list[float]:
    """Seconds until each watcher of one exporter had each change of another (or the same)."""
    all_of_them = _Watchers()
    await all_of_them.connect(*_address(watched), watchers)
    for number in range(changes):
        await all_of_them.change(*_address(changed), number % 100)
        await asyncio.sleep(0.1)
    return sorted(all_of_them.times)


def main() -> None:
    """Measure on one replica, then from one to another."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=50)
    options = parser.parse_args()
    print(report.machine())
    rows, missed = [], []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("alone", "one", "other", "redis"):
            (home / name).mkdir()
        alone = stack.enter_context(processes.exporter(home / "alone", CONFIG))
        redis = stack.enter_context(processes.Redis(home / "redis"))
        replicas = [
            stack.enter_context(processes.exporter(home / name, CONFIG, storage=redis.url))
            for name in ("one", "other")
        ]
        for title, pair, watchers, target in (
            ("the same process", (alone, alone), options.watchers, P99),
            ("another replica", replicas, 100, ELSEWHERE),
        ):
            times = uvloop.run(measure(*pair, watchers, options.changes))
            count = len(times)
            p50, p99 = times[count // 2], times[count * 99 // 100]
            rows.append(
                (
                    title,
                    f"{watchers:,}",
                    *(f"{seconds * 1e3:.1f}" for seconds in (p50, p99, times[-1])),
                    f"{target * 1e3:.0f}",
                )
            )
            if p99 > target:
                missed.append(f"{title}: {p99 * 1e3:.1f} ms > {target * 1e3:.0f} ms")
    report.table(("change to event", "watchers", "p50 ms", "p99 ms", "longest ms", "target"), rows)
    report.finish(missed)


if __name__ == "__main__":
    main()
