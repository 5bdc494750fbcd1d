"""How much was used, when: weighted token sums of every budgeted provider, ready to be asked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice

import numpy as np

from exporter.core.budget import Budget, Weights
from exporter.core.grid import Floats, Grid, Rows
from exporter.core.slots import (
    COARSE,
    COARSE_SECONDS,
    FINE,
    FINE_HORIZON_SECONDS,
    FINE_PER_COARSE,
    FINE_SECONDS,
    Block,
    Cell,
    Counts,
    Tier,
    add,
)
from exporter.core.windows import Period, Window

_LOADED_AT_ONCE = 100  # blocks: more are no quicker, and take more memory


class Ledger:
    """Use of every budgeted provider under each of its weightings.

    Not for concurrent writers; see `Grid` for a reader beside the writer.
    """

    def __init__(self, series: Iterable[tuple[str, Weights]], retention: float, now: float) -> None:
        self.fine = Grid(FINE_SECONDS, FINE_HORIZON_SECONDS, now)
        self.coarse = Grid(COARSE_SECONDS, retention, now)
        self._rows: dict[tuple[str, Weights], int] = {}
        self._weights: dict[str, list[tuple[int, Weights]]] = {}
        for provider, weights in series:
            if (provider, weights) not in self._rows:
                row = self._rows[provider, weights] = len(self._rows)
                self._weights.setdefault(provider, []).append((row, weights))
        self.fine.reserve(len(self._rows))
        self.coarse.reserve(len(self._rows))
        self._since = np.full(len(self._rows), np.inf)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, provider: str, weights: Weights) -> int:
        """The row of a series."""
        return self._rows[provider, weights]

    def advance(self, now: float) -> None:
        """Let time pass; before every addition and question."""
        self.fine.advance(now)
        self.coarse.advance(now)

    def add(self, increments: Mapping[Cell, Counts]) -> None:
        """Count usage that has just become durable."""
        together: dict[tuple[str, int], Counts] = {}
        for (series, slot), counts in increments.items():
            if series.provider in self._weights:
                add(together, (series.provider, slot), counts)
        for (provider, slot), counts in together.items():
            for row, weights in self._weights[provider]:
                amount = sum(map(float.__mul__, weights, map(float, counts)))
                self.fine.add(row, slot, amount)
                self.coarse.add(row, slot // FINE_PER_COARSE, amount)
                if amount:
                    self._began(row, slot * FINE_SECONDS)

    def load(self, blocks: Iterable[Block]) -> None:
        """Take up stored history, each block once; only a new ledger can."""
        for (tier, number), some in _of_one_time(blocks):
            owned: dict[Weights, list[tuple[int, Block]]] = {}
            for block in some:
                for row, weights in self._weights.get(block.series.provider, ()):
                    owned.setdefault(weights, []).append((row, block))
            for weights, those in owned.items():
                rows = np.array([row for row, _ in those])
                amounts = weighted([block for _, block in those], weights)
                self._grid(tier is FINE).fill(rows, number * tier.bins, amounts)
                self._holds(rows, tier, number, amounts)
        for grid in (self.fine, self.coarse):
            grid.accumulate()

    def _holds(self, rows: Rows, tier: Tier, number: int, amounts: Floats) -> None:
        begin = number * tier.block_seconds
        early = self._since[rows] > begin
        if tier is COARSE and early.any():
            rows, used = rows[early], amounts[early] > 0
            began = begin + used.argmax(axis=1) * COARSE_SECONDS
            began = np.where(used.any(axis=1), began, np.inf)
            self._since[rows] = np.minimum(self._since[rows], began)

    def _began(self, row: int, moment: float) -> None:
        bin_start = moment - moment % COARSE_SECONDS
        self._since[row] = min(self._since[row], bin_start)

    def used(self, rows: Rows, period: Period, now: float) -> tuple[Window, Floats]:
        """The window of `period` at `now`, and what each series used in it, in weighted tokens.

        A rolling window is summed in slots of 10 s (beyond six hours: of 5 min); a slot counts
        until all of it is too old, so use is freed late by at most one slot, never early.
        """
        window = period.window(now)
        if period.rolling:
            grid = self._grid(window.end - window.start <= FINE_HORIZON_SECONDS)
            first, end = int(window.start // grid.width), int(now // grid.width) + 1
        else:
            edges_fit = window.start % COARSE_SECONDS == 0 == window.end % COARSE_SECONDS
            grid = self._grid(not edges_fit)
            first, end = int(window.start // grid.width), int(window.end // grid.width)
        return window, grid.total(rows, first, end)

    def _grid(self, fine: bool) -> Grid:
        return self.fine if fine else self.coarse

    def rate(self, rows: Rows, seconds: float, now: float) -> Floats:
        """Mean use per second over the last `seconds` (at most six hours), in weighted tokens."""
        end = int(now // FINE_SECONDS) + 1
        first = end - int(seconds // FINE_SECONDS)
        return self.fine.total(rows, first, end) / seconds

    def freed_at(self, row: int, seconds: float, budget: float, now: float) -> float:
        """When a rolling window of `seconds` falls below `budget` if nothing more is used."""
        grid = self._grid(seconds <= FINE_HORIZON_SECONDS)
        first, end = int((now - seconds) // grid.width), int(now // grid.width) + 1
        with grid.lock:
            left, right = max(first - grid.origin, 0), end - grid.origin
            edges = grid.sums[row, left : right + 1]
            remaining = edges[-1] - edges
        slots_gone = int(np.argmax(remaining < budget))  # the last is 0, below any budget
        return float((grid.origin + left + slots_gone) * grid.width + seconds)

    def used_in(self, provider: str, budget: Budget, moment: float) -> float:
        """What was used in the window of `budget` that holds `moment`, in weighted tokens."""
        row = self.row(provider, budget.weights)
        _, used = self.used(np.array([row]), budget.period, moment)
        return float(used[0])

    def history(self) -> tuple[Floats, float, Floats]:
        """Cumulative coarse history of all series, and when it began.

        Returns the sums up to each edge, the Unix time of the first edge, and of each series'
        first use (infinite when there was none). The sums are a view, valid while `coarse.lock`
        is held; their last edge lies ahead of now.
        """
        grid = self.coarse
        origin = float(grid.origin * grid.width)
        edges = grid.sums[: len(self), : grid.head - grid.origin + 1]
        return edges, origin, np.maximum(self._since, origin)


def weighted(blocks: Sequence[Block], weights: Weights) -> Floats:
    """The tokens per bin of blocks of one tier, under the weights of their kinds."""
    total = np.zeros((len(blocks), blocks[0].tier.bins))
    none = np.zeros(blocks[0].tier.bins, np.uint16)
    kinds = set().union(*[block.counts for block in blocks])
    for kind in sorted(kinds.intersection(range(len(weights)))):
        counts = np.concatenate([block.counts.get(kind, none) for block in blocks])
        total += weights[kind] * counts.reshape(total.shape)
    return total


def _of_one_time(blocks: Iterable[Block]) -> Iterator[tuple[tuple[Tier, int], Iterable[Block]]]:
    """The blocks, those of one tier and number together as far as they are near each other."""
    rest = iter(blocks)
    while some := sorted(islice(rest, _LOADED_AT_ONCE), key=_time):
        yield from groupby(some, key=_time)


def _time(block: Block) -> tuple[Tier, int]:
    return block.tier, block.number
