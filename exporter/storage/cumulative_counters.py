"""Cumulative counters in a SQLite file: what each was when it was last reported."""

import sqlite3

import msgspec

from exporter.core.slots import WIDTH, Counts, delta_since
from exporter.storage.contract import CumulativeReport

SCHEMA = """
CREATE TABLE level (
  digest BLOB PRIMARY KEY, started REAL NOT NULL, counts BLOB NOT NULL, touched REAL NOT NULL
) WITHOUT ROWID;
"""

_decoder = msgspec.msgpack.Decoder(Counts)
_encode = msgspec.msgpack.encode


class CumulativeCounters:
    """All counters of a database. Every call needs a transaction around it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def delta_since(
        self, report: CumulativeReport, known_since: float, now: float
    ) -> Counts | None:
        """What a counter rose by since its last report, which this one replaces.

        None where it is seen for the first time, and may have been counted before `known_since`
        (Unix seconds) and forgotten.
        """
        row = self._db.execute(
            "SELECT started, counts FROM level WHERE digest = ?", (report.digest,)
        ).fetchone()
        base = [0] * WIDTH
        if row is not None:
            started, body = row
            if report.started < started:
                return base  # a late report of a counter that has restarted since
            if report.started == started or report.sampled:
                base = _decoder.decode(body)
        risen = delta_since(report.counts, base)
        if risen is None and report.sampled and row is not None and report.started > started:
            risen = report.counts  # it began anew
        if risen is None:
            return [0] * WIDTH
        self._db.execute(
            "INSERT OR REPLACE INTO level VALUES (?, ?, ?, ?)",
            (report.digest, report.started, _encode(report.counts), now),
        )
        if row is None and (report.sampled or report.started < known_since):
            return None
        return risen

    def prune(self, before: float) -> None:
        """Forget those that were not reported since a moment (Unix seconds)."""
        self._db.execute("DELETE FROM level WHERE touched < ?", (before,))
