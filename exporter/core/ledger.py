"""How much was used, when: the sums behind every quota, ready to be asked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from itertools import groupby, islice

import numpy as np

from exporter.core.budget import Budget, Quota
from exporter.core.grid import Floats, Grid, Rows
from exporter.core.quota_index import QuotaIndex, Terms, amount_of
from exporter.core.series import Series
from exporter.core.slots import (
    AHEAD_SECONDS,
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
)
from exporter.core.windows import Period, Rolling, Window

_LOADED_AT_ONCE = 100  # blocks: more are no quicker, and take more memory


class Ledger:
    """Use in every quota of an index: the amount on each of its rows, over time.

    Not for concurrent writers; see `Grid` for a reader beside the writer.

    Attributes:
        index: what is counted, and on which rows.
        fine, coarse: the sums of 10 s, and of 5 min.
        ready: of how many quotas, in their order, a reader beside the writer finds the sums.
    """

    def __init__(
        self, budgets: Mapping[str, Sequence[Budget]], retention: float, now: float
    ) -> None:
        self.fine = Grid(FINE_SECONDS, FINE_HORIZON_SECONDS, now)
        self.coarse = Grid(COARSE_SECONDS, retention, now)
        self._since = np.full(0, np.inf)
        self._use(QuotaIndex(budgets))

    def _use(self, index: QuotaIndex) -> None:
        self.index = index
        self._members = index.members
        self._reserve()

    def _reserve(self) -> None:
        """Make room for all rows."""
        rows = self.index.row_count
        self.fine.reserve(rows)
        self.coarse.reserve(rows)
        if rows > len(self._since):
            more = max(64, rows // 4, rows - len(self._since))
            self._since = np.append(self._since, np.full(more, np.inf))
        self.ready = len(self.index.quotas)

    def with_budgets(self, budgets: Mapping[str, Sequence[Budget]]) -> "Ledger":
        """The same sums under budgets that it serves; the one before is no longer to be used."""
        ledger = copy(self)
        ledger._use(self.index.with_budgets(budgets))
        return ledger

    def members(self, series: Series) -> tuple[tuple[int, Terms], ...]:
        """The rows that usage of `series` adds to; new ones for what is seen the first time."""
        found = self._members.get(series)
        if found is None:
            found = self.index.meet(series)
            self._reserve()
        return found

    def advance(self, now: float) -> None:
        """Let time pass; before every addition and question."""
        self.fine.advance(now)
        self.coarse.advance(now)

    def add(self, increments: Mapping[Cell, Counts]) -> None:
        """Count usage that has just become durable."""
        together: dict[tuple[int, int], float] = {}
        for (series, slot), counts in increments.items():
            for row, terms in self.members(series):
                amount = amount_of(counts, terms)
                if amount:
                    key = (row, slot)
                    together[key] = together.get(key, 0.0) + amount
        for (row, slot), amount in together.items():
            self.fine.add(row, slot, amount)
            self.coarse.add(row, slot // FINE_PER_COARSE, amount)
            self._began(row, slot * FINE_SECONDS)

    def load(self, blocks: Iterable[Block]) -> None:
        """Take up stored history, each block once; only a new ledger can."""
        for _ in self.load_in_steps(blocks):
            pass

    def load_in_steps(self, blocks: Iterable[Block]) -> Iterator[None]:
        """The same, some blocks at each step."""
        for (tier, number), some in _of_one_time(blocks):
            amounts = self._amounts(some, tier)
            if amounts:
                rows = np.array(list(amounts))
                values = np.stack(list(amounts.values()))
                self._grid(tier is FINE).fill(rows, number * tier.bins, values)
                self._holds(rows, tier, number, values)
            yield
        for grid in (self.fine, self.coarse):
            grid.accumulate()
            yield

    def _amounts(self, blocks: Iterable[Block], tier: Tier) -> dict[int, Floats]:
        """By row, what blocks of one tier and number add to its bins."""
        amounts: dict[int, Floats] = {}
        for block in blocks:
            for row, terms in self.members(block.series):
                held = amounts.get(row)
                if held is None:
                    held = amounts[row] = np.zeros(tier.bins)
                for column, each in terms:
                    counts = block.counts.get(column)
                    if counts is not None:
                        held += each * counts
        return amounts

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
        """The window of `period` at `now`, and what was used in it by row.

        A rolling window is summed in slots of 10 s (beyond six hours: of 5 min); a slot counts
        until all of it is too old, so use is freed late by at most one slot, never early. Use that
        was reported with a time ahead, as far as that may be, counts at once.
        """
        window = period.window(now)
        if period.rolling:
            grid = self._grid(window.end - window.start <= FINE_HORIZON_SECONDS)
            first, end = int(window.start // grid.width), grid.end_of(now)
        else:
            edges_fit = window.start % COARSE_SECONDS == 0 == window.end % COARSE_SECONDS
            grid = self._grid(not edges_fit)
            first, end = int(window.start // grid.width), int(window.end // grid.width)
        return window, grid.total(rows, first, end)

    def _grid(self, fine: bool) -> Grid:
        return self.fine if fine else self.coarse

    def counted(self, row: int, begin: float, end: float) -> float:
        """What was used on a row from one moment up to another, in slots that end after them: of
        10 s, and of 5 min as far as these reach back more than six hours."""
        now = self.fine.head * FINE_SECONDS - AHEAD_SECONDS
        middle, coarse = begin, 0.0
        if begin <= now - FINE_HORIZON_SECONDS:
            middle = end
            if end > now - FINE_HORIZON_SECONDS + COARSE_SECONDS:
                middle -= end % COARSE_SECONDS
            coarse = _between(self.coarse, row, begin, middle)
        return coarse + _between(self.fine, row, middle, end)

    def counted_since(self, row: int) -> float | None:
        """Unix seconds from which use of a row is known; None when there was none."""
        first = self.first_use([row])
        horizon = (self.coarse.head - self.coarse.horizon) * COARSE_SECONDS
        return None if first is None else max(first, horizon)

    def rate(self, rows: Rows, seconds: float, now: float) -> Floats:
        """Mean use per second over the last `seconds` (at most six hours), by row."""
        end = int(now // FINE_SECONDS) + 1
        first = end - int(seconds // FINE_SECONDS)
        return self.fine.total(rows, first, end) / seconds

    def freed_at(self, row: int, seconds: float, budget: float, now: float) -> float:
        """When a rolling window of `seconds` falls below `budget` if nothing more is used."""
        grid = self._grid(seconds <= FINE_HORIZON_SECONDS)
        first, end = int((now - seconds) // grid.width), grid.end_of(now)
        with grid.lock:
            left, right = max(first - grid.origin, 0), end - grid.origin
            edges = grid.sums[row, left : right + 1]
            remaining = edges[-1] - edges
        slots_gone = int(np.argmax(remaining < budget))  # the last is 0, below any budget
        return float((grid.origin + left + slots_gone) * grid.width + seconds)

    def available_at(self, quota: Quota, window: Window, now: float, share: float = 1.0) -> float:
        """When less than a share of what may be spent of a quota is used, seen from `window`, if
        nothing more is used."""
        period = quota.budget.period
        if not isinstance(period, Rolling):
            return window.end
        return self.freed_at(
            self.index.row(quota), period.seconds, share * quota.budget.spent_at, now
        )

    def used_in(self, quota: Quota, moment: float) -> float:
        """What was used in the window of `quota` that holds `moment`."""
        _, used = self.used(np.array([self.index.row(quota)]), quota.budget.period, moment)
        return float(used[0])

    def first_use(self, rows: Iterable[int]) -> float | None:
        """Unix seconds of the first use of any of `rows`; None when there was none."""
        first = min((self._since.item(row) for row in rows), default=np.inf)
        return first if first < np.inf else None

    def history(self) -> tuple[Floats, float, Floats]:
        """Cumulative coarse history of all rows, and when it began.

        Returns the sums up to each edge, the Unix time of the first edge, and of each row's
        first use (infinite when there was none). The sums are a view, valid while `coarse.lock`
        is held; their last edge lies ahead of now.
        """
        grid = self.coarse
        origin = float(grid.origin * grid.width)
        edges = grid.sums[: self.index.row_count, : grid.head - grid.origin + 1]
        return edges, origin, np.maximum(self._since[: len(edges)], origin)


def _between(grid: Grid, row: int, begin: float, end: float) -> float:
    first, last = (-int(-moment // grid.width) for moment in (begin, end))
    return float(grid.total(np.array([row]), first, last)[0]) if last > first else 0.0


def _of_one_time(blocks: Iterable[Block]) -> Iterator[tuple[tuple[Tier, int], Iterable[Block]]]:
    """The blocks, those of one tier and number together as far as they are near each other."""
    rest = iter(blocks)
    while some := sorted(islice(rest, _LOADED_AT_ONCE), key=_time):
        yield from groupby(some, key=_time)


def _time(block: Block) -> tuple[Tier, int]:
    return block.tier, block.number
