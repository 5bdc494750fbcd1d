"""How a block of counts is written down: compact, because a start reads all of them."""

import zlib
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from exporter.core.slots import Column

_decoder = msgspec.msgpack.Decoder(dict[int, tuple[str, bytes]])

_DENSE = ("|u1", "<u2", "<u4", "<i8")
"""Types of a column that is written bin by bin; the narrowest that holds it is used."""

_SPARSE = "s"
"""Before the type of a column that is written as positions and then counts."""

_DEFLATED = "z"
"""Before all that, where the column is compressed."""

_POSITION = np.dtype("<u2")


def pack(counts: Mapping[int, Column]) -> bytes:
    """The columns that are not all zero."""
    packed = {index: _packed(column) for index, column in counts.items() if column.any()}
    return msgspec.msgpack.encode(packed)


def _packed(column: Column) -> tuple[str, bytes]:
    kind = next(one for one in _DENSE if column.max() <= np.iinfo(one).max)
    width = np.dtype(kind).itemsize
    (positions,) = column.nonzero()
    if len(positions) * (width + _POSITION.itemsize) < len(column) * width // 2:
        body = positions.astype(_POSITION).tobytes() + column[positions].astype(kind).tobytes()
        kind = _SPARSE + kind
    else:
        body = column.astype(kind).tobytes()
    smaller = zlib.compress(body, 1)
    # What is dense shrinks little, and would only be slow to read.
    return (_DEFLATED + kind, smaller) if len(smaller) < len(body) / 2 else (kind, body)


def unpack(body: bytes, bins: int) -> dict[int, Column]:
    """What `pack` packed.

    Raises:
        msgspec.DecodeError: the bytes are damaged.
    """
    return unpack_all([body], bins)[0]


def unpack_all(bodies: Sequence[bytes], bins: int) -> list[dict[int, Column]]:
    """What `pack` packed, of blocks of one tier; many together at a fraction of the cost.

    Raises:
        msgspec.DecodeError: the bytes are damaged.
    """
    try:
        # Blocks used to be compressed as a whole. zlib's first byte says 8, its method;
        # msgpack's of a map is 0x80 or more.
        packed = [
            _decoder.decode(body if body[:1] >= b"\x80" else zlib.decompress(body))
            for body in bodies
        ]
    except (zlib.error, ValueError) as error:
        raise msgspec.DecodeError(f"a damaged block: {error}") from error
    data: dict[str, list[bytes]] = {}
    for one in packed:
        for kind, column in one.values():
            if (of_kind := data.get(kind)) is None:
                of_kind = data[kind] = []
            of_kind.append(column)
    columns = {kind: _columns(kind, some, bins) for kind, some in data.items()}
    return [{index: next(columns[kind]) for index, (kind, _) in one.items()} for one in packed]


def _columns(kind: str, bodies: Sequence[bytes], bins: int) -> Iterator[Column]:
    """The columns of one kind."""
    if kind.startswith(_DEFLATED):
        try:
            bodies = list(map(zlib.decompress, bodies))
        except zlib.error as error:
            raise msgspec.DecodeError(f"a damaged block: {error}") from error
        kind = kind[1:]
    dense = kind.removeprefix(_SPARSE)
    if dense not in _DENSE:
        raise msgspec.DecodeError(f"a damaged block: counts of type {kind!r}")
    width = np.dtype(dense).itemsize
    if kind == dense:
        if set(map(len, bodies)) != {bins * width}:
            raise msgspec.DecodeError(f"a damaged block: expected {bins} bins")
        return iter(np.frombuffer(b"".join(bodies), dense).reshape(-1, bins))
    each = width + _POSITION.itemsize
    lengths, rests = zip(*(divmod(len(body), each) for body in bodies), strict=True)
    if any(rests):
        raise msgspec.DecodeError(f"a damaged block: counts of type {kind!r} cut off")
    ends = [length * _POSITION.itemsize for length in lengths]
    positions = np.frombuffer(b"".join(map(_head, bodies, ends)), _POSITION)
    if positions.max(initial=0) >= bins:
        raise msgspec.DecodeError(f"a damaged block: expected {bins} bins")
    columns = np.zeros((len(bodies), bins), dense)
    rows = np.repeat(np.arange(len(bodies)), lengths)
    columns[rows, positions] = np.frombuffer(b"".join(map(_tail, bodies, ends)), dense)
    return iter(columns)


def _head(body: bytes, end: int) -> bytes:
    return body[:end]


def _tail(body: bytes, end: int) -> bytes:
    return body[end:]
