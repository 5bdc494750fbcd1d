"""What the status page costs with a thousand budgets, and how long a push waits for it.

    python -m tests.benchmarks.pages

Processor time of each step, which other work on the machine does not lengthen; then, in the same
process, how long the event loop is held up while pages are asked for.
"""

import asyncio
import gzip
import time
from collections.abc import Callable
from statistics import median
from typing import TypeVar

import numpy as np

from exporter.core.forecast import BIN_SECONDS
from exporter.web.pages.rendering import render_status
from exporter.web.pages.status import Query, status_page
from tests.web.test_routes import House, house

BUDGETS = 1000
DAYS = 9
ROUNDS = 7

T = TypeVar("T")

CONFIG = "budgets:\n" + "".join(f"  provider-{at:04}: 1_000_000\n" for at in range(BUDGETS))


async def fill(running: House) -> None:
    """Nine days of usage of every provider, with consumers, every two hours."""
    rng, now = np.random.default_rng(7), running.clock()
    for at in range(BUDGETS):
        uses = rng.gamma(2.0, 25_000, DAYS * 12) * rng.uniform(0.3, 2)
        events = [
            {
                "provider": f"provider-{at:04}",
                "consumer": f"team-{back % 5}",
                "tokens": int(use) + 1,
                "timestamp": now - back * 7200,
            }
            for back, use in enumerate(uses)
        ]
        assert (await running.push(*events)).status_code == 200


def cost(what: str, work: Callable[[], T]) -> T:
    times = []
    for _ in range(ROUNDS):
        begin = time.thread_time()
        result = work()
        times.append(time.thread_time() - begin)
    print(f"{what:34} {1000 * median(times):7.1f} ms")
    return result


async def main() -> None:
    async with house(CONFIG) as running:
        await fill(running)
        service, now = running.service, running.clock()
        snapshot = await service.snapshot(now)
        recent = service.usage.recent.totals(now)
        print(f"{BUDGETS} budgets, {DAYS} days of {BIN_SECONDS} s bins; processor time")
        cost("who used how much in the last hour", lambda: service.usage.recent.totals(now))
        page = cost("rows, order, page", lambda: status_page(snapshot, recent, Query()))
        cost(
            "the same with a search", lambda: status_page(snapshot, recent, Query("provider-0 out"))
        )
        meter = service.usage.meter
        why = cost("curves of the page", lambda: meter.explain_quotas(page.quotas, now))
        text = cost("HTML", lambda: render_status(page, snapshot, why)).encode()
        packed = cost("gzip", lambda: gzip.compress(text, 1))
        print(f"{len(page.scopes)} scopes shown, {len(text):,} bytes, {len(packed):,} packed")
        await stalls(running)


async def stalls(running: House) -> None:
    """How late the loop comes back to a task that yields all the time."""

    async def watch(late: list[float], done: asyncio.Event) -> None:
        while not done.is_set():
            begin = time.perf_counter()
            await asyncio.sleep(0)
            late.append(time.perf_counter() - begin)

    for path in ("", "/metrics", "/"):
        late: list[float] = []
        done = asyncio.Event()
        watcher = asyncio.create_task(watch(late, done))
        for _ in range(ROUNDS):
            if path:
                assert (await running.http.get(path)).status_code == 200
            else:
                await asyncio.sleep(0.2)
        done.set()
        await watcher
        worst = sorted(late)[-ROUNDS:]
        print(f"{path or 'nothing':9} loop held up: worst {1000 * worst[-1]:.1f} ms, "
              f"worst of every request about {1000 * median(worst):.1f} ms")  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
