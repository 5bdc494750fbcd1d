"""One machine, one file: SQLite in write-ahead mode, synced before a commit returns.

Usage and identities are appended to logs, whatever the size of a commit, so a push costs one small
write and one sync. Between commits the logs are worked into the tables that are read; see `History`
and `Identities`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec

from exporter.core.slots import COARSE, FINE, FINE_HORIZON_SECONDS, Block, add, total
from exporter.storage import cumulative_counters, history, identities
from exporter.storage.backup import APPLICATION_ID, COPYING, check_ours
from exporter.storage.contract import (
    Answer,
    Batch,
    Changes,
    Committed,
    DedupEntries,
    Loaded,
    Merge,
    StorageError,
)
from exporter.storage.cumulative_counters import CumulativeCounters
from exporter.storage.database_file import MEMORY, DatabaseFile
from exporter.storage.history import History
from exporter.storage.identities import Claimed, Identities
from exporter.storage.migration import SCHEMA_VERSION, migrate
from exporter.storage.trusted_time import TrustedTime

FEW_CELLS = 200
"""That may be left to `load`, which folds them in a few milliseconds."""

SCHEMA = """
CREATE TABLE document (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE life (created REAL NOT NULL, rotated REAL NOT NULL, trusted REAL NOT NULL);
"""
SCHEMAS = SCHEMA + history.SCHEMA + identities.SCHEMA + cumulative_counters.SCHEMA

_answer_decoder = msgspec.msgpack.Decoder(Answer)
_encode = msgspec.msgpack.encode

log = logging.getLogger("exporter")


class SqliteStore:
    """`Store` in one SQLite file, or in memory for the path `:memory:`.

    The file is locked for as long as it is open: a second exporter on it would count against
    sums it cannot see.
    """

    shared = False

    def __init__(
        self, path: str, *, retention: float, deduplication: float, now: float, merge: Merge
    ) -> None:
        self._merge = merge
        self._retention = retention
        self._deduplication = deduplication
        self._closing = False
        self.warnings: tuple[str, ...] = ()
        if path == MEMORY:
            self.warnings = ("memory://: all counts are lost when the process ends",)
        self._file = DatabaseFile(path)
        self._db = self._file.db
        try:
            with self._file.errors("open"):
                self._prepare(now)
                self._history = History(self._db, now)
                self._identities = Identities(self._db)
                self._counters = CumulativeCounters(self._db)
                if path != MEMORY:
                    Path(path + COPYING).unlink(missing_ok=True)  # of a process that was killed
        except StorageError:
            self._db.close()
            raise
        if path != ":memory:":
            Path(path + COPYING).unlink(missing_ok=True)  # of a process that was killed meanwhile

    def _prepare(self, now: float) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        new = application == 0 and tables == 0
        if not new:
            check_ours(self._file.path, application, version)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # the log is synced at every commit
        db.execute("PRAGMA cache_size = -4000")  # 16 MB were no quicker, folding or with identities
        if new:
            with self._file.transaction():
                for statement in SCHEMAS.split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO life VALUES (?, ?, ?)", (now, now, now))
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version < SCHEMA_VERSION:
            with self._file.transaction():
                migrate(db, version, now)
            fields = {"path": self._file.path, "from": version, "to": SCHEMA_VERSION}
            log.info("database migrated", extra={"fields": fields})
        times = db.execute("SELECT created, rotated, trusted FROM life").fetchone()
        # A clock that was ahead may have written them.
        self.created, self._rotated = min(times[0], now), min(times[1], now)
        self._time = TrustedTime(times[2], now)
        self._file.remember()

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        """See `Store.commit`."""
        self._time.observe(now)
        # A single statement is a transaction by itself, at a third of the calls.
        single = not any(one.key or one.claims or one.reports or one.documents for one in batches)
        self._file.require()
        with self._file.errors("store"), nullcontext() if single else self._file.transaction():
            # One look for the whole group: what it finds, and what the group claims itself.
            digests = [one for batch in batches for one in batch.claims.digests]
            digests += [batch.key for batch in batches if batch.key]
            known = self._identities.seen(digests)
            claimed: Claimed = {}
            committed = [self._commit_one(batch, known, claimed, now) for batch in batches]
            added = total([one.increments for one in committed])
            self._history.append(added)
            self._identities.append(claimed)
        self._identities.remember(claimed)
        self._history.remember(added, now)
        return committed

    def tidy(self, now: float, *, thoroughly: bool = False) -> bool:
        """See `Store.tidy`."""
        if thoroughly:
            if self._history.unfolded:
                self._fold_some(now)
            return self._history.unfolded > FEW_CELLS
        if self._history.due(now):
            self._fold_some(now)
            if not self._history.folding:
                self._file.checkpoint()
        if self._identities.due:
            self._merge_some()
        return self._history.due(now) or self._identities.due

    def _commit_one(self, batch: Batch, known: Claimed, claimed: Claimed, now: float) -> Committed:
        """Commit a batch; `known` were claimed before its group, `claimed` are by the group."""
        if batch.key:
            earlier = known.get(batch.key) or claimed.get(batch.key)
            if earlier is not None:
                answer = _answer_decoder.decode(earlier)
                return Committed(msgspec.structs.replace(answer, repeated=True), {})
        repeated = _claim(batch.claims, known, claimed)
        increments = batch.without(repeated) if repeated or batch.reports else batch.increments
        accepted, baselines = batch.events + len(batch.claims) - len(repeated), 0
        known_since = max(self.created, now - self._retention)
        for report in batch.reports:
            rise = self._counters.delta_since(report, known_since, now)
            if rise is None:
                baselines += 1
            else:
                accepted += 1
                add(increments, report.cell, rise)
        answer = Answer(accepted, len(repeated), baselines, batch.rejected)
        if batch.key:
            claimed[batch.key] = _encode(answer)
        for name, body in batch.documents.items():
            row = self._db.execute("SELECT body FROM document WHERE name = ?", (name,)).fetchone()
            merged = body if row is None else self._merge(name, body, row[0])
            self._db.execute("INSERT OR REPLACE INTO document VALUES (?, ?)", (name, merged))
        return Committed(answer, increments)

    def _fold_some(self, now: float) -> None:
        with self._file.errors("fold the journal"), self._file.unsynced_transaction():
            self._history.fold_some(now)
        self._history.folded_some()

    def _merge_some(self) -> None:
        with self._file.errors("merge identities"), self._file.unsynced_transaction():
            self._identities.merge_some()
        self._identities.merged_some()

    def load(self, now: float) -> Loaded:
        """See `Store.load`."""
        while self._history.unfolded:
            self._fold_some(now)
        with self._file.errors("read"):
            totals = self._history.totals()
            documents = dict(self._db.execute("SELECT name, body FROM document").fetchall())
        return Loaded(self._blocks(), totals, documents)

    def _blocks(self) -> Iterator[Block]:
        with self._file.errors("read"):
            yield from self._history.blocks()

    def changes(self, now: float) -> Changes | None:
        """See `Store.changes`: nobody else writes to the file."""
        return None

    def set_retention(self, retention: float) -> None:
        """See `Store.set_retention`."""
        self._retention = retention

    def check(self, now: float) -> float | None:
        """See `Store.check`: the file is still where it was opened."""
        self._file.require()
        return None

    def prune(self, now: float) -> None:
        """See `Store.prune`."""
        self._file.require()
        db = self._db
        now = self._time.observe(now)
        self._rotated = min(self._rotated, now)
        rotate = now - self._rotated >= self._deduplication
        while rotate and self._identities.unmerged:
            self._merge_some()
        with self._file.errors("prune"), self._file.transaction():
            for tier, horizon in ((FINE, FINE_HORIZON_SECONDS), (COARSE, self._retention)):
                self._history.prune(tier, int(now - horizon) // tier.block_seconds)
            self._counters.prune(now - self._retention)
            if rotate:
                self._identities.rotate()
                db.execute("UPDATE life SET rotated = ?", (now,))
            db.execute("UPDATE life SET trusted = ?, created = ?", (now, self.created))
        if rotate:
            self._identities.rotated()
            self._rotated = now

    def backup(self) -> Path:
        """See `Store.backup`."""
        return self._file.backup(lambda: self._closing)

    def on_commit(self, notify: Callable[[], None]) -> None:
        """See `Store.on_commit`: nobody else commits."""

    def close(self) -> None:
        """See `Store.close`; folds, so that the next start is quick."""
        self._closing = True
        with suppress(StorageError):
            while self._history.unfolded:
                self._fold_some(self._time.at)
            with self._file.errors("close"):
                self._db.execute("UPDATE life SET trusted = ?", (self._time.at,))
        with self._file.errors("close"):
            self._db.close()


def _claim(claims: DedupEntries, known: Claimed, claimed: Claimed) -> list[int]:
    """Add claims to `claimed`; the positions of those that it, or `known`, had already."""
    repeated: list[int] = []
    for at, digest in enumerate(claims.digests):
        if digest in known or digest in claimed:
            repeated.append(at)
        else:
            claimed[digest] = None
    return repeated
