"""Sums of many series over slots of time.

They are kept cumulatively, one column per slot edge, so that the use of any window is a
difference of two columns and a forecast reads the history without copying it.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from exporter.core.slots import AHEAD_SECONDS

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_SLACK = 0.05  # how much room beyond its horizon a grid has before it must move its columns


class Grid:
    """Cumulative sums of many series over slots of one width.

    Column `i` of `sums` holds what a series used before slot `origin + i`; the last valid edge is
    `head`. Additions and reads may run in two threads: a read then sees an addition or does not.
    Growing and moving hold `lock`, and so must whoever reads more than one column.

    Attributes:
        width: seconds per slot.
        horizon: slots that are kept.
    """

    def __init__(self, width: int, horizon_seconds: float, now: float) -> None:
        self.width = width
        self.horizon = int(horizon_seconds // width) + 1
        self._columns = int(self.horizon * (1 + _SLACK)) + 2 * AHEAD_SECONDS // width + 2
        self.lock = threading.Lock()
        self.origin = int(now // width) - self.horizon
        self.head = self.origin
        self.sums: Floats = np.zeros((0, self._columns))
        self.advance(now)

    def reserve(self, rows: int) -> None:
        """Make room for at least `rows` series."""
        if rows > len(self.sums):
            grown = np.zeros((max(rows, len(self.sums) * 5 // 4), self._columns))
            with self.lock:
                grown[: len(self.sums)] = self.sums
                self.sums = grown

    def advance(self, now: float) -> None:
        """Extend the edges to cover `now` and the events that may lie ahead of it."""
        head = int((now + AHEAD_SECONDS) // self.width) + 1
        if head <= self.head:
            return  # time can go backwards
        if head - self.origin >= self._columns:
            self._move(int(now // self.width) - self.horizon)
        left, right = self.head - self.origin, head - self.origin
        self.sums[:, left + 1 : right + 1] = self.sums[:, left : left + 1]
        self.head = head

    def _move(self, origin: int) -> None:
        gone = origin - self.origin
        with self.lock:
            if origin >= self.head:
                self.sums[:] = 0.0
                self.head = origin
            else:
                # Row by row: a copy of the whole would double the memory for a moment.
                for row in self.sums:
                    row[:-gone] = row[gone:] - row[gone]
            self.origin = origin

    def add(self, row: int, slot: int, amount: float) -> None:
        """Count `amount` in `slot`; what lies before the horizon is forgotten at once."""
        first = slot + 1 - self.origin
        if first > 0:
            self.sums[row, first : self.head - self.origin + 1] += amount

    def fill(self, rows: Rows, slot: int, amounts: Floats) -> None:
        """Add to slots of a new grid, the same ones of several rows, to be summed by `accumulate`;
        a row may be there several times.
        """
        first = slot - self.origin
        amounts = amounts[:, max(0, -first) : max(0, self.head - slot)]
        first = max(0, first)
        slots = self.sums[:, first + 1 : first + 1 + amounts.shape[1]]
        for row, some in zip(rows.tolist(), amounts, strict=True):
            slots[row] += some

    def accumulate(self) -> None:
        """Sum up what was laid down."""
        # Row by row: numpy copies what it sums in place.
        for row in self.sums[:, : self.head - self.origin + 1]:
            row.cumsum(out=row)

    def total(self, rows: Rows, first: int, end: int) -> Floats:
        """What each of the series used in the slots from `first` up to `end`."""
        last = self.head - self.origin
        left, right = (min(max(slot - self.origin, 0), last) for slot in (first, end))
        result: Floats = self.sums[rows, right] - self.sums[rows, left]
        return result
