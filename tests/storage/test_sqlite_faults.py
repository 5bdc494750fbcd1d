"""What a SQLite store does when its process, its disk or its file fails."""

import contextlib
import hashlib
import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.storage import CorruptStorage, StorageError, Store, history, identities, open_store
from tests import real
from tests.storage.conftest import DEDUPLICATION, RETENTION
from tests.storage.counting import numbered
from tests.storage.values import NOW, SLOT, cell_of, claim, claiming, events, tokens

SMALL_DISK = 256 * 2**20  # bytes

Full = Callable[[Path], contextlib.AbstractContextManager[None]]


def opened(path: Path, now: float = NOW) -> Store:
    return open_store(
        f"sqlite:///{path}", retention=RETENTION, deduplication=DEDUPLICATION, now=now
    )


def test_killed_at_any_moment_it_keeps_what_it_acknowledged_once(tmp_path: Path) -> None:
    path, acknowledged, chance = tmp_path / "quota.db", 0, random.Random(7)
    for _ in range(6):
        command = [sys.executable, "-m", "tests.storage.counting", f"sqlite:///{path}"]
        process = subprocess.Popen([*command, str(acknowledged)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(chance.randrange(1, 150))]
        process.kill()
        told += process.stdout.readlines()
        process.wait()
        store = opened(path)
        kept = tokens(store)
        acknowledged = int(told[-1]) + 1
        assert acknowledged <= kept <= acknowledged + 1  # one may have been on its way
        # A retry of everything adds what had not been kept, and nothing else.
        store.commit([claiming(*map(numbered, range(kept)))], NOW)
        assert tokens(store) == kept
        acknowledged = kept
        store.close()
    assert acknowledged > 100


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    """Nothing more fits on the disk that holds `directory`."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    ballast.unlink()


@contextlib.contextmanager
def small_files(directory: Path) -> Iterator[None]:
    """No file may grow."""
    largest = max(file.stat().st_size for file in directory.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that is small enough to be filled."""
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    if shutil.which("mount") and not subprocess.run(command, capture_output=True).returncode:
        yield tmp_path
        subprocess.run(["umount", str(tmp_path)], check=True)
        return
    # In a container, which may not mount anything, this one is 64 MiB and the container's alone.
    shared = Path("/dev/shm")
    if not shared.is_mount() or shutil.disk_usage(shared).total > SMALL_DISK:
        real.missing("no disk to fill: it can neither mount one, nor is /dev/shm a small one")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.fixture
def merging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folding and merging go on all the time, and may fail too."""
    monkeypatch.setattr(history, "FOLD_CELLS", 20)
    monkeypatch.setattr(history, "SLICE", 3)
    monkeypatch.setattr(identities, "MANY", 120)
    monkeypatch.setattr(identities, "SLICE", 20)


def keeps_its_promise_when_full(directory: Path, full: Full) -> None:
    store = opened(directory / "quota.db")
    kept = 0

    def send(batches: int) -> None:
        nonlocal kept
        for _ in range(batches):
            claims = [claim(number, 1) for number in range(kept, kept + 50)]
            store.commit([claiming(*claims)], NOW)
            kept += 50
            with contextlib.suppress(StorageError):
                store.tidy(NOW)

    send(10)
    with full(directory):
        with pytest.raises(StorageError, match=r"quota\.db: cannot store: ") as error:
            send(500)
        assert not isinstance(error.value, CorruptStorage)
        with pytest.raises(StorageError):
            send(1)
    send(1)
    store.close()
    store = opened(directory / "quota.db")
    assert tokens(store) == kept
    (again,) = store.commit([claiming(*[claim(number, 1) for number in range(kept)])], NOW)
    assert again.answer.duplicates == kept
    store.close()


@pytest.mark.usefixtures("merging")
def test_a_full_disk_refuses_and_loses_nothing(disk: Path) -> None:
    keeps_its_promise_when_full(disk, small_disk)


@pytest.mark.usefixtures("merging")
def test_a_file_that_may_not_grow_refuses_and_loses_nothing(tmp_path: Path) -> None:
    keeps_its_promise_when_full(tmp_path, small_files)


def test_a_full_disk_while_folding_costs_nothing(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(disk / "quota.db")
    store.commit([events(1, 5)], NOW)
    monkeypatch.setattr(history, "FOLD_CELLS", 0)
    with small_disk(disk):
        with pytest.raises(StorageError, match=r"quota\.db: cannot fold the journal: "):
            store.tidy(NOW)
        with pytest.raises(StorageError, match=r"quota\.db: cannot store: "):
            store.commit([events(1, 7)], NOW)
    store.tidy(NOW)
    store.commit([events(1, 11)], NOW)
    store.close()
    store = opened(disk / "quota.db")
    assert tokens(store) == 16
    store.close()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file with weeks of history in it."""
    path = tmp_path / "quota.db"
    store = opened(path)
    store.commit(
        [
            events(
                1,
                1 + hour * day,
                cell_of(f"provider-{day % 7}", "", SLOT - 8640 * day - 360 * hour),
            )
            for day in range(30)
            for hour in range(24)
        ],
        NOW,
    )
    store.commit([claiming(*[claim(number, 1) for number in range(2000)])], NOW)
    store.close()
    return path


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_everything(path: Path) -> None:
    store = opened(path)
    try:
        for _ in store.load(NOW).blocks:
            pass
    finally:
        store.close()


@pytest.mark.parametrize(("start", "length"), [(0, 100), (4096, 10**9), (0, 10**9)])
def test_a_damaged_file_is_reported_with_the_remedy_and_left_alone(
    written: Path, start: int, length: int
) -> None:
    data = bytearray(written.read_bytes())
    end = min(len(data), start + length)
    data[start:end] = bytes(byte ^ 0xA5 for byte in data[start:end])
    written.write_bytes(data)
    before = fingerprint(written)
    with pytest.raises(CorruptStorage) as error:
        read_everything(written)
    assert str(error.value).startswith(f"{written}: cannot ")
    assert f"sqlite3 {written} .recover" in str(error.value)
    assert fingerprint(written) == before


def test_a_damaged_block_is_reported(written: Path) -> None:
    with contextlib.closing(sqlite3.connect(written)) as db:
        db.execute("UPDATE block SET body = substr(body, 1, 9) WHERE rowid = 3")
        db.commit()
    with pytest.raises(CorruptStorage, match="a damaged block"):
        read_everything(written)


def test_damaged_identities_are_reported(written: Path) -> None:
    with contextlib.closing(sqlite3.connect(written)) as db:
        db.execute("INSERT INTO seen VALUES (1, x'0102', x'')")
        db.commit()
    with pytest.raises(CorruptStorage, match="a damaged row of identities"):
        read_everything(written)


def test_a_file_that_another_process_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "quota.db"
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.counting", f"sqlite:///{path}", "0"],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    try:
        holder.stdout.readline()
        with pytest.raises(StorageError, match="another process has it open"):
            opened(path)
    finally:
        holder.kill()
        holder.communicate()


def delete(path: Path) -> None:
    path.unlink()


def delete_log(path: Path) -> None:
    path.with_name("quota.db-wal").unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.rename(path)


@pytest.mark.parametrize("lose", [delete, delete_log, move, replace])
def test_a_file_that_is_not_there_any_more_is_noticed_and_nothing_acknowledged(
    tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    path = tmp_path / "quota.db"
    store = opened(path)
    store.commit([events(1, 5)], NOW)
    store.check(NOW)
    lose(path)
    message = re.escape(f"{path}: the file was deleted, moved or replaced while in use")
    for attempt in (lambda: store.check(NOW), lambda: store.commit([events(1, 5)], NOW)):
        with pytest.raises(StorageError, match=message):
            attempt()
    store.close()


@pytest.mark.parametrize("name", ["quota.db", "quota.db-wal"])
def test_a_file_that_was_cut_short_is_noticed_and_nothing_acknowledged(
    tmp_path: Path, name: str
) -> None:
    store = opened(tmp_path / "quota.db")
    store.commit([events(1, 5)], NOW)
    store.check(NOW)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
    for attempt in (lambda: store.check(NOW), lambda: store.commit([events(1, 5)], NOW)):
        with pytest.raises(StorageError, match="was cut short while in use"):
            attempt()
    store.close()


def test_a_file_that_was_moved_and_put_back_is_used_again(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "quota.db", tmp_path / "moved.db"
    store = opened(path)
    path.rename(elsewhere)
    with pytest.raises(StorageError):
        store.check(NOW)
    elsewhere.rename(path)
    store.check(NOW)
    store.commit([events(1, 5)], NOW)
    store.close()
    assert tokens(opened(path)) == 5


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("directory", "unable to open database file"),
        ("directory/file/quota.db", "File exists"),
        ("directory/file/deep/quota.db", "Not a directory"),
        ("/proc/self/quota.db", "unable to open database file"),
        ("/proc/self/new/quota.db", "No such file or directory"),
    ],
)
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_text("")
    where = tmp_path / path
    with pytest.raises(StorageError) as error:
        opened(where)
    assert str(error.value).startswith(f"{where}: cannot open: ")
    assert reason in str(error.value)


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A folder that may only be read, by somebody who is not root."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
        os.seteuid(os.getuid())
        Path(folder).chmod(0o755)


def test_a_file_that_may_only_be_read_is_refused(nobody: Path) -> None:
    path = nobody / "quota.db"
    store = opened(path)
    store.commit([events(1, 5)], NOW)
    store.close()
    for file in nobody.iterdir():
        file.chmod(0o444)
    nobody.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(StorageError, match=r"quota\.db: cannot open: "):
        opened(path)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("CREATE TABLE theirs (a)", "a database of another program (application_id 0x0)"),
        ("PRAGMA application_id = 66", "a database of another program (application_id 0x42)"),
    ],
)
def test_a_database_of_another_program_is_refused(
    tmp_path: Path, statement: str, reason: str
) -> None:
    path = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    with pytest.raises(StorageError) as error:
        opened(path)
    assert str(error.value) == f"{path}: {reason}; choose another path"
