"""One machine, one file: SQLite in write-ahead mode, synced before a commit returns.

Usage and identities are appended to logs, whatever the size of a commit, so a push costs one small
write and one sync. Between commits the logs are worked into the tables that are read; see `History`
and `Identities`.
"""

import logging
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import msgspec

from exporter.core.slots import (
    COARSE,
    FINE,
    FINE_HORIZON_SECONDS,
    WIDTH,
    Block,
    Counts,
    add,
    delta_since,
    total,
)
from exporter.storage import history, identities
from exporter.storage.backup import APPLICATION_ID, check_ours, copy_in_use
from exporter.storage.contract import (
    Answer,
    Batch,
    Changes,
    Committed,
    CorruptStorage,
    CumulativeReport,
    DedupEntries,
    Loaded,
    Merge,
    StorageError,
)
from exporter.storage.history import History
from exporter.storage.identities import Claimed, Identities
from exporter.storage.migration import SCHEMA_VERSION, migrate
from exporter.storage.trusted_time import TrustedTime

FEW_CELLS = 200
"""That may be left to `load`, which folds them in a few milliseconds."""

SCHEMA = """
CREATE TABLE level (
  digest BLOB PRIMARY KEY, started REAL NOT NULL, counts BLOB NOT NULL, touched REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE document (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE life (created REAL NOT NULL, rotated REAL NOT NULL, trusted REAL NOT NULL);
"""

_counts_decoder = msgspec.msgpack.Decoder(Counts)
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
        self._path = path
        self._merge = merge
        self._retention = retention
        self._deduplication = deduplication
        self._closing = False
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
                self._history = History(self._db, now)
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
            check_ours(self._path, application, version)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # the log is synced at every commit
        db.execute("PRAGMA cache_size = -4000")  # 16 MB were no quicker, folding or with identities
        if new:
            with self._transaction():
                for statement in (SCHEMA + history.SCHEMA + identities.SCHEMA).split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO life VALUES (?, ?, ?)", (now, now, now))
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version < SCHEMA_VERSION:
            with self._transaction():
                migrate(db, version, now)
            fields = {"path": self._path, "from": version, "to": SCHEMA_VERSION}
            log.info("database migrated", extra={"fields": fields})
        times = db.execute("SELECT created, rotated, trusted FROM life").fetchone()
        # A clock that was ahead may have written them.
        self.created, self._rotated = min(times[0], now), min(times[1], now)
        self._time = TrustedTime(times[2], now)
        self._files = self._identify()

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
        self._time.observe(now)
        # A single statement is a transaction by itself, at a third of the calls.
        single = not any(one.key or one.claims or one.reports or one.documents for one in batches)
        self._require_file()
        with self._errors("store"), nullcontext() if single else self._transaction():
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
                self._checkpoint()
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
        for report in batch.reports:
            rise = self._delta_since(report, now)
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

    def _delta_since(self, report: CumulativeReport, now: float) -> Counts | None:
        """What a counter rose by; None when its past lies before all that is known here."""
        row = self._db.execute(
            "SELECT started, counts FROM level WHERE digest = ?", (report.digest,)
        ).fetchone()
        base = [0] * WIDTH
        if row is not None:
            started, body = row
            if report.started < started:
                return base  # a late report of a counter that has restarted since
            if report.started == started or report.sampled:
                base = _counts_decoder.decode(body)
        risen = delta_since(report.counts, base)
        if risen is None and report.sampled and row is not None and report.started > started:
            risen = report.counts  # it began anew
        if risen is None:
            return [0] * WIDTH
        self._db.execute(
            "INSERT OR REPLACE INTO level VALUES (?, ?, ?, ?)",
            (report.digest, report.started, _encode(report.counts), now),
        )
        known_since = max(self.created, now - self._retention)
        if row is None and (report.sampled or report.started < known_since):
            return None  # it may have been counted before, and forgotten since
        return risen

    @contextmanager
    def _unhurried(self) -> Iterator[None]:
        """A transaction that need not last: what a power failure takes back is in a log still."""
        self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self._transaction():
                yield
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    def _fold_some(self, now: float) -> None:
        with self._errors("fold the journal"), self._unhurried():
            self._history.fold_some(now)
        self._history.folded_some()

    def _checkpoint(self) -> None:
        """Let the file itself hold what was folded: SQLite alone does it after 4 MB, which may
        take weeks, and a copy of the file without its log would be empty until then."""
        with self._errors("checkpoint"):
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def _merge_some(self) -> None:
        with self._errors("merge identities"), self._unhurried():
            self._identities.merge_some()
        self._identities.merged_some()

    def load(self, now: float) -> Loaded:
        """See `Store.load`."""
        while self._history.unfolded:
            self._fold_some(now)
        with self._errors("read"):
            totals = self._history.totals()
            documents = dict(self._db.execute("SELECT name, body FROM document").fetchall())
        return Loaded(self._blocks(), totals, documents)

    def _blocks(self) -> Iterator[Block]:
        with self._errors("read"):
            yield from self._history.blocks()

    def changes(self, now: float) -> Changes | None:
        """See `Store.changes`: nobody else writes to the file."""
        return None

    def set_retention(self, retention: float) -> None:
        """See `Store.set_retention`."""
        self._retention = retention

    def check(self, now: float) -> float | None:
        """See `Store.check`: the file is still where it was opened."""
        self._require_file()
        return None

    def _require_file(self) -> None:
        found = self._identify()
        if [one and one[:2] for one in found] != [one and one[:2] for one in self._files]:
            raise StorageError(
                f"{self._path}: the file was deleted, moved or replaced while in use, and what is "
                "stored now would be lost; put it back, or restart the exporter"
            )
        # SQLite makes neither of them shorter while they are open.
        for one, before in zip(found, self._files, strict=True):
            if one and before and one[2] < before[2]:
                raise StorageError(
                    f"{self._path}: the file, or its log, was cut short while in use, and what is "
                    "stored now would be lost; restore a backup, and restart the exporter"
                )
        self._files = found

    def _identify(self) -> list[tuple[int, int, int] | None]:
        """Which files there are under the names of the database and its log, and how long."""
        found: list[tuple[int, int, int] | None] = []
        if self._path == ":memory:":
            return found
        for name in (self._path, f"{self._path}-wal"):
            try:
                status = os.stat(name)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino, status.st_size))
        return found

    def prune(self, now: float) -> None:
        """See `Store.prune`."""
        self._require_file()
        db = self._db
        now = self._time.observe(now)
        self._rotated = min(self._rotated, now)
        rotate = now - self._rotated >= self._deduplication
        while rotate and self._identities.unmerged:
            self._merge_some()
        with self._errors("prune"), self._transaction():
            for tier, horizon in ((FINE, FINE_HORIZON_SECONDS), (COARSE, self._retention)):
                self._history.prune(tier, int(now - horizon) // tier.block_seconds)
            db.execute("DELETE FROM level WHERE touched < ?", (now - self._retention,))
            if rotate:
                self._identities.rotate()
                db.execute("UPDATE life SET rotated = ?", (now,))
            db.execute("UPDATE life SET trusted = ?, created = ?", (now, self.created))
        if rotate:
            self._identities.rotated()
            self._rotated = now

    def backup(self) -> Path:
        """See `Store.backup`."""
        if self._path == ":memory:":
            descriptor, name = tempfile.mkstemp(prefix="llm-quota-", suffix=".backup")
            os.close(descriptor)
        else:
            name = self._path + ".backup"  # where there is room for as much again, most likely
        with self._errors("back up"):
            copy_in_use(self._db, Path(name), lambda: self._closing)
        return Path(name)

    def on_commit(self, notify: Callable[[], None]) -> None:
        """See `Store.on_commit`: nobody else commits."""

    def close(self) -> None:
        """See `Store.close`; folds, so that the next start is quick."""
        self._closing = True
        with suppress(StorageError):
            while self._history.unfolded:
                self._fold_some(self._time.at)
            with self._errors("close"):
                self._db.execute("UPDATE life SET trusted = ?", (self._time.at,))
        with self._errors("close"):
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
