"""The command line: `llm-quota-exporter`."""

import argparse
import os
import signal
import sys
from collections.abc import Collection, Sequence
from importlib import import_module

from exporter import __version__

COMMANDS = {
    "serve": ("exporter.cli.serve", "Run the exporter."),
    "init": (
        "exporter.cli.init",
        "Write a first configuration from what is found here.",
    ),
    "check-config": (
        "exporter.cli.checkconfig",
        "Check configuration files; every problem is named with its line.",
    ),
    "push": (
        "exporter.cli.push",
        "Push usage to a running exporter: one event from options, or events from standard input.",
    ),
    "import": (
        "exporter.cli.import_prometheus",
        "Fill the history from counters that a Prometheus has kept.",
    ),
    "status": (
        "exporter.cli.status",
        "Show every provider: its state, its budgets, and when they run out.",
    ),
    "explain": (
        "exporter.cli.explain",
        "Show what the forecasts of a provider's budgets rest on.",
    ),
    "mark": (
        "exporter.cli.mark",
        "Overrule what the exporter thinks of a provider, until a time.",
    ),
    "budget": (
        "exporter.cli.budget",
        "Give a budget another amount for a while.",
    ),
    "silence": (
        "exporter.cli.silence",
        "Let predictions about a provider have no effect for a while.",
    ),
    "backup": (
        "exporter.cli.backup",
        "Copy the database of a running exporter, as of one moment.",
    ),
    "restore": (
        "exporter.cli.restore",
        "Put a backup in the place of a database that is not in use.",
    ),
    "export": (
        "exporter.cli.export",
        "Write all usage that is kept as CSV, or as events to push elsewhere.",
    ),
    "backtest": (
        "exporter.backtest.command",
        "Replay past usage: who would have been warned, when, and how often for nothing.",
    ),
    "completion": (
        "exporter.cli.completion",
        "Print what a shell needs to complete these commands and their options.",
    ),
}
"""Name -> the module that knows its arguments and runs it, and what it does."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    # Forecasts are many small products, which more threads of OpenBLAS make no faster: they only
    # spin. It reads this when numpy is first imported, by a command.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    given = sys.argv[1:] if arguments is None else arguments
    if "serve" in given:
        # A service manager may change its mind while we are being imported.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # Importing all of them takes longer than most of them run.
    chosen = parser({name for name in COMMANDS if name in given}).parse_args(given)
    try:
        code: int = chosen.run(chosen)
    except BrokenPipeError:  # the reader of a table went away
        sys.stderr.close()
        code = 0
    return code


def parser(known: Collection[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line, which knows the arguments of the commands in `known`."""
    parser = argparse.ArgumentParser(
        prog="llm-quota-exporter",
        description="Prometheus exporter for LLM token budgets.",
        allow_abbrev=False,
    )
    version = f"{parser.prog} {__version__}"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (path, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
        command.add_argument("--version", action="version", version=version)
        if name in known:
            module = import_module(path)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser
