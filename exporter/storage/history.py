"""Usage in a SQLite file: a journal of what was committed before blocks of sums.

A commit appends one row to `journal`, whatever its size, so a push costs one small write and one
sync. Every so often the increments in it are folded into `block` and `total`, the forms in which
history is read back: a few providers at a time, so that no commit waits long, each marked in
`folded` with the last row of the journal that was; after the last of them the journal is cut.
"""

import sqlite3
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from exporter.core.slots import (
    MAX_SUM,
    TIERS,
    WIDTH,
    Block,
    Cell,
    Counts,
    Increments,
    Tier,
    add,
    blocks_of,
    merge,
)
from exporter.storage.packing import pack, unpack, unpack_all

SCHEMA = """
CREATE TABLE journal (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE block (
  provider TEXT, tier TEXT, number INTEGER, body BLOB NOT NULL,
  PRIMARY KEY (provider, tier, number)
);
CREATE TABLE total (
  provider TEXT, model TEXT, counts BLOB NOT NULL, PRIMARY KEY (provider, model)
) WITHOUT ROWID;
CREATE TABLE folded (provider TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
"""

FOLD_CELLS = 20_000  # bounds the memory for, and the replay of, what is not folded yet
FOLD_SECONDS = 60.0
SLICE = 100  # cells folded at a time, in a few milliseconds; more while many wait
READ_BLOCKS = 100  # at a time: more are no quicker to unpack

_journal_decoder = msgspec.msgpack.Decoder(list[tuple[Cell, Counts]])
_counts_decoder = msgspec.msgpack.Decoder(Counts)
_encode = msgspec.msgpack.encode


class History:
    """All usage in a database, and how it is written.

    `append` and `fold_some` need a transaction around them; `remember` and `folded_some` say that
    it was committed.
    """

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        self._db = db
        self._recent: Increments = {}
        self._folding: dict[str, Increments] = {}
        self._some: list[str] = []
        self._folded_to = 0
        self._folded_at = now
        done = dict(db.execute("SELECT provider, seq FROM folded").fetchall())
        for seq, body in db.execute("SELECT seq, body FROM journal ORDER BY seq"):
            cells = _journal_decoder.decode(body)
            merge(self._recent, {one: c for one, c in cells if seq > done.get(one[0], 0)})

    def append(self, added: Increments) -> None:
        """Write increments to the journal."""
        if added:
            body = _encode(list(added.items()))
            self._db.execute("INSERT INTO journal (body) VALUES (?)", (body,))

    def remember(self, added: Increments) -> None:
        """Take notice of increments whose transaction is over."""
        merge(self._recent, added)

    def due(self, now: float) -> bool:
        """There is much to fold, or what there is has waited long, or folding has begun."""
        waited = now - self._folded_at > FOLD_SECONDS and bool(self._recent)
        return bool(self._folding) or len(self._recent) > FOLD_CELLS or waited

    @property
    def unfolded(self) -> bool:
        """Some increments are in the journal only."""
        return bool(self._folding or self._recent)

    def fold_some(self, now: float) -> None:
        """Fold what some providers used, and after the last cut the journal."""
        if not self._folding:
            (self._folded_to,) = self._db.execute("SELECT max(seq) FROM journal").fetchone()
            self._folded_at = now
            folding: dict[str, Increments] = {}
            for cell, counts in self._recent.items():
                folding.setdefault(cell[0], {})[cell] = counts
            self._folding, self._recent = folding, {}
        self._some, cells, enough = [], 0, SLICE + len(self._recent) // 50
        for provider, increments in self._folding.items():
            self._some.append(provider)
            self._fold_blocks(increments, now)
            self._fold_totals(increments)
            cells += len(increments)
            if cells >= enough:
                break
        if len(self._some) < len(self._folding):
            marks = [(provider, self._folded_to) for provider in self._some]
            self._db.executemany("INSERT OR REPLACE INTO folded VALUES (?, ?)", marks)
        else:
            self._db.execute("DELETE FROM journal WHERE seq <= ?", (self._folded_to,))
            self._db.execute("DELETE FROM folded")

    def folded_some(self) -> None:
        """Take notice that the transaction of the last `fold_some` is over."""
        for provider in self._some:
            del self._folding[provider]

    def _fold_blocks(self, increments: Increments, now: float) -> None:
        rows = []
        for block in blocks_of(increments, now):
            key = (block.provider, block.tier.name, block.number)
            row = self._db.execute(
                "SELECT body FROM block WHERE provider = ? AND tier = ? AND number = ?", key
            ).fetchone()
            if row is not None:
                for kind, counts in unpack(row[0], block.tier.bins).items():
                    if kind in block.counts:
                        block.counts[kind] = np.minimum(block.counts[kind] + counts, MAX_SUM)
                    else:
                        block.counts[kind] = counts
            rows.append((*key, pack(block.counts)))
        self._db.executemany("INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?)", rows)

    def _fold_totals(self, increments: Increments) -> None:
        added: dict[tuple[str, str], Counts] = {}
        for (provider, model, _), counts in increments.items():
            add(added, (provider, model), counts)
        for owner, counts in added.items():
            row = self._db.execute(
                "SELECT counts FROM total WHERE provider = ? AND model = ?", owner
            ).fetchone()
            held = _counts_decoder.decode(row[0]) if row else [0] * WIDTH
            held = [min(old + new, MAX_SUM) for old, new in zip(held, counts, strict=True)]
            self._db.execute(
                "INSERT OR REPLACE INTO total VALUES (?, ?, ?)", (*owner, _encode(held))
            )

    def totals(self) -> Mapping[tuple[str, str], Counts]:
        """(provider, model) -> counts since the beginning, of what is folded."""
        return {
            (provider, model): _counts_decoder.decode(counts)
            for provider, model, counts in self._db.execute("SELECT * FROM total")
        }

    def blocks(self) -> Iterator[Block]:
        """All blocks, of what is folded."""
        rows = self._db.execute("SELECT tier, provider, number, body FROM block")
        while some := rows.fetchmany(READ_BLOCKS):
            for tier in TIERS:
                of_tier = [row for row in some if row[0] == tier.name]
                counts = unpack_all([row[3] for row in of_tier], tier.bins)
                for (_, provider, number, _), each in zip(of_tier, counts, strict=True):
                    yield Block(provider, tier, number, each)

    def prune(self, tier: Tier, oldest: int) -> None:
        """Drop the blocks of a tier before that number."""
        self._db.execute("DELETE FROM block WHERE tier = ? AND number < ?", (tier.name, oldest))
