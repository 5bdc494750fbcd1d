"""`silence`: let predictions about a provider have no effect for a while."""

import argparse

from exporter.cli.arguments import add_end, add_reason, add_scope, end, scope
from exporter.cli.http import add_arguments as add_connection
from exporter.cli.overrule import overrule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, and until when."""
    add_connection(parser)
    add_scope(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    add_end(which)
    which.add_argument("--off", action="store_true", help="end a silence before its time")
    add_reason(parser)


def run(options: argparse.Namespace) -> int:
    """0 when the exporter took it, else 1; shows the provider as it then is."""
    until = None if options.off else end(options)
    wish = {"until": until, **scope(options), "reason": options.reason}
    return overrule(options, "/silence", wish)
