"""`completion`: what a shell needs to complete the command line."""

import argparse
from pathlib import Path

import shtab

SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell."""
    parser.add_argument(
        "shell",
        choices=SHELLS,
        help='to be read at its start, as by: eval "$(llm-quota-exporter completion bash)"',
    )


def run(options: argparse.Namespace) -> int:
    """Always 0."""
    from exporter.cli import parser  # which is about to know this module

    root = parser()
    _complete_files(root)
    print(shtab.complete(root, shell=options.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Let shells offer files where a command takes one."""
    for action in parser._actions:  # as shtab itself does: argparse has no public way
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined] # shtab looks for it
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_files(below)
