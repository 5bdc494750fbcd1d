"""`export`: all usage that is kept, as CSV for the backtest or as events to push elsewhere."""

import argparse
import csv
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TextIO

import msgspec

from exporter.cli.arguments import duration
from exporter.cli.backup import download
from exporter.cli.http import Unreachable
from exporter.cli.http import add_arguments as add_connection
from exporter.core.budget import NANO
from exporter.core.series import Series
from exporter.core.slots import COARSE, COARSE_SECONDS, COST, REQUESTS, WIDTH, Block, Counts
from exporter.core.usage import KINDS
from exporter.quota_states import merge
from exporter.storage import StorageError
from exporter.storage.backup import check
from exporter.storage.sqlite import SqliteStore

FORMATS = ("csv", "jsonl")

_LONG = 400 * 86400.0  # seconds: no history is older
_KINDS = [f"{kind}_tokens" for kind in KINDS[:-1]]
"""The fields of an event; tokens of no kind have `tokens` to themselves."""

COLUMNS = ("timestamp", "provider", "model", "consumer", "tokens", *_KINDS, "requests", "cost_usd")


class Row(NamedTuple):
    """What a series used in five minutes.

    Attributes:
        timestamp: Unix seconds at which they began.
    """

    timestamp: int
    series: Series
    counts: Counts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of what, from when on, and how."""
    add_connection(parser)
    parser.add_argument(
        "backup",
        nargs="?",
        type=Path,
        metavar="BACKUP",
        help="read this file that `backup` has written (default: ask the running exporter for one)",
    )
    parser.add_argument(
        "--since", type=duration, metavar="DURATION", help="how far back (default: all there is)"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="csv, as `backtest --usage` reads it, or jsonl: events as `push` takes them "
        "(default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """0 when everything was written."""
    try:
        with tempfile.TemporaryDirectory(prefix="llm-quota-") as folder:
            copy = Path(folder, "quota.db")
            if options.backup is None:
                download(options, copy)
            else:
                check(options.backup)
                shutil.copyfile(options.backup, copy)  # to open it is to change it
            since = time.time() - options.since if options.since else 0.0
            write = _write_csv if options.format == "csv" else _write_events
            write(rows(copy, since), sys.stdout)
    except (Unreachable, StorageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def rows(database: Path, since: float) -> Iterator[Row]:
    """All usage in a database, in the order of time.

    Raises:
        StorageError: it cannot be read.
    """
    now = time.time()
    store = SqliteStore(str(database), retention=_LONG, deduplication=_LONG, now=now, merge=merge)
    try:
        blocks = [one for one in store.load(now).blocks if one.tier is COARSE]
    finally:
        store.close()
    number = attrgetter("number")
    for _, together in groupby(sorted(blocks, key=number), key=number):
        found = [row for block in together for row in _rows(block)]
        yield from sorted(row for row in found if row.timestamp + COARSE_SECONDS > since)


def _rows(block: Block) -> Iterator[Row]:
    start = block.number * block.tier.block_seconds
    columns = {index: column.tolist() for index, column in block.counts.items()}
    for position in range(block.tier.bins):
        counts = [columns[index][position] if index in columns else 0 for index in range(WIDTH)]
        if any(counts):
            yield Row(start + position * COARSE_SECONDS, block.series, counts)


def _write_csv(found: Iterable[Row], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for at, series, counts in found:
        tokens = sum(counts[:REQUESTS])
        cost = counts[COST] / NANO
        writer.writerow([at, *series, tokens, *counts[: len(_KINDS)], counts[REQUESTS], cost])


def _write_events(found: Iterable[Row], out: TextIO) -> None:
    """As events of which none has tokens both with and without a kind."""
    for row in found:
        for event in _events(row):
            out.write(msgspec.json.encode(event).decode() + "\n")


def _events(row: Row) -> Iterator[dict[str, object]]:
    at, series, counts = row
    named = {name: value for name, value in series._asdict().items() if value}
    kinds = {name: count for name, count in zip(_KINDS, counts, strict=False) if count}
    unspecified = counts[len(_KINDS)]
    about = {"timestamp": at, **named}
    totals = {"requests": counts[REQUESTS], "cost_usd": counts[COST] / NANO}
    if kinds or not unspecified:
        yield {**about, **kinds, **totals}
        totals = {"requests": 0, "cost_usd": 0}
    if unspecified:
        yield {**about, "tokens": unspecified, **totals}
