"""Usage in a SQLite file: a journal of what was committed before blocks of sums.

A commit appends one row to `journal`, whatever its size, so a push costs one small write and one
sync. Every so often the increments in it are folded into `block` and `series`, the forms in which
history is read back: a few series at a time, so that no commit waits long, each marked in
`folded` with the last row of the journal that was; after the last of them the journal is cut.
"""

import math
import sqlite3
from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from exporter.core.series import Series, decode, encode
from exporter.core.slots import (
    FINE_SECONDS,
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
CREATE TABLE series (
  id INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE, counts BLOB NOT NULL, touched REAL NOT NULL
);
CREATE TABLE block (
  series INTEGER NOT NULL, tier TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (tier, number, series)
);
CREATE TABLE folded (series INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
"""

_BLOCKS = """
SELECT tier, series, number, body, rowid FROM block WHERE rowid > ? ORDER BY rowid LIMIT ?
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
        self._folding: dict[Series, Increments] = {}
        self._some: dict[Series, int] = {}
        self._folded_to = 0
        self._folded_at = now
        # No later than the first commit that is not folded: a clock that was set ahead since must
        # not make its fine slots look too old to keep.
        self._recent_since = math.inf
        self._folding_since = now
        self._ids = {
            decode(labels): number for number, labels in db.execute("SELECT id, labels FROM series")
        }
        marks = dict(db.execute("SELECT series, seq FROM folded").fetchall())
        done = {series: marks.get(number, 0) for series, number in self._ids.items()}
        for seq, body in db.execute("SELECT seq, body FROM journal ORDER BY seq"):
            cells = _journal_decoder.decode(body)
            merge(self._recent, {one: c for one, c in cells if seq > done.get(one[0], 0)})
        if self._recent:
            self._recent_since = max(slot for _, slot in self._recent) * FINE_SECONDS

    def append(self, added: Increments) -> None:
        """Write increments to the journal."""
        if added:
            body = _encode(list(added.items()))
            self._db.execute("INSERT INTO journal (body) VALUES (?)", (body,))

    def remember(self, added: Increments, now: float) -> None:
        """Take notice of increments whose transaction is over."""
        merge(self._recent, added)
        self._recent_since = min(self._recent_since, now)

    def due(self, now: float) -> bool:
        """There is much to fold, or what there is has waited long, or folding has begun."""
        waited = abs(now - self._folded_at) > FOLD_SECONDS and bool(self._recent)
        return bool(self._folding) or len(self._recent) > FOLD_CELLS or waited

    @property
    def folding(self) -> bool:
        """Some of what is being folded is not yet."""
        return bool(self._folding)

    @property
    def unfolded(self) -> int:
        """How many cells are in the journal only."""
        return len(self._recent) + sum(map(len, self._folding.values()))

    def fold_some(self, now: float) -> None:
        """Fold what some series used, and after the last cut the journal."""
        if not self._folding:
            (self._folded_to,) = self._db.execute("SELECT max(seq) FROM journal").fetchone()
            self._folded_at = now
            folding: dict[Series, Increments] = {}
            for cell, counts in self._recent.items():
                folding.setdefault(cell[0], {})[cell] = counts
            self._folding, self._recent = folding, {}
            self._folding_since = min(now, self._recent_since)
            self._recent_since = math.inf
        self._some, cells, enough = {}, 0, SLICE + len(self._recent) // 50
        for series, increments in self._folding.items():
            number = self._some[series] = self._fold_total(series, increments, now)
            self._fold_blocks(number, increments, self._folding_since)
            cells += len(increments)
            if cells >= enough:
                break
        if len(self._some) < len(self._folding):
            marks = [(number, self._folded_to) for number in self._some.values()]
            self._db.executemany("INSERT OR REPLACE INTO folded VALUES (?, ?)", marks)
        else:
            self._db.execute("DELETE FROM journal WHERE seq <= ?", (self._folded_to,))
            self._db.execute("DELETE FROM folded")

    def folded_some(self) -> None:
        """Take notice that the transaction of the last `fold_some` is over."""
        self._ids.update(self._some)
        for series in self._some:
            del self._folding[series]

    def _fold_total(self, series: Series, increments: Increments, now: float) -> int:
        """Add to the sum of a series; the number that its blocks bear."""
        summed: dict[None, Counts] = {None: [0] * WIDTH}
        for counts in increments.values():
            add(summed, None, counts)
        number = self._ids.get(series)
        if number is not None:
            row = self._db.execute("SELECT counts FROM series WHERE id = ?", (number,)).fetchone()
            add(summed, None, _counts_decoder.decode(row[0]))
        body = _encode([min(count, MAX_SUM) for count in summed[None]])
        if number is None:
            values = (encode(series), body, now)
            (number,) = self._db.execute(
                "INSERT INTO series (labels, counts, touched) VALUES (?, ?, ?) RETURNING id", values
            ).fetchone()
        else:
            self._db.execute(
                "UPDATE series SET counts = ?, touched = ? WHERE id = ?", (body, now, number)
            )
        return int(number)

    def _fold_blocks(self, number: int, increments: Increments, now: float) -> None:
        rows = []
        for block in blocks_of(increments, now):
            key = (number, block.tier.name, block.number)
            row = self._db.execute(
                "SELECT body FROM block WHERE series = ? AND tier = ? AND number = ?", key
            ).fetchone()
            if row is not None:
                for index, counts in unpack(row[0], block.tier.bins).items():
                    if index in block.counts:
                        block.counts[index] = np.minimum(block.counts[index] + counts, MAX_SUM)
                    else:
                        block.counts[index] = counts
            rows.append((*key, pack(block.counts)))
        self._db.executemany("INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?)", rows)

    def totals(self) -> Mapping[Series, Counts]:
        """Series -> counts since the beginning, of what is folded."""
        rows = self._db.execute("SELECT labels, counts FROM series")
        summed = ((decode(labels), _counts_decoder.decode(counts)) for labels, counts in rows)
        # Of a layout in which blocks had no models there is history that is in no sum.
        return {series: counts for series, counts in summed if any(counts)}

    def blocks(self) -> Iterator[Block]:
        """All blocks, of what is folded."""
        series_of = {number: series for series, number in self._ids.items()}
        last = 0  # not one cursor: what is committed meanwhile may end it
        while some := self._db.execute(_BLOCKS, (last, READ_BLOCKS)).fetchall():
            last = some[-1][4]
            for tier in TIERS:
                of_tier = [row[:4] for row in some if row[0] == tier.name]
                counts = unpack_all([row[3] for row in of_tier], tier.bins)
                for (_, series, number, _), each in zip(of_tier, counts, strict=True):
                    if series not in series_of:
                        raise msgspec.DecodeError(f"a damaged block: of no series, {series}")
                    yield Block(series_of[series], tier, number, each)

    def prune(self, tier: Tier, oldest: int) -> None:
        """Drop the blocks of a tier before that number."""
        self._db.execute("DELETE FROM block WHERE tier = ? AND number < ?", (tier.name, oldest))
