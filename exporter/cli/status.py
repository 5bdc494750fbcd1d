"""`status`: who is available, for how long, and who spends it."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from exporter.cli import spending
from exporter.cli.arguments import duration
from exporter.cli.http import Unreachable, ask, provider_path, send
from exporter.cli.http import add_arguments as add_connection
from exporter.cli.words import amount, period_restarts, until
from exporter.terminal import console, show, table

BAR = 10  # characters
WIDE = 100
"""Columns of a terminal that has room for bars, too."""

_WATCH_SECONDS = 5.0

_RED, _YELLOW, _GREEN = "red", "yellow", "green"
_LIKELY = 0.8
"""Probability from which a row is yellow."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to show, and how."""
    add_connection(parser)
    parser.add_argument("provider", nargs="?", help="only this one (default: all)")
    parser.add_argument(
        "--by",
        choices=spending.LABELS,
        help="show instead who used what since the database began; with --watch also how fast",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=duration,
        const=_WATCH_SECONDS,
        metavar="DURATION",
        help="show it again every so often, until interrupted (default: 5s)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="the exporter's own JSON; with --watch as one line each time",
    )


def run(options: argparse.Namespace) -> int:
    """0 when the exporter answered, else 1."""
    status = _Status(options)
    if options.json and options.by:
        print("--json: expected without --by", file=sys.stderr)
        return 1
    if options.watch:
        return (_stream if options.json else _watch)(status, options.watch)
    try:
        found = status.fetch()
    except Unreachable as error:
        print(error, file=sys.stderr)
        return 1
    status.show(found, console())
    return 0


def _watch(status: "_Status", seconds: float) -> int:
    out = console()
    try:
        with Live(console=out, auto_refresh=False, screen=out.is_terminal) as live:
            while True:
                try:
                    found = status.fetch()
                except Unreachable as error:
                    shown: RenderableType = Text(f"{_clock()}  {error}", _RED)
                else:
                    shown = status.rendered(found, out.width)
                if out.is_terminal:
                    live.update(shown, refresh=True)
                else:
                    show(shown, out)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return 0


def _stream(status: "_Status", seconds: float) -> int:
    """A document a line for who reads them by program; what goes wrong goes elsewhere."""
    try:
        while True:
            try:
                print(json.dumps(status.fetch()), flush=True)
            except Unreachable as error:
                print(f"{_clock()}  {error}", file=sys.stderr)
            time.sleep(seconds)
    except KeyboardInterrupt:
        return 0


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%SZ")


class _Status:
    """Asks for what the options want, and shows it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._spending = spending.Spending(options.by, options.provider)

    def fetch(self) -> Any:
        """What the exporter says.

        Raises:
            Unreachable: nothing good.
        """
        options = self._options
        if options.by:
            return send(options, "/metrics").decode()
        if options.provider:
            one = ask(options, provider_path(options.provider))
            return {one["provider"]: one}
        return ask(options, "/v1/providers")

    def rendered(self, found: Any, width: int) -> RenderableType:
        """As a table."""
        if self._options.by:
            return self._spending.table(found, time.monotonic())
        return providers_table(found, datetime.now(UTC), width)

    def show(self, found: Any, out: Console) -> None:
        """On a console, as the options want it."""
        if self._options.json:
            print(json.dumps(found, indent=2))
        else:
            show(self.rendered(found, out.width), out)


def providers_table(providers: Mapping[str, Any], now: datetime, width: int) -> RenderableType:
    """The providers with their budgets, the most urgent first; bars where there is room."""
    rows = [row for one in sorted(providers.values(), key=_urgency) for row in _rows(one, now)]
    if not rows:
        return Text("no providers yet: push some usage, or configure a budget")
    bars = [""] if width >= WIDE else []
    shown: Table = table(
        *("PROVIDER", "STATE", "BUDGET", "USED", *bars, "%", "RUNS OUT", "RESETS"),
        right=("USED", "%"),
    )
    for row in rows:
        bar = [_bar(row.share)] if bars else []
        percent = "" if row.share is None else f"{row.share:.0%}"
        cells = (row.provider, row.state, row.budget, row.used, *bar, percent, row.runs_out)
        shown.add_row(*map(Text, (*cells, row.resets)), style=row.style)
    return shown


class _Row(NamedTuple):
    provider: str
    state: str
    budget: str
    used: str
    share: float | None
    runs_out: str
    resets: str
    style: str


def _urgency(one: Mapping[str, Any]) -> tuple[bool, float, str]:
    likely = max((p["exhaustion_probability"] for p in one["quotas"]), default=0.0)
    return one["state"] == "available", -likely, one["provider"]


def _rows(one: Mapping[str, Any], now: datetime) -> Iterator[_Row]:
    state, out = _state(one, now), one["state"] != "available"
    if not one["quotas"]:
        style = _RED if out else _GREEN
        yield _Row(one["provider"], state, "none", "", None, "", "", style)
    for that in one["quotas"]:
        probability = that["exhaustion_probability"]
        style = _RED if out else _YELLOW if probability >= _LIKELY else _GREEN
        yield _Row(
            provider=one["provider"],
            state=state,
            budget=_budget(that, now),
            used=amount(that["used"], that["unit"]),
            share=that["used"] / that["budget"],
            runs_out=_runs_out(that, now),
            resets=_resets(that, now),
            style=style,
        )
    for part in one.get("scopes", ()):
        if part["state"] != "available" or part["throttled_until"] or part["override"]:
            style = _RED if part["state"] != "available" else _YELLOW
            names = " ".join(part[key] for key in ("model", "consumer") if key in part)
            yield _Row(one["provider"], _state(part, now), names, "", None, "", "", style)


def _state(one: Mapping[str, Any], now: datetime) -> str:
    """What a provider, or a part of it, can do, and until when."""
    if one["state"] != "available":
        text = f"out ({one['reason']}) {until(one['retry_after'], now)}"
    elif one.get("throttled_until"):
        text = f"throttled {until(one['throttled_until'], now)}"
    elif one["recovery_pending"]:
        text = "recovery pending"
    else:
        text = "available"
    override = one.get("override")
    if override and one["state"] == "available":
        text += f" (operator, ends {until(override['until'], now)})"
    return text


def _budget(that: Mapping[str, Any], now: datetime) -> str:
    parts = [amount(that["budget"], that["unit"]), that["period"]]
    parts += [that[key] for key in ("model", "consumer") if key in that]
    if override := that.get("override"):
        configured = amount(override["configured"], that["unit"])
        parts.append(f"({configured} again {until(override['until'], now)})")
    return " ".join(parts)


def _runs_out(that: Mapping[str, Any], now: datetime) -> str:
    text = f"{that['exhaustion_probability']:.0%} {until(that['exhaustion_at'], now)}".rstrip()
    silenced = until(that.get("silenced_until"), now)
    return f"{text} (silenced, ends {silenced})" if silenced else text


def _resets(that: Mapping[str, Any], now: datetime) -> str:
    return until(that["window_end"], now) if period_restarts(that) else "rolls"


def _bar(share: float | None) -> str:
    if share is None:
        return ""
    filled = min(BAR, round(share * BAR))
    return "█" * filled + "░" * (BAR - filled)
