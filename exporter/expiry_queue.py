"""Moments at which things end, the first of them first."""

import heapq
from math import inf
from typing import Generic, TypeVar

K = TypeVar("K")


class ExpiryQueue(Generic[K]):
    """The end of each key; a later call for the same key replaces it. Not for concurrent use.

    Keys are compared with each other where their ends are equal.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, K]] = []  # some are out of date
        self._end_of: dict[K, float] = {}

    @property
    def next_end(self) -> float:
        """Unix seconds before which nothing ends; infinite when nothing does."""
        return self._heap[0][0] if self._heap else inf

    def set(self, key: K, end: float) -> None:
        """Let a key end then; where that is infinite, as it was to end before."""
        if end == inf or self._end_of.get(key) == end:
            return
        self._end_of[key] = end
        heapq.heappush(self._heap, (end, key))
        if len(self._heap) > 2 * len(self._end_of) + 100:  # most are out of date
            self._heap = [(at, one) for one, at in self._end_of.items()]
            heapq.heapify(self._heap)

    def pop(self, now: float) -> K | None:
        """A key that has ended, which is in the queue no longer; None when there is none."""
        while self._heap and self._heap[0][0] <= now:
            end, key = heapq.heappop(self._heap)
            if self._end_of.get(key) == end:
                del self._end_of[key]
                return key
        return None
