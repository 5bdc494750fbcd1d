"""Identities that were claimed: a log of the recent ones before tables of all.

A table with a row for each identity is written all over: they are hashes, and each costs a page.
So identities are appended to the log `claimed` and kept in memory until there are many. These are
then merged into the table `seen`, whose rows hold hundreds of identities each, all that begin with
the same bits; some rows at a time, so that no commit waits long. What must not be in there, a
filter in memory knows without reading. Answers to repeat are few, and have a row each.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np

from exporter.storage.contract import DIGEST_BYTES
from exporter.storage.filter import Filter

MANY = 50_000  # identities; about 6 MB of memory, twice that while they are merged
SLICE = 256  # rows written at a time, in a few milliseconds
ROWS_READ = 100  # at a time, at the start: few enough for the processor's cache

BUCKET_BITS = 10
PART_BITS = 20
FULL = 224  # identities in a row, on average, before the next is begun: they fit into a page

_TABLES = {
    "seen": "(place INTEGER PRIMARY KEY, digests BLOB NOT NULL)",  # place: bucket, then part
    "answered": "(digest BLOB PRIMARY KEY, answer BLOB NOT NULL) WITHOUT ROWID",
}
_PERIODS = ("", "_before")
SCHEMA = "CREATE TABLE claimed (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);" + "".join(
    f"CREATE TABLE {name}{period} {columns};"
    for period in _PERIODS
    for name, columns in _TABLES.items()
)

_MERGE = {
    "seen": "INSERT INTO seen VALUES (?, ?) "
    "ON CONFLICT (place) DO UPDATE SET digests = CAST(digests || excluded.digests AS BLOB)",
    "answered": "INSERT OR IGNORE INTO answered VALUES (?, ?)",
}

Rows = Sequence[tuple[int | bytes, bytes]]

Claimed = dict[bytes, bytes | None]
"""Identity -> the answer it was given, None where there is none to repeat."""

_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[tuple[bytes, bytes]]])


class Identities:
    """All identities of a database, and how they are written.

    `append`, `merge_some` and `rotate` need a transaction around them; `remember`, `merged_some`
    and `rotated` say that it was committed.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: Claimed = {}
        self._merging: Claimed = {}
        self._slices: list[tuple[str, Rows]] = []
        self._merged_to = 0
        self._filters = [self._filter_of(period) for period in _PERIODS]
        for (body,) in db.execute("SELECT body FROM claimed ORDER BY seq"):
            digests, answers = _decoder.decode(body)
            self._recent.update(dict.fromkeys(_split(digests)))
            self._recent.update(answers)

    def _filter_of(self, period: str) -> Filter:
        made = Filter()
        query = f"SELECT digests FROM seen{period} UNION ALL SELECT digest FROM answered{period}"  # noqa: S608 - names of ours
        rows = self._db.execute(query)
        while some := rows.fetchmany(ROWS_READ):
            together = b"".join([digests for (digests,) in some])
            if len(together) % DIGEST_BYTES:
                raise msgspec.DecodeError("a damaged row of identities")
            made.add(together)
        return made

    def seen(self, digests: Sequence[bytes]) -> Claimed:
        """Those of `digests` that were claimed before, with the answers they were given."""
        found: Claimed = {}
        if not digests:
            return found
        for held in (self._recent, self._merging):
            for digest in held.keys() & digests:
                found[digest] = held[digest]
        together = b"".join(digests)
        for period, known in zip(_PERIODS, self._filters, strict=True):
            for at in known.likely(together):
                found.update(self._look_up(digests[at], period))
        return found

    def _look_up(self, digest: bytes, period: str) -> Claimed:
        """What a period's tables hold of one identity."""
        first = _bucket(digest) << PART_BITS
        query = f"SELECT digests FROM seen{period} WHERE place BETWEEN ? AND ?"  # noqa: S608 - a name of ours
        rows = self._db.execute(query, (first, first + (1 << PART_BITS) - 1)).fetchall()
        # Across the border of two hashes a third does not come about by chance.
        if any(digest in digests for (digests,) in rows):
            return {digest: None}
        query = f"SELECT digest, answer FROM answered{period} WHERE digest = ?"  # noqa: S608 - likewise
        return dict(self._db.execute(query, (digest,)).fetchall())

    def append(self, claimed: Mapping[bytes, bytes | None]) -> None:
        """Write identities to the log."""
        if claimed:
            body = msgspec.msgpack.encode(_parted(claimed))
            self._db.execute("INSERT INTO claimed (body) VALUES (?)", (body,))

    def remember(self, claimed: Claimed) -> None:
        """Take notice of identities whose transaction is over."""
        self._recent.update(claimed)

    @property
    def unmerged(self) -> bool:
        """Some are in the log only."""
        return bool(self._merging or self._recent)

    @property
    def due(self) -> bool:
        """There are many to merge, or a merge has begun."""
        return bool(self._merging) or len(self._recent) > MANY

    def merge_some(self) -> None:
        """Merge some rows into the tables, and after the last cut the log."""
        if not self._merging:
            (self._merged_to,) = self._db.execute("SELECT max(seq) FROM claimed").fetchone()
            self._merging, self._recent = self._recent, {}
            digests, answers = _parted(self._merging)
            merged = {"seen": _rows(digests, self._filters[0].added), "answered": sorted(answers)}
            self._slices = [
                (_MERGE[table], rows[start : start + SLICE])
                for table, rows in merged.items()
                for start in range(0, len(rows), SLICE)
            ]
        # A process that was killed may have merged some of these already: twice does no harm.
        self._db.executemany(*self._slices[0])
        if len(self._slices) == 1:
            self._db.execute("DELETE FROM claimed WHERE seq <= ?", (self._merged_to,))

    def merged_some(self) -> None:
        """Take notice that the transaction of the last rows is over."""
        del self._slices[0]
        if not self._slices:
            self._filters[0].add(b"".join(self._merging))
            self._merging = {}

    def rotate(self) -> None:
        """Put the tables of all away, and those put away before out of the world."""
        for name, columns in _TABLES.items():
            self._db.execute(f"DROP TABLE {name}_before")
            self._db.execute(f"ALTER TABLE {name} RENAME TO {name}_before")
            self._db.execute(f"CREATE TABLE {name} {columns}")

    def rotated(self) -> None:
        """Take notice that the transaction of a rotation is over."""
        self._filters = [Filter(), self._filters[0]]


def _parted(claimed: Mapping[bytes, bytes | None]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Identities without an answer, one after the other, and those that have one."""
    answers = [(digest, answer) for digest, answer in claimed.items() if answer is not None]
    if not answers:
        return b"".join(claimed), answers
    return b"".join([digest for digest, answer in claimed.items() if answer is None]), answers


def _split(digests: bytes) -> Iterator[bytes]:
    for start in range(0, len(digests), DIGEST_BYTES):
        yield digests[start : start + DIGEST_BYTES]


def _bucket(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "big") >> (16 - BUCKET_BITS)


def _rows(digests: bytes, before: int) -> Rows:
    """Identities as rows of `seen`, in its order, when that holds `before` already."""
    part = before // (FULL << BUCKET_BITS)
    each = np.frombuffer(digests, np.uint8).reshape(-1, DIGEST_BYTES)
    buckets = each[:, :2].copy().view(">u2").ravel() >> (16 - BUCKET_BITS)
    order = np.argsort(buckets, kind="stable")
    together = each[order].tobytes()
    present, counts = np.unique(buckets, return_counts=True)
    ends = (counts.cumsum() * DIGEST_BYTES).tolist()
    return [
        (bucket << PART_BITS | part, together[start:end])
        for bucket, start, end in zip(present.tolist(), [0, *ends], ends, strict=False)
    ]
