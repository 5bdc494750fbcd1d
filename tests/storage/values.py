"""Usage for stores to keep, and what they keep of it in a form to compare."""

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from exporter.core.series import Series
from exporter.core.slots import FINE_SECONDS, REQUESTS, WIDTH, Block, Cell, Counts
from exporter.storage.contract import (
    Batch,
    CumulativeReport,
    DedupEntries,
    DedupEntry,
    Loaded,
    Store,
)

# Redis expires keys by the server's clock, hence no date of our choosing.
NOW = float(int(time.time()))
SLOT = int(NOW // FINE_SECONDS)
OPENAI: Cell = (Series("openai"), SLOT)
GPT: Cell = (Series("openai", "gpt"), SLOT)

Bin = tuple[Series, str, int, int, int]
"""Series, tier, block, column and position."""

State = tuple[dict[Series, Counts], dict[Bin, int]]


def counts(tokens: int, *, kind: int = 0) -> Counts:
    """One request that used `tokens` of one kind."""
    result = [0] * WIDTH
    result[kind] = tokens
    result[REQUESTS] = 1
    return result


def cell_of(provider: str, model: str = "", slot: int = SLOT, consumer: str = "") -> Cell:
    return Series(provider, model, consumer), slot


def digest(name: object) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=16).digest()


def claim(name: object, tokens: int, cell: Cell = GPT) -> DedupEntry:
    return DedupEntry(digest(name), cell, counts(tokens))


def claiming(*claims: DedupEntry, key: bytes = b"", beside: Batch | None = None) -> Batch:
    """A batch of these claims, and of what is in `beside`."""
    batch = beside or Batch()
    batch.increments = summed([batch.increments, *({one.cell: one.counts} for one in claims)])
    batch.claims, batch.key = DedupEntries.of(claims), key
    return batch


def level(
    tokens: int,
    *,
    started: float = NOW,
    name: str = "stream",
    cell: Cell = OPENAI,
    sampled: bool = False,
) -> CumulativeReport:
    return CumulativeReport(digest(name), started, cell, counts(tokens), sampled)


def events(number: int, tokens: int, cell: Cell = GPT) -> Batch:
    """A batch of events without identity."""
    return Batch({cell: [number * n for n in counts(tokens)]}, number)


def lapse(store: Store, since: float, until: float) -> None:
    """Let time pass as a running exporter does: it prunes every hour."""
    for hour in range(1, int((until - since) // 3600) + 1):
        store.prune(since + 3600 * hour)
    store.prune(until)


def tokens(store: Store, provider: str = "openai", now: float = NOW) -> int:
    """All tokens counted since the store began, for a provider and those named after it."""
    totals = store.load(now).totals
    return sum(
        sum(total[:REQUESTS])
        for series, total in totals.items()
        if series.provider.startswith(provider)
    )


def bins(blocks: Iterable[Block]) -> dict[Bin, int]:
    """What was counted in every bin, where there is anything."""
    found: Counter[Bin] = Counter()
    for block in blocks:
        for index, column in block.counts.items():
            for position in column.nonzero()[0]:
                place = (block.series, block.tier.name, block.number, index, int(position))
                found[place] += int(column[position])
    return {place: count for place, count in found.items() if count}


def state(loaded: Loaded) -> State:
    """Totals, and what was counted in every bin."""
    return dict(loaded.totals), bins(loaded.blocks)


def expected(usage: Iterable[tuple[Cell, Counts]]) -> State:
    """What a store must hold after this usage, all of it within the last six hours."""
    totals: dict[Series, Counts] = {}
    history: dict[Bin, int] = {}
    for (series, slot), added in usage:
        total = totals.setdefault(series, [0] * WIDTH)
        for index, count in enumerate(added):
            total[index] += count
            if count:
                second = slot * 10
                fine = (series, "f", second // 3600, index, second % 3600 // 10)
                coarse = (series, "c", second // 86400, index, second % 86400 // 300)
                for place in (fine, coarse):
                    history[place] = history.get(place, 0) + count
    return totals, history


def summed(parts: Iterable[Mapping[Cell, Counts]]) -> dict[Cell, Counts]:
    result: dict[Cell, Counts] = {}
    for part in parts:
        for cell, added in part.items():
            held = result.get(cell, [0] * WIDTH)
            result[cell] = [old + new for old, new in zip(held, added, strict=True)]
    return result


def union(name: str, ours: bytes, theirs: bytes) -> bytes:
    """Merges documents that are sets of words."""
    return b" ".join(sorted({*ours.split(), *theirs.split()}))
