"""`backup`: a copy of a running exporter's database, as of one moment."""

import argparse
import os
import sys
from io import BufferedWriter
from pathlib import Path

from exporter.cli.http import Unreachable, opened
from exporter.cli.http import add_arguments as add_connection
from exporter.storage import StorageError
from exporter.storage.backup import check, sync

TIMEOUT = 600.0  # seconds until the copy is made, and between two pieces of it

_PIECE = 1024 * 1024  # bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to."""
    add_connection(parser)
    parser.add_argument("file", type=Path, metavar="FILE", help="what to write")


def run(options: argparse.Namespace) -> int:
    """0 when the file is whole and checked, else 1, and whatever was there is there still."""
    try:
        size = download(options, options.file)
    except (Unreachable, StorageError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.file}: {size:,} bytes")
    return 0


def download(options: argparse.Namespace, file: Path) -> int:
    """Write a checked backup to a file; its size in bytes.

    Raises:
        Unreachable: the exporter did not hand it out.
        StorageError: what came is not whole, or cannot be written.
    """
    part = file.with_name(file.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise StorageError(f"{file}: cannot write it: {error.strerror}") from error
    try:
        with open(descriptor, "wb") as out:
            size = _copy(options, out)
        check(part)
        sync(part)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return size


def _copy(options: argparse.Namespace, out: BufferedWriter) -> int:
    size = 0
    with opened(options, "/v1/backup", b"", "POST", timeout=TIMEOUT) as response:
        expected = int(response.headers.get("content-length", "-1"))
        while piece := response.read(_PIECE):
            size += len(piece)
            try:
                out.write(piece)
            except OSError as error:
                raise StorageError(f"{out.name}: cannot write it: {error.strerror}") from error
    if size != expected:
        raise Unreachable(
            f"{options.url}: the backup broke off after {size:,} of {expected:,} bytes"
        )
    return size
