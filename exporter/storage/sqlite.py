"""One machine, one file: SQLite in write-ahead mode, synced before a commit returns.

A commit appends one row to `journal`, whatever its size, so a push costs one small write and one
sync. Every so often the journalled increments are folded into `block` and `total`, the forms in
which history is read back, and the journal is emptied in the same transaction. With identities it
is much the same; see `Identities`.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import msgspec
import numpy as np

from exporter.core.slots import (
    COARSE,
    FINE,
    FINE_HORIZON_SECONDS,
    MOST,
    TIERS,
    WIDTH,
    Block,
    Cell,
    Counts,
    Increments,
    add,
    blocks_of,
    merge,
    rise,
    total,
)
from exporter.storage import identities
from exporter.storage.contract import (
    Answer,
    Batch,
    Changes,
    Claims,
    Committed,
    CorruptStorage,
    Level,
    StorageError,
)
from exporter.storage.identities import Claimed, Identities
from exporter.storage.packing import pack, unpack, unpack_all

APPLICATION_ID = 0x4C4C4D51  # "LLMQ": tells our file from anybody else's
SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE journal (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE block (
  provider TEXT, tier TEXT, number INTEGER, body BLOB NOT NULL,
  PRIMARY KEY (provider, tier, number)
);
CREATE TABLE total (
  provider TEXT, model TEXT, counts BLOB NOT NULL, PRIMARY KEY (provider, model)
) WITHOUT ROWID;
CREATE TABLE level (
  digest BLOB PRIMARY KEY, started REAL NOT NULL, counts BLOB NOT NULL, touched REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE document (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE life (created REAL NOT NULL, rotated REAL NOT NULL);
"""

FOLD_CELLS = 20_000  # bounds the memory for, and the replay of, what is not folded yet
FOLD_SECONDS = 60.0
READ_BLOCKS = 100  # at a time: more are no quicker to unpack

_journal_decoder = msgspec.msgpack.Decoder(list[tuple[Cell, Counts]])
_counts_decoder = msgspec.msgpack.Decoder(Counts)
_answer_decoder = msgspec.msgpack.Decoder(Answer)
_encode = msgspec.msgpack.encode


class SqliteStore:
    """`Store` in one SQLite file, or in memory for the path `:memory:`.

    The file is locked for as long as it is open: a second exporter on it would count against
    sums it cannot see.
    """

    shared = False

    def __init__(self, path: str, *, retention: float, deduplication: float, now: float) -> None:
        self._path = path
        self._retention = retention
        self._deduplication = deduplication
        self._pending: Increments = {}
        self._folded_at = now
        self.warnings: tuple[str, ...] = ()
        if path == ":memory:":
            self.warnings = ("memory://: all counts are lost when the process ends",)
        with self._errors("open"):
            if path != ":memory:":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=2.0
            )
        try:
            with self._errors("open"):
                self._prepare(now)
                for (body,) in self._db.execute("SELECT body FROM journal ORDER BY seq"):
                    merge(self._pending, dict(_journal_decoder.decode(body)))
                self._identities = Identities(self._db)
        except StorageError:
            self._db.close()
            raise

    def _prepare(self, now: float) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        new = application == 0 and tables == 0
        if not new:
            self._check_ours(application, version)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # the log is synced at every commit
        db.execute("PRAGMA cache_size = -4000")  # 16 MB were no quicker, folding or with identities
        if new:
            with self._transaction():
                for statement in (SCHEMA + identities.SCHEMA).split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO life VALUES (?, ?)", (now, now))
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.created, self._rotated = db.execute("SELECT created, rotated FROM life").fetchone()

    def _check_ours(self, application: int, version: int) -> None:
        if application != APPLICATION_ID:
            raise StorageError(
                f"{self._path}: a database of another program (application_id {application:#x}); "
                "choose another path"
            )
        if version != SCHEMA_VERSION:
            raise StorageError(
                f"{self._path}: written by another version (schema {version}, this one reads "
                f"{SCHEMA_VERSION}); run that version, or choose another path"
            )

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (sqlite3.DatabaseError, msgspec.DecodeError, OSError) as error:
            code = getattr(error, "sqlite_errorname", "")
            where = f"{self._path}: cannot {doing}: {error}"
            if code == "SQLITE_BUSY":
                raise StorageError(f"{where}; another process has it open") from error
            if code in ("SQLITE_CORRUPT", "SQLITE_NOTADB") or isinstance(
                error, msgspec.DecodeError
            ):
                raise CorruptStorage(
                    f"{where}; nothing was changed. Stop the exporter, keep a copy of the file, "
                    f"then recover it (sqlite3 {self._path} .recover | sqlite3 recovered.db) or "
                    "restore a backup; move it away to start empty"
                ) from error
            raise StorageError(where) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        """See `Store.commit`."""
        # A single statement is a transaction by itself, at a third of the calls.
        single = not any(one.key or one.claims or one.levels or one.documents for one in batches)
        with self._errors("store"), nullcontext() if single else self._transaction():
            # One look for the whole group: what it finds, and what the group claims itself.
            digests = [one for batch in batches for one in batch.claims.digests]
            digests += [batch.key for batch in batches if batch.key]
            known = self._identities.seen(digests)
            claimed: Claimed = {}
            committed = [self._commit_one(batch, known, claimed, now) for batch in batches]
            added = total([one.increments for one in committed])
            if added:
                body = _encode(list(added.items()))
                self._db.execute("INSERT INTO journal (body) VALUES (?)", (body,))
            self._identities.append(claimed)
        self._identities.remember(claimed)
        merge(self._pending, added)
        if len(self._pending) > FOLD_CELLS or now - self._folded_at > FOLD_SECONDS:
            self._fold_if_possible(now)
        if self._identities.due:
            self._merge_if_possible()
        return committed

    def _commit_one(self, batch: Batch, known: Claimed, claimed: Claimed, now: float) -> Committed:
        """Commit a batch; `known` were claimed before its group, `claimed` are by the group."""
        if batch.key:
            earlier = known.get(batch.key) or claimed.get(batch.key)
            if earlier is not None:
                answer = _answer_decoder.decode(earlier)
                return Committed(msgspec.structs.replace(answer, repeated=True), {})
        repeated = _claim(batch.claims, known, claimed)
        increments = batch.without(repeated) if repeated or batch.levels else batch.increments
        accepted, baselines = batch.events + len(batch.claims) - len(repeated), 0
        for level in batch.levels:
            rise = self._rise(level, now)
            if rise is None:
                baselines += 1
            else:
                accepted += 1
                add(increments, level.cell, rise)
        answer = Answer(accepted, len(repeated), baselines, batch.rejected)
        if batch.key:
            claimed[batch.key] = _encode(answer)
        if batch.documents:
            self._db.executemany(
                "INSERT OR REPLACE INTO document VALUES (?, ?)", batch.documents.items()
            )
        return Committed(answer, increments)

    def _rise(self, level: Level, now: float) -> Counts | None:
        """What a counter rose by; None when its past lies before all that is known here."""
        row = self._db.execute(
            "SELECT started, counts FROM level WHERE digest = ?", (level.digest,)
        ).fetchone()
        base = [0] * WIDTH
        if row is not None:
            started, body = row
            if level.started < started:
                return base  # a late report of a counter that has restarted since
            if level.started == started:
                base = _counts_decoder.decode(body)
        risen = rise(level.counts, base)
        if risen is None:
            return [0] * WIDTH
        self._db.execute(
            "INSERT OR REPLACE INTO level VALUES (?, ?, ?, ?)",
            (level.digest, level.started, _encode(level.counts), now),
        )
        if row is None and level.started < max(self.created, now - self._retention):
            return None  # it may have been counted before, and forgotten since
        return risen

    def _fold_if_possible(self, now: float) -> None:
        """Fold; a failure costs nothing, the journal still holds it all."""
        self._folded_at = now
        try:
            self._fold(now)
        except CorruptStorage:
            raise
        except StorageError:
            return

    def _merge_if_possible(self) -> None:
        """Merge some identities; a failure costs nothing, they are all in the log."""
        with suppress(StorageError), self._errors("merge identities"):
            self._merge_identities()

    def _merge_identities(self) -> None:
        # It need not last: whatever a power failure takes back is in the log still.
        self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._transaction():
                self._identities.merge_some()
        finally:
            self._db.execute("PRAGMA synchronous = FULL")
        self._identities.merged_some()

    def _fold(self, now: float) -> None:
        db = self._db
        with self._errors("fold the journal"), self._transaction():
            for block in blocks_of(self._pending, now):
                key = (block.provider, block.tier.name, block.number)
                row = db.execute(
                    "SELECT body FROM block WHERE provider = ? AND tier = ? AND number = ?", key
                ).fetchone()
                if row is not None:
                    for kind, counts in unpack(row[0], block.tier.bins).items():
                        if kind in block.counts:
                            block.counts[kind] = np.minimum(block.counts[kind] + counts, MOST)
                        else:
                            block.counts[kind] = counts
                db.execute(
                    "INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?)", (*key, pack(block.counts))
                )
            for owner, held in self._totals_with_pending().items():
                db.execute("INSERT OR REPLACE INTO total VALUES (?, ?, ?)", (*owner, _encode(held)))
            db.execute("DELETE FROM journal")
        self._pending = {}

    def _totals_with_pending(self) -> dict[tuple[str, str], Counts]:
        totals: dict[tuple[str, str], Counts] = {}
        for (provider, model, _), counts in self._pending.items():
            if (held := totals.get((provider, model))) is None:
                row = self._db.execute(
                    "SELECT counts FROM total WHERE provider = ? AND model = ?", (provider, model)
                ).fetchone()
                held = _counts_decoder.decode(row[0]) if row else [0] * WIDTH
                totals[provider, model] = held
            held[:] = [min(old + new, MOST) for old, new in zip(held, counts, strict=True)]
        return totals

    def load(self, now: float) -> Changes:
        """See `Store.load`."""
        self._fold(now)
        with self._errors("read"):
            totals = {
                (provider, model): _counts_decoder.decode(counts)
                for provider, model, counts in self._db.execute("SELECT * FROM total")
            }
            documents = dict(self._db.execute("SELECT name, body FROM document").fetchall())
        return Changes(self._blocks(), totals, documents)

    def _blocks(self) -> Iterator[Block]:
        with self._errors("read"):
            rows = self._db.execute("SELECT tier, provider, number, body FROM block")
            while some := rows.fetchmany(READ_BLOCKS):
                for tier in TIERS:
                    of_tier = [row for row in some if row[0] == tier.name]
                    counts = unpack_all([row[3] for row in of_tier], tier.bins)
                    for (_, provider, number, _), each in zip(of_tier, counts, strict=True):
                        yield Block(provider, tier, number, each)

    def changes(self, now: float) -> Changes | None:
        """See `Store.changes`: nobody else writes to the file."""
        return None

    def prune(self, now: float) -> None:
        """See `Store.prune`."""
        db = self._db
        rotate = now - self._rotated >= self._deduplication
        while rotate and self._identities.unmerged:
            with self._errors("merge identities"):
                self._merge_identities()
        with self._errors("prune"), self._transaction():
            for tier, horizon in ((FINE, FINE_HORIZON_SECONDS), (COARSE, self._retention)):
                oldest = int(now - horizon) // tier.block_seconds
                db.execute("DELETE FROM block WHERE tier = ? AND number < ?", (tier.name, oldest))
            db.execute("DELETE FROM level WHERE touched < ?", (now - self._retention,))
            if rotate:
                self._identities.rotate()
                db.execute("UPDATE life SET rotated = ?", (now,))
        if rotate:
            self._identities.rotated()
            self._rotated = now

    def close(self) -> None:
        """See `Store.close`; folds, so that the next start is quick."""
        self._fold_if_possible(self._folded_at)
        with self._errors("close"):
            self._db.close()


def _claim(claims: Claims, known: Claimed, claimed: Claimed) -> list[int]:
    """Add claims to `claimed`; the positions of those that it, or `known`, had already."""
    repeated: list[int] = []
    for at, digest in enumerate(claims.digests):
        if digest in known or digest in claimed:
            repeated.append(at)
        else:
            claimed[digest] = None
    return repeated
