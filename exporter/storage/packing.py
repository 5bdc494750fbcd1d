"""How a block of counts is written down: compact, because a start reads all of them."""

import zlib
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

_decoder = msgspec.msgpack.Decoder(dict[int, tuple[str, bytes]])
_WIDTHS = {width: np.dtype(width).itemsize for width in ("<u2", "<u4", "<i8")}


def pack(counts: Mapping[int, NDArray[np.int64]]) -> bytes:
    """The arrays by kind, each in the narrowest type that holds it."""
    packed = {}
    for kind, array in counts.items():
        width = next(w for w in _WIDTHS if array.max(initial=0) <= np.iinfo(w).max)
        packed[kind] = (width, array.astype(width).tobytes())
    body = msgspec.msgpack.encode(packed)
    smaller = zlib.compress(body, 1)
    # What is dense shrinks little, and would only be slow to read.
    return smaller if len(smaller) < len(body) / 2 else body


def unpack(body: bytes, bins: int) -> dict[int, NDArray[np.int64]]:
    """What `pack` packed.

    Raises:
        msgspec.DecodeError: the bytes are damaged.
    """
    return unpack_all([body], bins)[0]


def unpack_all(bodies: Sequence[bytes], bins: int) -> list[dict[int, NDArray[np.int64]]]:
    """What `pack` packed, of blocks of one tier; many together at a fraction of the cost.

    Raises:
        msgspec.DecodeError: the bytes are damaged.
    """
    try:
        # zlib's first byte says 8, its method; msgpack's of a map is 0x80 or more.
        packed = [
            _decoder.decode(body if body[:1] >= b"\x80" else zlib.decompress(body))
            for body in bodies
        ]
    except (zlib.error, ValueError) as error:
        raise msgspec.DecodeError(f"a damaged block: {error}") from error
    data: dict[str, list[bytes]] = {width: [] for width in _WIDTHS}
    for one in packed:
        for width, array in one.values():
            if width not in _WIDTHS or len(array) != bins * _WIDTHS[width]:
                raise msgspec.DecodeError(f"a damaged block: expected {bins} bins")
            data[width].append(array)
    arrays = {
        width: iter(np.frombuffer(b"".join(some), width).astype(np.int64).reshape(-1, bins))
        for width, some in data.items()
        if some
    }
    return [{kind: next(arrays[width]) for kind, (width, _) in one.items()} for one in packed]
