"""Usage on its way from the journal into blocks and totals."""

import sqlite3
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.series import Series
from exporter.core.slots import WIDTH, Cell, Counts
from exporter.storage import history
from exporter.storage.history import History
from tests.storage.values import NOW, SLOT, bins, cell_of, expected

series = st.builds(
    Series, st.sampled_from(["openai", "gemini"]), st.sampled_from(["", "a"]), st.just("team")
)
cells = st.tuples(series, st.integers(SLOT - 1000, SLOT))
numbers = st.lists(st.integers(0, 10**12), min_size=WIDTH, max_size=WIDTH).filter(any)
steps = st.one_of(st.tuples(cells, numbers), st.sampled_from(["fold", "fold", "fail", "die"]))


def begun(db: sqlite3.Connection) -> History:
    return History(db, NOW)


def fold(db: sqlite3.Connection, kept: History) -> None:
    with db:
        db.execute("BEGIN")
        kept.fold_some(NOW)
    kept.folded_some()


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(steps, max_size=40))
@patch.object(history, "SLICE", 1)
def test_what_was_committed_is_folded_once_whatever_is_interrupted(
    steps: list[tuple[Cell, Counts] | str],
) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(history.SCHEMA)
    kept, used = begun(db), []
    for step in steps:
        if not isinstance(step, str):
            added = {step[0]: step[1]}
            kept.append(added)
            kept.remember(added, NOW)
            used.append(step)
        elif step == "die":
            kept = begun(db)
        elif kept.unfolded and step == "fail":
            db.execute("BEGIN")
            kept.fold_some(NOW)
            db.execute("ROLLBACK")
        elif kept.unfolded:
            fold(db, kept)
    while kept.unfolded:
        fold(db, kept)
    assert (dict(kept.totals()), bins(kept.blocks())) == expected(used)
    assert db.execute("SELECT count(*) FROM journal").fetchone() == (0,)


@patch.object(history, "SLICE", 1)
@patch.object(history, "FOLD_CELLS", 200)
def test_folding_keeps_up_with_what_comes_in_meanwhile() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(history.SCHEMA)
    kept = begun(db)
    for turn in range(400):
        added = {
            cell_of(f"provider-{number}", "", SLOT - turn): [1] * WIDTH for number in range(20)
        }
        kept.append(added)
        kept.remember(added, NOW)
        if kept.due(NOW):
            fold(db, kept)
    (waiting,) = db.execute("SELECT count(*) FROM journal").fetchone()
    assert waiting < 200
