"""Usage for stores to keep, and what they keep of it in a form to compare."""

import hashlib
import time
from collections.abc import Iterable, Mapping

from exporter.core.slots import FINE_SECONDS, Block, Cell, Counts
from exporter.storage.contract import (
    Batch,
    Changes,
    CumulativeReport,
    DedupEntries,
    DedupEntry,
    Store,
)

# Redis expires keys by the server's clock, hence no date of our choosing.
NOW = float(int(time.time()))
SLOT = int(NOW // FINE_SECONDS)

State = tuple[dict[tuple[str, str], Counts], dict[tuple[str, str, int, int, int], int]]


def counts(tokens: int, *, kind: int = 0) -> Counts:
    """One request that used `tokens` of one kind."""
    result = [0] * 7
    result[kind] = tokens
    result[-1] = 1
    return result


def digest(name: object) -> bytes:
    return hashlib.blake2b(str(name).encode(), digest_size=16).digest()


def claim(name: object, tokens: int, cell: Cell = ("openai", "gpt", SLOT)) -> DedupEntry:
    return DedupEntry(digest(name), cell, counts(tokens))


def claiming(*claims: DedupEntry, key: bytes = b"", beside: Batch | None = None) -> Batch:
    """A batch of these claims, and of what is in `beside`."""
    batch = beside or Batch()
    batch.increments = summed([batch.increments, *({one.cell: one.counts} for one in claims)])
    batch.claims, batch.key = DedupEntries.of(claims), key
    return batch


def level(
    tokens: int, *, started: float = NOW, name: str = "stream", cell: Cell = ("openai", "", SLOT)
) -> CumulativeReport:
    return CumulativeReport(digest(name), started, cell, counts(tokens))


def events(number: int, tokens: int, cell: Cell = ("openai", "gpt", SLOT)) -> Batch:
    """A batch of events without identity."""
    return Batch({cell: [number * n for n in counts(tokens)]}, number)


def tokens(store: Store, provider: str = "openai", now: float = NOW) -> int:
    """All tokens counted since the store began, for a provider and those named after it."""
    totals = store.load(now).totals
    return sum(sum(total[:-1]) for (name, _), total in totals.items() if name.startswith(provider))


def bins(blocks: Iterable[Block]) -> dict[tuple[str, str, int, int, int], int]:
    """(provider, tier, block, kind, bin) -> tokens, where there are any."""
    return {
        (block.provider, block.tier.name, block.number, kind, int(position)): int(array[position])
        for block in blocks
        for kind, array in block.counts.items()
        for position in array.nonzero()[0]
    }


def state(changes: Changes) -> State:
    """Totals, and the tokens of every bin that has any."""
    return dict(changes.totals), bins(changes.blocks)


def expected(usage: Iterable[tuple[Cell, Counts]]) -> State:
    """What a store must hold after this usage, all of it within the last six hours."""
    totals: dict[tuple[str, str], Counts] = {}
    history: dict[tuple[str, str, int, int, int], int] = {}
    for (provider, model, slot), added in usage:
        total = totals.setdefault((provider, model), [0] * 7)
        for index, count in enumerate(added):
            total[index] += count
        for kind, count in enumerate(added[:-1]):
            if count:
                second = slot * 10
                fine = (provider, "f", second // 3600, kind, second % 3600 // 10)
                coarse = (provider, "c", second // 86400, kind, second % 86400 // 300)
                for place in (fine, coarse):
                    history[place] = history.get(place, 0) + count
    return totals, history


def summed(parts: Iterable[Mapping[Cell, Counts]]) -> dict[Cell, Counts]:
    result: dict[Cell, Counts] = {}
    for part in parts:
        for cell, added in part.items():
            held = result.get(cell, [0] * 7)
            result[cell] = [old + new for old, new in zip(held, added, strict=True)]
    return result
