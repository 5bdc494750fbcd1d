"""A database is copied while it is in use, and put back; a plain copy is never empty for long."""

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from exporter.storage import StorageError, open_store
from exporter.storage.backup import APPLICATION_ID, check, restore
from exporter.storage.contract import Batch, NoBackup
from exporter.storage.history import FOLD_SECONDS
from exporter.storage.sqlite import SqliteStore
from tests.storage.conftest import DEDUPLICATION, RETENTION, Place
from tests.storage.counting import numbered
from tests.storage.test_sqlite_faults import opened
from tests.storage.values import NOW, OPENAI, cell_of, claiming, counts, events, state, tokens


def test_a_copy_under_load_is_as_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.storage.backup._PAGES", 4)  # the copy takes its time
    store = opened(tmp_path / "quota.db")
    batches = [Batch({cell_of(f"p{n}", f"m{n % 50}"): counts(n + 1)}) for n in range(3000)]
    store.commit(batches, NOW)
    done, stop = [0], threading.Event()

    def commit() -> None:
        while not stop.is_set():
            store.commit([claiming(numbered(done[0]))], NOW)
            store.tidy(NOW + done[0])  # time flies: it folds now and then
            done[0] += 1

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        copies = []
        for n in range(3):
            before = done[0]
            copy = store.backup().rename(tmp_path / f"{n}.db")
            copies.append((before, copy, done[0] + 1))  # one may be on its way
    finally:
        stop.set()
        thread.join()
    store.close()
    assert any(after - before > 2 for before, _, after in copies), "nothing was committed meanwhile"
    for before, copy, after in copies:
        check(copy)
        kept = opened(copy)
        number = tokens(kept)
        assert before <= number <= after
        assert tokens(kept, "p") == sum(range(1, 3001))
        # Each claim is in the copy together with what it counted, and not without.
        kept.commit([claiming(*map(numbered, range(number + 3)))], NOW)
        assert tokens(kept) == number + 3
        kept.close()


def test_a_copy_of_memory_is_a_database(tmp_path: Path) -> None:
    store = open_store("memory://", retention=RETENTION, deduplication=DEDUPLICATION, now=NOW)
    store.commit([events(3, 5)], NOW)
    copy = store.backup()
    kept = opened(copy)
    assert state(kept.load(NOW)) == state(store.load(NOW))
    kept.close()
    copy.unlink()


def test_a_redis_says_by_which_means_it_is_copied(lasting: Place) -> None:
    store = lasting.empty(NOW)
    if isinstance(store, SqliteStore):
        store.backup().unlink()
    else:
        with pytest.raises(NoBackup, match="BGSAVE"):
            store.backup()


def test_a_store_that_is_closed_meanwhile_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "quota.db")
    store.commit([Batch({cell_of(f"p{n}"): counts(1)}) for n in range(3000)], NOW)
    begun = threading.Event()

    def sleep(seconds: float) -> None:
        begun.set()
        closed.wait(10)

    closed, failed = threading.Event(), []
    monkeypatch.setattr("exporter.storage.backup.time.sleep", sleep)
    monkeypatch.setattr("exporter.storage.backup._PAGES", 1)

    def copy() -> None:
        try:
            store.backup()
        except StorageError as error:
            failed.append(str(error))

    thread = threading.Thread(target=copy)
    thread.start()
    assert begun.wait(10)
    store.close()
    closed.set()
    thread.join()
    assert failed == ["the store is closed"]
    assert not list(tmp_path.glob("*.backup"))
    kept = opened(tmp_path / "quota.db")
    assert tokens(kept, "p") == 3000
    kept.close()


def test_the_file_alone_holds_what_was_folded(tmp_path: Path) -> None:
    store = opened(tmp_path / "quota.db")
    store.commit([events(3, 5)], NOW)
    while store.tidy(NOW + FOLD_SECONDS + 1):
        pass
    shutil.copy(tmp_path / "quota.db", tmp_path / "copy.db")  # without its log
    kept = opened(tmp_path / "copy.db")
    assert tokens(kept) == 15
    kept.close()
    store.close()


# -- putting it back --


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup with 15 tokens."""
    store = opened(tmp_path / "origin.db")
    store.commit([events(3, 5)], NOW)
    made = store.backup().rename(tmp_path / "backup.db")
    store.close()
    return made


def test_a_backup_takes_the_place_of_what_is_put_aside(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "live" / "quota.db"
    assert restore(backup, path, "one") is None  # nothing was there
    store = opened(path)
    assert tokens(store) == 15
    store.commit([events(1, 100, OPENAI)], NOW)
    store.close()
    aside = restore(backup, path, "two")
    assert aside == path.with_name("quota.db.before-two")
    for where, expected in ((path, 15), (aside, 115)):
        store = opened(where)
        assert tokens(store) == expected
        store.close()


def test_what_a_killed_process_left_in_its_log_is_put_aside_with_it(
    backup: Path, tmp_path: Path
) -> None:
    store = opened(tmp_path / "quota.db")
    store.commit([events(1, 7)], NOW)
    for name in ("quota.db", "quota.db-wal"):  # as they are while it runs, and after a power cut
        (tmp_path / "live").mkdir(exist_ok=True)
        shutil.copy(tmp_path / name, tmp_path / "live" / name)
    store.close()
    aside = restore(backup, tmp_path / "live" / "quota.db", "now")
    assert aside is not None
    for where, expected in ((tmp_path / "live" / "quota.db", 15), (aside, 7)):
        store = opened(where)
        assert tokens(store) == expected
        store.close()


def test_a_database_in_use_is_not_replaced(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "quota.db"
    store = opened(path)
    with pytest.raises(StorageError, match="another process has it open: stop the exporter first"):
        restore(backup, path, "now")
    store.commit([events(1, 7)], NOW)
    assert tokens(store) == 7
    store.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["backup.db", "origin.db", "quota.db"]


def test_a_damaged_database_is_put_aside_as_it_is(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "quota.db"
    path.write_bytes(b"garbage" * 1000)
    aside = restore(backup, path, "now")
    assert aside is not None
    assert aside.read_bytes() == b"garbage" * 1000


def test_what_is_no_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    def database(name: str, application: int, version: int) -> Path:
        path = tmp_path / name
        with sqlite3.connect(path) as db:
            db.execute(f"PRAGMA application_id = {application}")
            db.execute(f"PRAGMA user_version = {version}")
            db.execute("CREATE TABLE t (a)")
        return path

    content = backup.read_bytes()
    truncated, text = tmp_path / "truncated", tmp_path / "text"
    truncated.write_bytes(content[: len(content) // 2])
    text.write_text("not a database" * 100)
    bad = {
        tmp_path / "none": "expected a database: unable to open",
        text: "expected a database: file is not a database",
        truncated: "damaged|malformed",
        database("other", 5, 3): "a database of another program",
        database("newer", APPLICATION_ID, 99): "written by another version",
    }
    for path, told in bad.items():
        with pytest.raises(StorageError, match=told):
            restore(path, tmp_path / "quota.db", "now")
    assert not (tmp_path / "quota.db").exists()
