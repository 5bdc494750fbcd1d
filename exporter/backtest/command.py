"""`backtest`: would I have been warned, when, and how often for nothing?"""

import argparse
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from exporter.backtest.enough import enough
from exporter.backtest.parallel import replay_on_all_cores
from exporter.backtest.prometheus import QUERY, STEP, fetch, parts
from exporter.backtest.replay import RULES, steps
from exporter.backtest.report import write_report
from exporter.backtest.scores import Judge
from exporter.backtest.table import enough_table, scores_table, write_decisions
from exporter.backtest.truth import truth
from exporter.backtest.usage import FileError, Rows, joined, read
from exporter.config import Config, ConfigError, load
from exporter.core.budget import Method
from exporter.core.windows import Period, parse_duration
from exporter.terminal import progress

METHODS = tuple(dict.fromkeys([*(method.value for method in Method), *RULES]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to replay, and what to make of it."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--usage",
        type=Path,
        metavar="FILE",
        help="CSV with the columns timestamp, provider, tokens, or the JSON answer to a "
        "Prometheus range query with a label provider, of counters or of increases (told apart "
        "by whether values fall); either may be gzipped",
    )
    source.add_argument(
        "--prometheus", metavar="URL", help="a Prometheus that kept the usage, instead of a file"
    )
    parser.add_argument(
        "--query",
        default=QUERY,
        metavar="PROMQL",
        help="what to ask it: counters or increases per 5m with a label provider "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--days",
        default="35d",
        type=_interval,
        metavar="DURATION",
        help="how far to look back in it (default: %(default)s)",
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file with a bearer token for Prometheus"
    )
    parser.add_argument(
        "--config.file",
        dest="config_file",
        required=True,
        type=Path,
        metavar="FILE",
        help="configuration with the budgets",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="which decisions to write and report (default: as configured)",
    )
    parser.add_argument(
        "--every",
        default="10m",
        type=_interval,
        metavar="DURATION",
        help="time between decisions (default: 10m)",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write every decision as CSV")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page with charts")


def _interval(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}, got {text}") from None
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1s, got {text}")
    return seconds


def run(options: argparse.Namespace) -> int:
    """0 when done, 1 when something cannot be read or written."""
    try:
        _backtest(options)
    except (ConfigError, FileError) as exc:
        print(exc, file=sys.stderr)
        return 1
    return 0


def _backtest(options: argparse.Namespace) -> None:
    config = load(options.config_file)
    source = options.prometheus or str(options.usage)
    found, kind = _fetched(options) if options.prometheus else read(options.usage)
    usage = _budgeted(source, options.config_file, config, found)
    _open(options.output, options.report)
    method = options.method or config.prediction.method.value
    times, until = steps(usage, options.every)
    rows = sum(len(each.tokens) for each in usage.values())
    print(f"{source}: {rows:,} {kind} of {len(usage)} providers", file=sys.stderr)
    with progress(len(times), "deciding") as done:
        decisions = replay_on_all_cores(usage, config, method, times, until, done)
    came = truth(decisions, usage)
    judged = []
    for cases in _by_name(decisions.periods()).values():
        judge = Judge.of(decisions, came, cases)
        names = dict.fromkeys([method, *decisions.said])
        judged.append((judge, {name: judge.score(name) for name in names}))
    for judge, scores in judged:
        print(scores_table(judge, scores))
    needs = enough(decisions, came)
    print(enough_table(needs))
    if options.output:
        write_decisions(options.output, decisions, came, method)
    if options.report:
        write_report(options.report, method, judged, needs)


def _fetched(options: argparse.Namespace) -> tuple[dict[str, Rows], str]:
    headers = {}
    if options.token_file:
        try:
            headers["Authorization"] = "Bearer " + options.token_file.read_text().strip()
        except (OSError, ValueError) as exc:
            raise FileError(f"--token-file: {exc}") from None
    end = time.time() // STEP * STEP
    start = end - options.days
    with progress(parts(start, end), "reading") as done:
        return fetch(options.prometheus, options.query, start, end, headers, done)


def _open(*paths: Path | None) -> None:
    """See that files can be written before a minute is spent on what goes into them."""
    for path in filter(None, paths):
        try:
            path.open("a").close()
        except OSError as exc:
            raise FileError(f"{path}: cannot write it: {exc.strerror}") from None


def _budgeted(
    source: str, config_file: Path, config: Config, found: Mapping[str, Rows]
) -> dict[str, Rows]:
    """Usage of the providers with a budget, under the names they count under."""
    usage: dict[str, list[Rows]] = {}
    for name, rows in found.items():
        usage.setdefault(config.aliases.get(name, name), []).append(rows)
    known = sorted(usage.keys() & config.budgets.keys())
    if not known:
        raise FileError(
            f"{source}: no usage of {_some(config.budgets)}, "
            f"for which {config_file} has budgets; got {_some(usage)}"
        )
    for names, lack in (
        (usage.keys() - config.budgets.keys(), "no budget"),
        (config.budgets.keys() - usage.keys(), "no usage"),
    ):
        if names:
            print(f"left out, {lack}: {_some(names)}", file=sys.stderr)
    return {name: joined(usage[name]) for name in known}


def _some(names: Collection[str]) -> str:
    """A few names, and how many more there are."""
    shown = sorted(names)[:5]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "nobody"


def _by_name(periods: Mapping[Period, list[int]]) -> dict[str, list[int]]:
    """Days are days, whatever their zone."""
    found: dict[str, list[int]] = {}
    for period, cases in periods.items():
        found.setdefault(period.name, []).extend(cases)
    return found
