"""How a database of an older layout becomes one of the present layout.

A change of layout is one more function at the end of `MIGRATIONS`. Each is written for the layouts
of its day alone, so it names tables and widths itself and uses nothing that may change later.
"""

import sqlite3
from collections.abc import Callable

import msgspec

OLDEST = 2
"""The first layout that anybody has."""


def _key_usage_by_series(db: sqlite3.Connection, now: float) -> None:
    """2 to 3: blocks and sums belong to series, and counts have a column for cost.

    What is in blocks was not told apart by model: it becomes history of the provider's series
    without a model. Totals keep their models, and so does what is in the journal only.
    """
    old_counts = msgspec.msgpack.Decoder(list[int])
    old_cells = msgspec.msgpack.Decoder(list[tuple[tuple[str, str, int], list[int]]])
    encode = msgspec.msgpack.encode

    def labels(*values: str) -> str:
        return msgspec.json.encode([*values[:-1], *filter(None, values[-1:])]).decode()

    def widened(body: bytes) -> bytes:
        return encode([*old_counts.decode(body), 0])

    folded = dict(db.execute("SELECT provider, seq FROM folded"))
    journal: list[tuple[bytes, int]] = []
    for seq, body in db.execute("SELECT seq, body FROM journal"):
        cells = [
            (([provider, model], slot), [*counts, 0])
            for (provider, model, slot), counts in old_cells.decode(body)
            if seq > folded.get(provider, 0)
        ]
        journal.append((encode(cells), seq))
    db.executemany("UPDATE journal SET body = ? WHERE seq = ?", journal)

    db.execute("ALTER TABLE block RENAME TO old_block")
    db.execute("ALTER TABLE total RENAME TO old_total")
    db.execute("DROP TABLE folded")
    db.execute(
        "CREATE TABLE series (id INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE, "
        "counts BLOB NOT NULL, touched REAL NOT NULL)"
    )
    db.execute(
        "CREATE TABLE block (series INTEGER NOT NULL, tier TEXT NOT NULL, "
        "number INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (tier, number, series))"
    )
    db.execute("CREATE TABLE folded (series INTEGER PRIMARY KEY, seq INTEGER NOT NULL)")
    sums = [
        (labels(provider, model), widened(counts), now)
        for provider, model, counts in db.execute("SELECT provider, model, counts FROM old_total")
    ]
    nothing = encode([0] * 8)
    sums += [
        (labels(provider, ""), nothing, now)
        for (provider,) in db.execute("SELECT DISTINCT provider FROM old_block")
    ]
    db.executemany("INSERT OR IGNORE INTO series (labels, counts, touched) VALUES (?, ?, ?)", sums)
    db.create_function("labels", 1, lambda provider: labels(provider, ""), deterministic=True)
    db.execute(
        "INSERT INTO block SELECT series.id, tier, number, body FROM old_block "
        "JOIN series ON series.labels = labels(old_block.provider) ORDER BY old_block.rowid"
    )
    db.execute("DROP TABLE old_block")
    db.execute("DROP TABLE old_total")
    db.execute("ALTER TABLE life ADD COLUMN trusted REAL NOT NULL DEFAULT 0")
    db.execute("UPDATE life SET trusted = ?", (now,))
    levels = [
        (widened(counts), digest)
        for digest, counts in db.execute("SELECT digest, counts FROM level")
    ]
    db.executemany("UPDATE level SET counts = ? WHERE digest = ?", levels)


MIGRATIONS: tuple[Callable[[sqlite3.Connection, float], None], ...] = (_key_usage_by_series,)
"""From `OLDEST` to the next layout, from there to the next, and so on."""

SCHEMA_VERSION = OLDEST + len(MIGRATIONS)


def migrate(db: sqlite3.Connection, version: int, now: float) -> None:
    """Bring a database of layout `version` to the present one, within the caller's transaction."""
    for step in MIGRATIONS[version - OLDEST :]:
        step(db, now)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
