"""Identities that were claimed: a log of the recent ones before tables of all.

A table with a row for each identity is written all over: they are hashes, and each costs a page.
So identities are appended to the log `claimed` and kept in memory until there are many. These are
then merged into the table `seen`, whose rows hold hundreds of identities each, all that begin with
the same bits; some rows at a time, so that no commit waits long. What is not in there, a filter in
memory knows without reading.
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

LENGTH_BYTES = 4  # before each answer

_TABLE = "(place INTEGER PRIMARY KEY, digests BLOB NOT NULL, answers BLOB NOT NULL)"
_PERIODS = ("seen", "seen_before")
SCHEMA = "CREATE TABLE claimed (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);" + "".join(
    f"CREATE TABLE {table} {_TABLE};" for table in _PERIODS
)
_MERGE = """
INSERT INTO seen VALUES (?, ?, ?) ON CONFLICT (place) DO UPDATE
SET digests = CAST(digests || excluded.digests AS BLOB),
    answers = CAST(answers || excluded.answers AS BLOB)
"""

Row = tuple[int, bytes, bytes]
"""Place (a bucket, then a part of it), identities, and what was answered to some of them: for each
its identity, the length of the answer, and that."""

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
        self._rows: list[Row] = []
        self._merged_to = 0
        self._filters = [self._filter_of(table) for table in _PERIODS]
        for (body,) in db.execute("SELECT body FROM claimed ORDER BY seq"):
            digests, answers = _decoder.decode(body)
            self._recent.update(dict.fromkeys(_split(digests)))
            self._recent.update(answers)

    def _filter_of(self, table: str) -> Filter:
        made = Filter()
        rows = self._db.execute(f"SELECT digests FROM {table}")  # noqa: S608 - a name of ours
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
        for table, known in zip(_PERIODS, self._filters, strict=True):
            for at in known.likely(together):
                found.update(self._look_up(digests[at], table))
        return found

    def _look_up(self, digest: bytes, table: str) -> Claimed:
        """What a table holds of one identity."""
        first = _bucket(digest) << PART_BITS
        query = f"SELECT digests, answers FROM {table} WHERE place BETWEEN ? AND ?"  # noqa: S608 - a name of ours
        rows = self._db.execute(query, (first, first + (1 << PART_BITS) - 1)).fetchall()
        for digests, answers in rows:
            # Across the border of two hashes a third does not come about by chance.
            if digest in digests:
                return {digest: dict(_answers(answers)).get(digest)}
        return {}

    def append(self, claimed: Mapping[bytes, bytes | None]) -> None:
        """Write identities to the log."""
        if claimed:
            answers = [(digest, answer) for digest, answer in claimed.items() if answer is not None]
            body = msgspec.msgpack.encode((b"".join(claimed), answers))
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
        """Merge some rows into the table, and after the last cut the log."""
        if not self._merging:
            (self._merged_to,) = self._db.execute("SELECT max(seq) FROM claimed").fetchone()
            self._rows = _rows(self._recent, self._filters[0].added)
            self._merging, self._recent = self._recent, {}  # last: memory may run out before
        # A process that was killed may have merged some of these already: twice does no harm.
        self._db.executemany(_MERGE, self._rows[:SLICE])
        if len(self._rows) <= SLICE:
            self._db.execute("DELETE FROM claimed WHERE seq <= ?", (self._merged_to,))

    def merged_some(self) -> None:
        """Take notice that the transaction of the last rows is over."""
        del self._rows[:SLICE]
        if not self._rows:
            self._filters[0].add(b"".join(self._merging))
            self._merging = {}

    def rotate(self) -> None:
        """Put the table of all away, and the one that was put away before out of the world."""
        self._db.execute("DROP TABLE seen_before")
        self._db.execute("ALTER TABLE seen RENAME TO seen_before")
        self._db.execute(f"CREATE TABLE seen {_TABLE}")

    def rotated(self) -> None:
        """Take notice that the transaction of a rotation is over."""
        self._filters = [Filter(), self._filters[0]]


def _split(digests: bytes) -> Iterator[bytes]:
    for start in range(0, len(digests), DIGEST_BYTES):
        yield digests[start : start + DIGEST_BYTES]


def _bucket(digest: bytes) -> int:
    return int.from_bytes(digest[:2], "big") >> (16 - BUCKET_BITS)


def _answers(answers: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The identities and answers of a row."""
    start = 0
    while start < len(answers):
        begin = start + DIGEST_BYTES + LENGTH_BYTES
        end = begin + int.from_bytes(answers[begin - LENGTH_BYTES : begin], "big")
        yield answers[start : start + DIGEST_BYTES], answers[begin:end]
        start = end


def _rows(claimed: Claimed, before: int) -> list[Row]:
    """Identities as rows of `seen`, in its order, when that holds `before` already."""
    answers: dict[int, bytes] = {}
    for digest, answer in claimed.items():
        if answer is not None:
            entry = digest + len(answer).to_bytes(LENGTH_BYTES, "big") + answer
            bucket = _bucket(digest)
            answers[bucket] = answers.get(bucket, b"") + entry
    each = np.frombuffer(b"".join(claimed), np.uint8).reshape(-1, DIGEST_BYTES)
    buckets = each[:, :2].copy().view(">u2").ravel() >> (16 - BUCKET_BITS)
    together = each[np.argsort(buckets, kind="stable")].tobytes()
    present, counts = np.unique(buckets, return_counts=True)
    ends = (counts.cumsum() * DIGEST_BYTES).tolist()
    part = before // (FULL << BUCKET_BITS)
    return [
        (bucket << PART_BITS | part, together[start:end], answers.get(bucket, b""))
        for bucket, start, end in zip(present.tolist(), [0, *ends], ends, strict=False)
    ]
