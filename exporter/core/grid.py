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

_SLACK = 0.03  # room on either side of the horizon: with 35 days, a day ahead
_MIN_SLACK_SECONDS = 3600  # a clock that is an hour wrong costs nothing


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
        # Slots before the horizon and after its end.
        self._spare = max(int(self.horizon * _SLACK), _MIN_SLACK_SECONDS // width)
        self._columns = self.horizon + 2 * self._spare + 2 * AHEAD_SECONDS // width + 2
        self.lock = threading.Lock()
        self.origin = int(now // width) - self.horizon - self._spare
        self.head = self._end = self.origin
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
        """Cover `now`, what lies within the horizon before it, and events that may lie ahead.

        A clock can be set either way. What was counted while it was ahead stays as long as there
        is room for it.
        """
        self._end = self.end_of(now)
        first = int(now // self.width) - self.horizon
        if first < self.origin or self._end - self.origin >= self._columns:
            self._move(first - self._spare)
        self._extend(self._end)

    def end_of(self, now: float) -> int:
        """The slot after those in which events may lie at `now`."""
        return int((now + AHEAD_SECONDS) // self.width) + 1

    def _extend(self, head: int) -> None:
        """Let the edges reach up to `head` at the least."""
        left, right = self.head - self.origin, head - self.origin
        if right > left:
            self.sums[:, left + 1 : right + 1] = self.sums[:, left : left + 1]
            self.head = head

    def _move(self, origin: int) -> None:
        shift = origin - self.origin
        with self.lock:
            if abs(shift) >= self._columns or origin >= self.head:
                self.sums[:] = 0.0
                self.head = origin
            elif shift > 0:
                # Row by row: a copy of the whole would double the memory for a moment.
                for row in self.sums:
                    row[:-shift] = row[shift:] - row[shift]
            else:
                for row in self.sums:
                    row[-shift:] = row[:shift].copy()
                    row[:-shift] = 0.0
                self.head = min(self.head, origin + self._columns - 1)
            self.origin = origin

    def add(self, row: int, slot: int, amount: float) -> None:
        """Count `amount` in `slot`; what lies before the horizon is forgotten at once, what is
        further ahead than events may be was counted by another clock, and is of now.
        """
        first = min(slot, self._end - 1) + 1 - self.origin
        if first > 0:
            self.sums[row, first : self.head - self.origin + 1] += amount

    def fill(self, rows: Rows, slot: int, amounts: Floats) -> None:
        """Add to slots of a new grid, the same ones of several rows, to be summed by `accumulate`;
        a row may be there several times.
        """
        first = slot - self.origin
        self._extend(min(slot + amounts.shape[1], self.origin + self._columns - 1))
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
