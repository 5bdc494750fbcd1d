"""Identities that were claimed: a log of the recent ones before a table of all.

A table in the order of hashes is written all over: one page for each identity. So identities are
appended to the log `claimed` and kept in memory until there are many; these are then merged into
the table `seen` in its own order, where neighbours share the write of a page, a slice at a time
so that no commit waits long.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from exporter.storage.contract import DIGEST_BYTES

MANY = 50_000  # identities; about 6 MB of memory, twice that while they are merged
SLICE = 1_000  # identities merged at a time, in a few milliseconds
LOOKUP = 500  # identities per SELECT, below SQLite's oldest limit of 999 variables
ROWS = 250  # identities per INSERT, likewise; a statement for each takes twice as long

Claimed = dict[bytes, bytes | None]
"""Identity -> the answer it was given, None where there is none to repeat."""

_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[tuple[bytes, bytes]]])


class Identities:
    """All identities of a database, and how they are written.

    `append` and `merge_some` need a transaction around them; `remember` and `merged_some` say that
    it was committed.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._recent: Claimed = {}
        self._merging: Claimed = {}
        self._ordered: list[bytes] = []
        self._merged_to = 0
        self._filled = self._tables_in_use()
        for (body,) in db.execute("SELECT body FROM claimed ORDER BY seq"):
            digests, answers = _decoder.decode(body)
            self._recent.update(dict.fromkeys(_split(digests)))
            self._recent.update(answers)

    def seen(self, digests: Sequence[bytes]) -> Claimed:
        """Those of `digests` that were claimed before, with the answers they were given."""
        found: Claimed = {}
        for held in (self._recent, self._merging):
            for digest in held.keys() & digests:
                found[digest] = held[digest]
        for table in self._filled:
            for start in range(0, len(digests), LOOKUP):
                some = digests[start : start + LOOKUP]
                marks = ",".join("?" * len(some))
                query = f"SELECT digest, answer FROM {table} WHERE digest IN ({marks})"  # noqa: S608 - only a name of ours and marks are put in
                found.update(self._db.execute(query, some).fetchall())
        return found

    def append(self, claimed: Mapping[bytes, bytes | None]) -> None:
        """Write identities to the log."""
        if claimed:
            answers = [(key, answer) for key, answer in claimed.items() if answer is not None]
            digests = b"".join([key for key, answer in claimed.items() if answer is None])
            body = msgspec.msgpack.encode((digests, answers))
            self._db.execute("INSERT INTO claimed (body) VALUES (?)", (body,))

    def remember(self, claimed: Claimed) -> None:
        """Take notice of identities whose transaction is over."""
        self._recent.update(claimed)

    def rotate(self) -> None:
        """Put the table of all away, and the one that was put away before out of the world."""
        self._db.execute("DROP TABLE seen_before")
        self._db.execute("ALTER TABLE seen RENAME TO seen_before")
        self._db.execute("CREATE TABLE seen (digest BLOB PRIMARY KEY, answer BLOB) WITHOUT ROWID")
        self._filled = ("seen", "seen_before")

    def _tables_in_use(self) -> tuple[str, ...]:
        """Those that hold anything; the others need not be asked."""
        tables = ("seen", "seen_before")
        query = "SELECT EXISTS (SELECT 1 FROM {})"
        return tuple(one for one in tables if self._db.execute(query.format(one)).fetchone()[0])

    @property
    def unmerged(self) -> bool:
        """Some are in the log only."""
        return bool(self._merging or self._recent)

    @property
    def due(self) -> bool:
        """There are many to merge, or a merge has begun."""
        return bool(self._merging) or len(self._recent) > MANY

    def merge_some(self) -> None:
        """Merge a slice into the table, and after the last cut the log."""
        if not self._merging:
            (self._merged_to,) = self._db.execute("SELECT max(seq) FROM claimed").fetchone()
            self._merging, self._recent = self._recent, {}
            self._ordered = sorted(self._merging)
        some = self._ordered[:SLICE]
        for start in range(0, len(some), ROWS):
            digests = some[start : start + ROWS]
            rows = ",".join(["(?, ?)"] * len(digests))
            values = [value for digest in digests for value in (digest, self._merging[digest])]
            # A process that was killed may have merged some of these already.
            self._db.execute(f"INSERT OR IGNORE INTO seen VALUES {rows}", values)  # noqa: S608 - only marks are put in
        if len(some) == len(self._ordered):
            self._db.execute("DELETE FROM claimed WHERE seq <= ?", (self._merged_to,))

    def merged_some(self) -> None:
        """Take notice that the transaction of the last slice is over."""
        del self._ordered[:SLICE]
        self._filled = self._tables_in_use()
        if not self._ordered:
            self._merging = {}


def _split(digests: bytes) -> Iterator[bytes]:
    for start in range(0, len(digests), DIGEST_BYTES):
        yield digests[start : start + DIGEST_BYTES]
