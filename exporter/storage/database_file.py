"""One open SQLite file: its transactions, its errors, and whether it is still in its place."""

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from exporter.storage.backup import COPYING, copy_in_use
from exporter.storage.contract import CorruptStorage, StorageError

MEMORY = ":memory:"
"""The path of a database that is no file."""


class DatabaseFile:
    """A database that this process alone has open.

    Attributes:
        path: where it is.
        db: the connection; a statement outside of `transaction` is one by itself.
    """

    def __init__(self, path: str) -> None:
        """Open it, and lock it at its first use.

        Raises:
            StorageError: it cannot be opened.
        """
        self.path = path
        self._found: list[tuple[int, int, int] | None] = []
        with self.errors("open"):
            if path != MEMORY:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=2.0
            )

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (sqlite3.DatabaseError, msgspec.DecodeError, OSError) as error:
            code = getattr(error, "sqlite_errorname", "")
            where = f"{self.path}: cannot {doing}: {error}"
            if code == "SQLITE_BUSY":
                raise StorageError(f"{where}; another process has it open") from error
            if code in ("SQLITE_CORRUPT", "SQLITE_NOTADB") or isinstance(
                error, msgspec.DecodeError
            ):
                raise CorruptStorage(
                    f"{where}; nothing was changed. Stop the exporter, keep a copy of the file, "
                    f"then recover it (sqlite3 {self.path} .recover | sqlite3 recovered.db) or "
                    "restore a backup; move it away to start empty"
                ) from error
            raise StorageError(where) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is done within."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    @contextmanager
    def unsynced_transaction(self) -> Iterator[None]:
        """One that need not last: what a power failure takes back is in a log still."""
        self.db.execute("PRAGMA synchronous = NORMAL")
        try:
            with self.transaction():
                yield
        finally:
            self.db.execute("PRAGMA synchronous = FULL")

    def checkpoint(self) -> None:
        """Let the file itself hold what was committed: SQLite alone does it after 4 MB, which may
        take weeks, and a copy of the file without its log would be empty until then."""
        with self.errors("checkpoint"):
            self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def remember(self) -> None:
        """Remember which file it is."""
        self._found = self._identify()

    def require(self) -> None:
        """Raise `StorageError` unless it is the file of the last time, and no shorter."""
        found = self._identify()
        if [one and one[:2] for one in found] != [one and one[:2] for one in self._found]:
            raise StorageError(
                f"{self.path}: the file was deleted, moved or replaced while in use, and what is "
                "stored now would be lost; put it back, or restart the exporter"
            )
        # SQLite makes neither of them shorter while they are open.
        for one, before in zip(found, self._found, strict=True):
            if one and before and one[2] < before[2]:
                raise StorageError(
                    f"{self.path}: the file, or its log, was cut short while in use, and what is "
                    "stored now would be lost; restore a backup, and restart the exporter"
                )
        self._found = found

    def _identify(self) -> list[tuple[int, int, int] | None]:
        """Which files there are under the names of the database and its log, and how long."""
        found: list[tuple[int, int, int] | None] = []
        if self.path == MEMORY:
            return found
        for name in (self.path, f"{self.path}-wal"):
            try:
                status = os.stat(name)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_dev, status.st_ino, status.st_size))
        return found

    def backup(self, cancelled: Callable[[], bool]) -> Path:
        """Copy it while it is in use, in any thread, to a file that the caller is to remove.

        Raises:
            StorageError: it cannot be copied, or it was `cancelled`.
        """
        if self.path == MEMORY:
            descriptor, name = tempfile.mkstemp(prefix="llm-quota-", suffix=".backup")
            os.close(descriptor)
        else:
            name = self.path + COPYING  # where there is room for as much again, most likely
        with self.errors("back up"):
            copy_in_use(self.db, Path(name), cancelled)
        return Path(name)
