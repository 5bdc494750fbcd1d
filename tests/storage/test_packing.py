"""Blocks as they are written down."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.slots import COARSE
from exporter.core.usage import KINDS
from exporter.storage.packing import pack, unpack

counts = st.dictionaries(
    st.integers(0, len(KINDS) - 1),
    st.one_of(
        st.lists(st.integers(0, 2**62), min_size=COARSE.bins, max_size=COARSE.bins),
        st.integers(0, 2**62).map(lambda last: [0] * (COARSE.bins - 1) + [last]),
    ).map(lambda bins: np.array(bins, np.int64)),
)


@given(counts)
def test_what_is_packed_comes_back(counts: dict[int, np.ndarray]) -> None:
    unpacked = unpack(pack(counts), COARSE.bins)
    assert unpacked.keys() == {index for index, column in counts.items() if column.any()}
    for index, column in unpacked.items():
        np.testing.assert_array_equal(column, counts[index])


def test_a_sparse_block_takes_few_bytes() -> None:
    bins = np.zeros(COARSE.bins, np.int64)
    bins[7] = 10**12
    assert len(pack({0: bins})) < 100


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda body: body[:-9], id="cut off"),
        pytest.param(lambda body: b"\x00" + body[1:], id="another first byte"),
        pytest.param(lambda body: b"", id="empty"),
    ],
)
@pytest.mark.parametrize("spread", [0, 2**40], ids=["sparse", "dense"])
def test_a_damaged_block_is_told(damage: object, spread: int) -> None:
    bins = np.arange(COARSE.bins, dtype=np.int64) * spread
    assert callable(damage)
    with pytest.raises(msgspec.DecodeError):
        unpack(damage(pack({0: bins})), COARSE.bins)


def test_a_block_of_unknown_width_is_damaged() -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack(msgspec.msgpack.encode({0: ("<f8", b"")}), COARSE.bins)
