"""`backtest`: would I have been warned, when, and how often for nothing?"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from exporter.backtest.budgeted import budgeted
from exporter.backtest.enough import enough
from exporter.backtest.files import read
from exporter.backtest.parallel import replay_on_all_cores
from exporter.backtest.prometheus import QUERIES, STEP, fetch, parts
from exporter.backtest.range_query import read_series
from exporter.backtest.replay import RULES, steps
from exporter.backtest.report import write_report
from exporter.backtest.scores import Judge
from exporter.backtest.table import enough_table, scores_table, write_decisions
from exporter.backtest.truth import truth
from exporter.backtest.usage import NO_COST, FileError, Named, Usage, usage_of
from exporter.config import Config, ConfigError, load
from exporter.core.budget import BudgetUnit, Method
from exporter.core.prices import Prices
from exporter.core.series import Series
from exporter.core.windows import Period, parse_duration
from exporter.names import Names
from exporter.terminal import progress

METHODS = tuple(dict.fromkeys([*(method.value for method in Method), *RULES]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to replay, and what to make of it."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--usage",
        type=Path,
        metavar="FILE",
        help="CSV with the columns timestamp, provider and tokens (or requests, or cost_usd), "
        "and model, consumer and kinds of tokens where budgets need them, as `export` writes it; "
        "or the JSON answer to a Prometheus range query with a label provider, of counters or of "
        "increases (told apart by whether values fall); either may be gzipped",
    )
    source.add_argument(
        "--prometheus", metavar="URL", help="a Prometheus that kept the usage, instead of a file"
    )
    parser.add_argument(
        "--query",
        metavar="PROMQL",
        help="what to ask it: counters or increases per 5m with a label provider, and model, "
        "consumer and kind where budgets need them (default: what this exporter counted, by "
        "provider and model)",
    )
    parser.add_argument(
        "--unit",
        default=BudgetUnit.TOKENS,
        type=BudgetUnit,
        choices=list(QUERIES),
        help="what the values of that query, or of a range query in a file, count "
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
    found = _usage(options, config)
    usage, config, notes = budgeted(found, config, source, options.config_file)
    for note in notes:
        print(note, file=sys.stderr)
    _open(options.output, options.report)
    method = options.method or config.prediction.method.value
    times, until = steps(usage, options.every)
    rows = sum(len(each.timestamps) for each in usage.values())
    providers = len({series.provider for series in usage})
    print(f"{source}: {rows:,} {found.kind} of {providers} providers", file=sys.stderr)
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


def _usage(options: argparse.Namespace, config: Config) -> Usage:
    names = Names()
    names.configure(config.limits, config.budgets)

    def named(provider: str, model: str, consumer: str) -> Series:
        return names.place(config.aliases.get(provider, provider), model, consumer, 0.0)

    units = {budget.unit for those in config.budgets.values() for budget in those}
    prices = config.prices if BudgetUnit.USD in units else Prices()
    if not options.prometheus:
        return read(options.usage, named, prices, options.unit)
    if options.query:
        return _fetched(options, {options.unit: options.query}, named, prices)
    queries = {unit: query for unit, query in QUERIES.items() if unit in units} or QUERIES
    return _fetched(options, queries, named, prices)


def _fetched(
    options: argparse.Namespace, queries: Mapping[BudgetUnit, str], named: Named, prices: Prices
) -> Usage:
    headers = {}
    if options.token_file:
        try:
            headers["Authorization"] = "Bearer " + options.token_file.read_text().strip()
        except (OSError, ValueError) as exc:
            raise FileError(f"--token-file: {exc}") from None
    url = options.prometheus
    end = time.time() // STEP * STEP
    start = end - options.days
    each = parts(start, end)
    # Where its cost is counted, a token has none of its own.
    cost = 0 if BudgetUnit.USD in queries else NO_COST
    found, kinds, units, labels = [], dict[str, None](), set[BudgetUnit](), set[str]()
    with progress(each * len(queries), "reading") as done:
        for number, (unit, query) in enumerate(queries.items()):
            before = number * each

            def more(there: int, before: int = before) -> None:
                done(before + there)

            series = fetch(url, query, start, end, headers, more)
            some, kind, present = read_series(series, url, unit, named, cost)
            found += some
            if series:
                kinds[kind] = None
                units.add(unit)
            labels |= present
    usage = usage_of(found, " and ".join(kinds), units, labels, prices)
    if not usage.rows:
        raise FileError(f"{url}: no usage in the answer to {', '.join(queries.values())}")
    return usage


def _open(*paths: Path | None) -> None:
    """See that files can be written before a minute is spent on what goes into them."""
    for path in filter(None, paths):
        try:
            path.open("a").close()
        except OSError as exc:
            raise FileError(f"{path}: cannot write it: {exc.strerror}") from None


def _by_name(periods: Mapping[Period, list[int]]) -> dict[str, list[int]]:
    """Days are days, whatever their zone."""
    found: dict[str, list[int]] = {}
    for period, cases in periods.items():
        found.setdefault(period.name, []).extend(cases)
    return found
