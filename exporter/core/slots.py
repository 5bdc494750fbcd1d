"""The resolution at which usage is kept, and token sums on that grid."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from exporter.core.series import Series
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

MAX_SUM = 2**61 - 1
"""Where a sum stays put: two of them still add up without turning negative."""

REQUESTS = len(KINDS)
COST = REQUESTS + 1
WIDTH = COST + 1
"""Columns of counts: tokens of each kind, then requests, then cost."""

Counts = list[int]
"""Tokens by kind in the order of `KINDS`, then requests, then cost in whole nano-US-dollars."""

Column = NDArray[np.integer[Any]]
"""One column of a block: what was counted in each of its bins."""

Cell = tuple[Series, int]
"""Where an increment is counted: its series, and the slot: Unix time divided by `FINE_SECONDS`,
rounded down."""

K = TypeVar("K")

Increments = dict[Cell, Counts]
"""Usage summed by cell: everything about a set of events that is ever kept."""


def add(into: dict[K, Counts], key: K, counts: Counts) -> None:
    """Add counts to what `into` holds under `key`, each up to `MAX_SUM`."""
    held = into.get(key)
    if held is None:
        held = into[key] = counts.copy()
    else:
        held[:] = map(operator.add, held, counts)
    if max(held) > MAX_SUM:
        held[:] = [min(count, MAX_SUM) for count in held]


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
    beside = list(map(operator.sub, counts[REQUESTS:], base[REQUESTS:]))
    if left < 0 or (left == 0 and min(beside) < 0):
        return None
    risen = []
    for new, old in zip(counts[:REQUESTS], base[:REQUESTS], strict=True):
        risen.append(min(left, max(0, new - old)))
        left -= risen[-1]
    return [*risen, *(max(0, count) for count in beside)]


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
    """Stored history of one series over one hour (fine) or one UTC day (coarse).

    Attributes:
        series: what it is the history of.
        tier: `FINE` or `COARSE`.
        number: Unix time of its start divided by `tier.block_seconds`.
        counts: column of `Counts` -> its count per bin; columns that are absent are all zero.
    """

    series: Series
    tier: Tier
    number: int
    counts: dict[int, Column]


def blocks_of(increments: Mapping[Cell, Counts], now: float) -> Iterable[Block]:
    """The increments as blocks, fine ones only where the fine horizon still reaches."""
    oldest_fine = int(now - FINE_HORIZON_SECONDS) // FINE.block_seconds
    blocks: dict[tuple[Series, Tier, int], Block] = {}
    for (series, slot), counts in increments.items():
        for tier in TIERS:
            number, position = tier.place(slot)
            if tier is FINE and number < oldest_fine:
                continue
            key = (series, tier, number)
            if (block := blocks.get(key)) is None:
                block = blocks[key] = Block(series, tier, number, {})
            for index, count in enumerate(counts):
                if count:
                    if (column := block.counts.get(index)) is None:
                        column = block.counts[index] = np.zeros(tier.bins, np.int64)
                    column[position] = min(int(column[position]) + count, MAX_SUM)
    return blocks.values()
