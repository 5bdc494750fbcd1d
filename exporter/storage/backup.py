"""Copies of a SQLite database: made while it is in use, checked, and put in its place."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from exporter.storage.contract import CorruptStorage, StorageError
from exporter.storage.migration import OLDEST, SCHEMA_VERSION

APPLICATION_ID = 0x4C4C4D51  # "LLMQ": tells our file from anybody else's

_PAGES = 64  # copied at a time: 256 KiB, in about a millisecond
_PAUSE = 0.002  # seconds between, in which commits go on

COPYING = ".backup-copying"
"""What the name of a database is followed by in that of a copy that is being made: nothing that
somebody else would call his."""

_SUFFIXES = ("", "-wal", "-shm", "-journal")
"""Of the files of a database."""


def copy_in_use(db: sqlite3.Connection, target: Path, stop: Callable[[], bool]) -> None:
    """Copy what `db` holds to a new file, a little at a time, while another thread commits on it.

    SQLite itself puts into the copy what the same connection changes behind its back, so it is
    as of the moment at which this returns. https://www.sqlite.org/backup.html

    Args:
        stop: is asked again and again whether to give up.

    Raises:
        StorageError: it was told to stop, or this SQLite cannot be used by two threads.
        sqlite3.Error, OSError: the copy cannot be written.
    """
    if sqlite3.threadsafety < 3:
        raise StorageError("this SQLite is not made for several threads: stop the exporter to copy")

    def between(status: int, remaining: int, pages: int) -> None:
        if stop():
            raise StorageError("the store is closed")
        time.sleep(_PAUSE)

    target.unlink(missing_ok=True)
    try:
        # A copy is of use when it is whole, and only then.
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            db.backup(copy, pages=_PAGES, progress=between, sleep=_PAUSE)
        sync(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def check(path: Path) -> None:
    """See that a file is a whole database that this version can open.

    Raises:
        StorageError: it is not; the message says why.
    """
    try:
        with closing(
            sqlite3.connect(f"file:{path.absolute()}?mode=ro&immutable=1", uri=True)
        ) as db:
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            check_ours(path, application, version)
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StorageError(f"{path}: expected a database: {error}") from error
    if found != "ok":
        raise CorruptStorage(f"{path}: a damaged database: {found}")


def check_ours(path: Path | str, application: int, version: int) -> None:
    """See that a database is one of ours, and of a layout that is known.

    Raises:
        StorageError: it is not.
    """
    if application != APPLICATION_ID:
        raise StorageError(
            f"{path}: a database of another program (application_id {application:#x}); "
            "choose another path"
        )
    if not OLDEST <= version <= SCHEMA_VERSION:
        raise StorageError(
            f"{path}: written by another version (schema {version}, this one reads "
            f"{OLDEST} to {SCHEMA_VERSION}); run that version, or choose another path"
        )


def restore(backup: Path, path: Path, stamp: str) -> Path | None:
    """Put a backup in the place of a database that is not in use; where what was there went.

    Args:
        stamp: tells what was there from what may be put aside at other times.

    Raises:
        StorageError: the backup is no good, the database is in use, or it cannot be done; what
            was there is there still.
    """
    check(backup)
    aside = path.with_name(f"{path.name}.before-{stamp}") if path.exists() else None
    fresh = path.with_name(path.name + ".restoring")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(backup, fresh)
        check(fresh)
        sync(fresh)
        if aside is not None:
            with _exclusively(path):
                for suffix in _SUFFIXES:
                    with suppress(FileNotFoundError):
                        os.rename(f"{path}{suffix}", f"{aside}{suffix}")
        os.rename(fresh, path)
        sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{path}: cannot restore: {error}") from error
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
    return aside


def _exclusively(path: Path) -> "closing[sqlite3.Connection]":
    """Hold a database so that nobody else can.

    Raises:
        StorageError: somebody has it open.
    """
    db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        db.close()
        if getattr(error, "sqlite_errorname", "") != "SQLITE_BUSY":
            # Whatever is wrong with it, it is put aside as it is.
            return closing(sqlite3.connect(":memory:"))
        raise StorageError(
            f"{path}: another process has it open: stop the exporter first"
        ) from error
    return closing(db)


def sync(path: Path) -> None:
    """Let a file, or what a folder lists, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
