"""`mark`: overrule what the exporter thinks of a provider, until a time."""

import argparse

from exporter.cli.arguments import add_end, add_reason, add_scope, end, scope
from exporter.cli.http import add_arguments as add_connection
from exporter.cli.overrule import overrule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whom, and as what."""
    add_connection(parser)
    add_scope(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    add_end(which)
    which.add_argument(
        "--available", action="store_true", help="available, until what holds it back would end"
    )
    which.add_argument(
        "--auto", action="store_true", help="take the last word back: as counted and foreseen"
    )
    add_reason(parser)


def run(options: argparse.Namespace) -> int:
    """0 when the exporter took it, else 1; shows the provider as it then is."""
    if options.available or options.auto:
        wish = {"state": "auto" if options.auto else "available"}
    else:
        wish = {"state": "quota_exhausted", "retry_after": end(options)}
    return overrule(options, "/state", {**wish, **scope(options), "reason": options.reason})
