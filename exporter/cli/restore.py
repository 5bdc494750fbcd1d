"""`restore`: put a backup in the place of the database."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from exporter.cli.arguments import add_storage
from exporter.storage import StorageError
from exporter.storage.backup import restore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, and where to."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a backup")
    add_storage(parser)


def run(options: argparse.Namespace) -> int:
    """0 when it is in place; 1 when not, and what was there is there still."""
    path = options.storage.removeprefix("sqlite:///")
    if path == options.storage or not path:
        print(f"--storage.url: expected sqlite:///path, got {options.storage!r}", file=sys.stderr)
        return 1
    try:
        aside = restore(options.file, Path(path), datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
    except StorageError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: restored" + (f"; what was there is {aside}" if aside else ""))
    return 0
