"""The resolution at which usage is kept, and token sums on that grid."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from exporter.core.usage import KINDS

FINE_SECONDS = 10
"""Width of a fine slot: sharp enough for calendar minutes and for rolling windows of hours."""

FINE_HORIZON_SECONDS = 6 * 3600
"""How long fine slots are kept; longer rolling windows are summed from coarse bins."""

COARSE_SECONDS = 300
"""Width of a coarse bin. All UTC offsets in use are multiples of 15 minutes, so hours, days,
weeks and months of every zone begin and end on a bin's edge."""

FINE_PER_COARSE = COARSE_SECONDS // FINE_SECONDS

AHEAD_SECONDS = 300
"""How far in the future an event may lie: clocks differ."""

MAX_SUM = 2**61
"""Where a stored sum stays put: two of them still add up without turning negative."""

WIDTH = len(KINDS) + 1
"""Numbers per increment: tokens of each kind, then requests."""

REQUESTS = len(KINDS)

Counts = list[int]
"""Tokens by kind in the order of `KINDS`, then requests."""


Cell = tuple[str, str, int]
"""Where an increment is counted: canonical provider, model (empty when unknown), and the slot:
Unix time divided by `FINE_SECONDS`, rounded down."""

K = TypeVar("K")

Increments = dict[Cell, Counts]
"""Usage summed by cell: everything about a set of events that is ever kept."""


def add(into: dict[K, Counts], key: K, counts: Counts) -> None:
    """Add counts to what `into` holds under `key`."""
    held = into.get(key)
    if held is None:
        into[key] = counts.copy()
    else:
        held[:] = map(operator.add, held, counts)


def merge(into: Increments, more: Mapping[Cell, Counts]) -> None:
    """Add `more` to `into`."""
    for cell, counts in more.items():
        add(into, cell, counts)


def total(parts: Sequence[Increments]) -> Increments:
    """The sum of all parts; of a single one, that part itself, which is not to be changed."""
    if len(parts) == 1:
        return parts[0]
    into: Increments = {}
    for part in parts:
        merge(into, part)
    return into


def delta_since(counts: Counts, base: Counts) -> Counts | None:
    """What a cumulative counter added since it stood at `base`; None for a report from before.

    The sum over the kinds is sure; how it parts into kinds may change from one report to the
    next, when a part arrives without its whole. So the kinds rise by no more than the sum does.
    """
    left = sum(counts[:REQUESTS]) - sum(base[:REQUESTS])
    if left < 0:
        return None
    risen = []
    for new, old in zip(counts[:REQUESTS], base[:REQUESTS], strict=True):
        risen.append(min(left, max(0, new - old)))
        left -= risen[-1]
    return [*risen, max(0, counts[REQUESTS] - base[REQUESTS])]


class Tier(NamedTuple):
    """One resolution of stored history, kept in blocks of equal length.

    Attributes:
        name: short name used in storage keys.
        slots_per_bin: width of a bin in fine slots.
        bins: bins per block.
    """

    name: str
    slots_per_bin: int
    bins: int

    @property
    def block_seconds(self) -> int:
        """Length of a block."""
        return self.slots_per_bin * self.bins * FINE_SECONDS

    def place(self, slot: int) -> tuple[int, int]:
        """Block number and position in that block of a fine slot."""
        return divmod(slot // self.slots_per_bin, self.bins)


FINE = Tier("f", 1, 3600 // FINE_SECONDS)  # blocks of an hour
COARSE = Tier("c", FINE_PER_COARSE, 86400 // COARSE_SECONDS)  # blocks of a UTC day
TIERS = (FINE, COARSE)


class Block(NamedTuple):
    """Stored history of one provider over one hour (fine) or one UTC day (coarse).

    Attributes:
        provider: canonical provider name.
        tier: `FINE` or `COARSE`.
        number: Unix time of its start divided by `tier.block_seconds`.
        counts: kind index -> tokens per bin; kinds that are absent are all zero.
    """

    provider: str
    tier: Tier
    number: int
    counts: dict[int, NDArray[np.int64]]


def blocks_of(increments: Mapping[Cell, Counts], now: float) -> Iterable[Block]:
    """The increments as blocks, fine ones only where the fine horizon still reaches."""
    oldest_fine = int(now - FINE_HORIZON_SECONDS) // FINE.block_seconds
    blocks: dict[tuple[str, Tier, int], Block] = {}
    for (provider, _, slot), counts in increments.items():
        for tier in TIERS:
            number, position = tier.place(slot)
            if tier is FINE and number < oldest_fine:
                continue
            key = (provider, tier, number)
            if (block := blocks.get(key)) is None:
                block = blocks[key] = Block(provider, tier, number, {})
            for kind in range(REQUESTS):
                if tokens := counts[kind]:
                    if kind not in block.counts:
                        block.counts[kind] = np.zeros(tier.bins, np.int64)
                    counted = block.counts[kind]
                    counted[position] = min(int(counted[position]) + tokens, MAX_SUM)
    return blocks.values()
