"""The command line: `llm-quota-exporter`."""

import argparse
import sys
from collections.abc import Sequence

from exporter import __version__
from exporter.backtest import command as backtest
from exporter.cli import checkconfig, push, serve, status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="llm-quota-exporter",
        description="Prometheus exporter for LLM token budgets.",
        allow_abbrev=False,
    )
    version = f"{parser.prog} {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (serve, checkconfig, push, status, backtest):
        command = commands.add_parser(
            module.NAME, help=module.HELP, description=module.HELP, allow_abbrev=False
        )
        command.add_argument("--version", action="version", version=version)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    chosen = parser.parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except BrokenPipeError:  # the reader of a table went away
        sys.stderr.close()
        code = 0
    return code
