"""`init`: a first configuration, from what is found here and what is answered."""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.prompt import Prompt

from exporter.cli.discovery import LITELLM_FILES, Found, in_environment, in_litellm, scalar
from exporter.cli.http import Unreachable, ask
from exporter.cli.http import add_arguments as add_connection
from exporter.config import ConfigError, parse
from exporter.terminal import console

_EXAMPLE = "2M, 250 requests, or 500 usd per month"
_ANSWER = re.compile(
    r"\$?(?P<amount>[0-9][0-9_.kKMGe]*)"
    r"(?: (?P<unit>tokens|requests|usd))?(?: per (?P<period>\S+))?",
    re.ASCII,
)
_HEAD = """\
# Written by `llm-quota-exporter init`. The documentation shows every setting with its default.
# `llm-quota-exporter check-config FILE` checks it; a running exporter reads it again on SIGHUP.

# Who may use how much, and when the count starts over. Providers without a budget are tracked, too.
budgets:
"""
_NOTHING = """\
  # openai: 2M                            # tokens per UTC day
  # gemini: {requests: 250, period: day, timezone: America/Los_Angeles}
  # anthropic: {usd: 500, period: month}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to write, and where to look."""
    add_connection(parser)
    parser.add_argument(
        "file",
        nargs="?",
        default="quota.yml",
        metavar="FILE",
        help="what to write; - for standard output (default: %(default)s)",
    )
    parser.add_argument(
        "--litellm",
        type=Path,
        metavar="FILE",
        help="a configuration of LiteLLM's proxy (default: one in this folder, if there is any)",
    )
    parser.add_argument(
        "--no-questions", action="store_true", help="write what is found, and ask nothing"
    )


def run(options: argparse.Namespace) -> int:
    """0 when it is written; 1 when not, and nothing is overwritten."""
    if options.file != "-" and os.path.exists(options.file):
        print(f"{options.file}: expected no file, it is there already", file=sys.stderr)
        return 1
    try:
        found = discover(options, os.environ)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if sys.stdin.isatty() and not options.no_questions:
        _ask_for_budgets(found)
    text = configuration(found)
    if options.file == "-":
        print(text, end="")
        return 0
    try:
        with open(options.file, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        print(f"{options.file}: cannot write it: {error.strerror}", file=sys.stderr)
        return 1
    names = ", ".join(found) or "none"
    print(f"{options.file}: written; providers found: {names}")
    print(f"next: llm-quota-exporter serve --config.file {options.file}")
    return 0


def discover(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Found]:
    """Every provider that is in use here, and what is known of it.

    Raises:
        ValueError: a file that was named cannot be read.
    """
    found: dict[str, Found] = {}
    for provider, variable in in_environment(environment):
        found.setdefault(provider, Found()).because.append(variable)
    there = [Path(name) for name in LITELLM_FILES if Path(name).is_file()]
    for path in [options.litellm] if options.litellm else there[:1]:
        for provider, one in in_litellm(path).items():
            held = found.setdefault(provider, Found())
            held.because += one.because
            held.budgets += one.budgets
            held.limits += one.limits
    try:
        running = ask(options, "/v1/providers")
    except Unreachable:
        running = {}  # most likely this is before the first start
    for provider in running:
        found.setdefault(provider, Found()).because.append("the running exporter")
    return found


def _ask_for_budgets(found: Mapping[str, Found]) -> None:
    out = console(sys.stderr)
    for provider, one in found.items():
        if one.budgets:
            continue
        while True:
            question = f"{provider}: how much a day? ({_EXAMPLE}; empty: no budget yet)"
            answer = Prompt.ask(question, console=out, default="", show_default=False).strip()
            if not answer:
                break
            try:
                one.budgets.append(budget(answer))
                break
            except ValueError as error:
                out.print(f"{error}")


def budget(answer: str) -> str:
    """What somebody answered as the configuration has it.

    Raises:
        ValueError: it is no amount, or of no period that there is.
    """
    match = _ANSWER.fullmatch(answer)
    if match is None:
        raise ValueError(f"expected {_EXAMPLE}, got {answer!r:.64}")
    amount, unit, period = match.groups()
    unit = unit or ("usd" if answer.startswith("$") else "tokens")
    plain = unit == "tokens" and not period
    text = amount if plain else f"{{{unit}: {amount}, period: {period or 'day'}}}"
    try:
        parse(f"budgets: {{x: {text}}}", "answer")
    except ConfigError as error:
        raise ValueError(
            str(error).splitlines()[0].partition("budgets.x")[2].lstrip(".: ")
        ) from error
    return text


def configuration(found: Mapping[str, Found]) -> str:
    """The configuration; what is not decided yet stands there as a comment."""
    lines = []
    for provider, one in found.items():
        because = f"# found by {', '.join(dict.fromkeys(one.because))}"
        name = scalar(provider)
        if not one.budgets:
            lines.append(f"  # {name}: 2M".ljust(40) + f"# tokens per UTC day; {because[2:]}")
        elif len(one.budgets) == 1:
            lines.append(f"  {name}: {one.budgets[0]}".ljust(40) + because)
        else:
            lines.append(f"  {name}:".ljust(40) + because)
            lines += [f"    - {each}" for each in one.budgets]
        if one.limits:
            lines.append(
                "    # limits that LiteLLM enforces; as budgets they show how near they are:"
            )
            lines += [f"    # - {each}" for each in one.limits]
    body = "".join(line + "\n" for line in lines) or _NOTHING
    return _HEAD + body
