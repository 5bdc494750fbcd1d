"""`check-config`: is this configuration good?"""

import argparse
import sys
from pathlib import Path

from exporter.config import ConfigError, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The files."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """0 when all are good, else 1."""
    code = 0
    for file in options.files:
        try:
            config = load(file)
        except ConfigError as error:
            print(error, file=sys.stderr)
            code = 1
        else:
            for problem in config.deprecated:
                print(problem, file=sys.stderr)
            budgets = sum(map(len, config.budgets.values()))
            print(f"{file}: good, {len(config.budgets)} providers with {budgets} budgets")
    return code
