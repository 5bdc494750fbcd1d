"""Which identities cannot have been added, for four to eight bytes of memory each.

A Bloom filter whose bits for one identity all lie in one word (Putze, Sanders, Singler: "Cache-,
Hash- and Space-Efficient Bloom Filters", 2007), so that asking costs one read of memory. When it
is full, a larger layer is begun; a question goes to every layer.
"""

import numpy as np
from numpy.typing import NDArray

FIRST = 1 << 16  # words in the first layer: half a megabyte
GROWTH = 2
PER_WORD = 2  # identities: 32 bits for each, wrong about 1 in 2,000 when full

Words = NDArray[np.uint64]


class Filter:
    """A growing set of identities that may be wrong about those it does not hold.

    Attributes:
        added: how many were added.
    """

    def __init__(self) -> None:
        self._layers: list[Words] = []
        self._room = 0
        self.added = 0

    def add(self, digests: bytes) -> None:
        """Add identities, one after the other in `digests`."""
        words, bits = _words_and_bits(digests)
        if self._room < len(words):
            self._grow(len(words))
        self._room -= len(words)
        self.added += len(words)
        layer = self._layers[-1]
        words = _within(layer, words)
        # Of those that share a word, each turn takes up one.
        while len(words):
            layer[words] |= bits
            lacking = (layer[words] & bits) != bits
            words, bits = words[lacking], bits[lacking]

    def _grow(self, identities: int) -> None:
        size = len(self._layers[-1]) * GROWTH if self._layers else FIRST
        while size * PER_WORD < identities:
            size *= GROWTH
        self._layers.append(np.zeros(size, np.uint64))
        self._room = size * PER_WORD

    def likely(self, digests: bytes) -> list[int]:
        """The positions of those in `digests` that may have been added; all others were not."""
        if not self._layers:
            return []
        words, bits = _words_and_bits(digests)
        held = np.zeros(len(words), np.bool_)
        for layer in self._layers:
            held |= (layer[_within(layer, words)] & bits) == bits
        found: list[int] = np.flatnonzero(held).tolist()
        return found


def _words_and_bits(digests: bytes) -> tuple[Words, Words]:
    """For each identity a number that chooses its word, and its five bits of that word."""
    words, chosen = np.frombuffer(digests, "<u8").reshape(-1, 2).T
    bits = np.uint64(1) << (chosen & np.uint64(63))
    for shift in (6, 12, 18, 24):
        bits |= np.uint64(1) << (chosen >> np.uint64(shift) & np.uint64(63))
    return words, bits


def _within(layer: Words, words: Words) -> Words:
    return words & np.uint64(len(layer) - 1)  # the length is a power of two
