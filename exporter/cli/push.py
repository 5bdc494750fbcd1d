"""`push`: report usage from a shell."""

import argparse
import json
import sys
import uuid

from exporter.cli.http import Unreachable, ask
from exporter.cli.http import add_arguments as add_connection

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
    body = _event(options) if options.provider else sys.stdin.buffer.read()
    try:
        answer = ask(options, "/v1/usage", body, **{"Idempotency-Key": str(uuid.uuid4())})
    except Unreachable as error:
        print(error, file=sys.stderr)
        return 1
    for one in answer["rejected"]:
        print(f"rejected [{one['index']}]: {one['error']}", file=sys.stderr)
    print(f"accepted {answer['accepted']}, duplicates {answer['duplicates']}")
    return 1 if answer["rejected"] else 0


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
