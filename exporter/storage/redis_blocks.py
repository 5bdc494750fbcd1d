"""Blocks and sums as Redis holds them.

A block is a field of a hash. `commit.lua` appends records to it, each what was added to one bin of
one column, and now and then sums up what lies in the same bin: two bytes that say how many of the
records at the front are known to be of different bins, then the records; a record is two bytes of
place (column * 512 + bin) and eight of count, all big-endian.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from exporter.core.slots import MAX_SUM, WIDTH, Column, Counts, Tier

_HEADER = 2
_BINS = 512
_record = np.dtype([("place", ">u2"), ("count", ">u8")])


def read_blocks(bodies: Sequence[bytes], tier: Tier) -> list[dict[int, Column]]:
    """The columns of blocks of one tier that are not all zero.

    Raises:
        msgspec.DecodeError: the bytes are damaged.
    """
    lengths = [len(body) - _HEADER for body in bodies]
    if any(length < 0 or length % _record.itemsize for length in lengths):
        raise msgspec.DecodeError("a damaged block: cut off")
    records = np.frombuffer(b"".join([body[_HEADER:] for body in bodies]), _record)
    column, position = divmod(records["place"].astype(np.intp), _BINS)
    if position.max(initial=0) >= tier.bins or column.max(initial=0) >= WIDTH:
        raise msgspec.DecodeError(f"a damaged block: expected {tier.bins} bins")
    block = np.repeat(np.arange(len(bodies)), [length // _record.itemsize for length in lengths])
    sums = np.zeros((len(bodies), WIDTH, tier.bins), np.int64)
    counts = np.minimum(records["count"], np.uint64(MAX_SUM)).astype(np.int64)
    np.add.at(sums.reshape(-1), (block * WIDTH + column) * tier.bins + position, counts)
    np.minimum(sums, MAX_SUM, out=sums)
    found: list[dict[int, Column]] = [{} for _ in bodies]
    for at, index in np.argwhere(sums.any(axis=2)).tolist():
        found[at][index] = sums[at, index]
    return found


def read_total(body: bytes) -> Counts:
    """The sums of a series."""
    found: Counts = np.frombuffer(body.ljust(8 * WIDTH, b"\0")[: 8 * WIDTH], ">i8").tolist()
    return found
