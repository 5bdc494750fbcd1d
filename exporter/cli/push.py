"""`push`: report usage from a shell."""

import argparse
import json
import sys
import uuid
from collections.abc import Iterator
from typing import BinaryIO

from exporter.cli.http import Unreachable, ask
from exporter.cli.http import add_arguments as add_connection

LINES, BYTES = 20_000, 4 * 2**20
"""Of one request: within the limits that an exporter has unless it is configured otherwise."""

_KINDS = ("input", "cache-read", "cache-write", "output", "reasoning")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option for each field of an event."""
    add_connection(parser)
    parser.add_argument("provider", nargs="?", help="leave out to read JSON from standard input")
    parser.add_argument("tokens", nargs="?", type=int, help="tokens of no particular kind")
    parser.add_argument("--model", help="the model that was used")
    parser.add_argument("--id", help="makes a retry harmless (default: a random one)")
    parser.add_argument("--timestamp", help="RFC 3339 or Unix seconds (default: now)")
    for kind in _KINDS:
        parser.add_argument(f"--{kind}-tokens", type=int, metavar="N")


def run(options: argparse.Namespace) -> int:
    """0 when everything was accepted, else 1."""
    accepted, duplicates, code, before = 0, 0, 0, 0
    for body in [_event(options)] if options.provider else _bodies(sys.stdin.buffer):
        try:
            answer = ask(options, "/v1/usage", body, **{"Idempotency-Key": str(uuid.uuid4())})
        except Unreachable as error:
            print(error, file=sys.stderr)
            code = 1
            break
        for one in answer["rejected"]:
            print(f"rejected [{before + one['index']}]: {one['error']}", file=sys.stderr)
            code = 1
        accepted += answer["accepted"]
        duplicates += answer["duplicates"]
        before += len(body.splitlines())
    if not code or accepted or duplicates:
        print(f"accepted {accepted}, duplicates {duplicates}")
    return code


def _bodies(given: BinaryIO) -> Iterator[bytes]:
    """JSON as it is; lines of it in as many requests as the exporter's limits ask for."""
    first = given.readline()
    if not _is_whole(first):
        yield first + given.read()
        return
    held, size = [first], len(first)
    for line in given:
        if len(held) >= LINES or size + len(line) > BYTES:
            yield b"".join(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    yield b"".join(held)


def _is_whole(line: bytes) -> bool:
    """Whether a line is an object by itself, as in NDJSON."""
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _event(options: argparse.Namespace) -> bytes:
    event = {
        "provider": options.provider,
        "tokens": options.tokens,
        "model": options.model,
        "id": options.id or str(uuid.uuid4()),
        "timestamp": _number(options.timestamp),
    }
    for kind in _KINDS:
        field = kind.replace("-", "_") + "_tokens"
        event[field] = getattr(options, field)
    return json.dumps({key: value for key, value in event.items() if value is not None}).encode()


def _number(timestamp: str | None) -> float | str | None:
    try:
        return None if timestamp is None else float(timestamp)
    except ValueError:
        return timestamp
