"""`status`: who is available, and for how long."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from exporter.cli.http import Unreachable, ask
from exporter.cli.http import add_arguments as add_connection

_HEADS = ("PROVIDER", "STATE", "PERIOD", "USED", "BUDGET", "", "RUNS OUT", "WHEN", "RESETS")
_RIGHT = {3, 4, 6}
_BAR = 10  # characters
_RED, _YELLOW, _GREEN, _PLAIN = "\033[31m", "\033[33m", "\033[32m", "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How to show it."""
    add_connection(parser)
    parser.add_argument("--json", action="store_true", help="the exporter's own JSON")


def run(options: argparse.Namespace) -> int:
    """0 when the exporter answered, else 1."""
    try:
        providers = ask(options, "/v1/providers")
    except Unreachable as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(providers, indent=2))
    else:
        print(table(providers, datetime.now(UTC), colour=sys.stdout.isatty()))
    return 0


def table(providers: Mapping[str, Any], now: datetime, *, colour: bool) -> str:
    """The providers as an aligned table, the most urgent first."""
    rows = [row for one in sorted(providers.values(), key=_urgency) for row in _rows(one, now)]
    if not rows:
        return "no providers yet: push some usage, or configure a budget"
    widths = [max(len(cell) for cell in column) for column in zip(_HEADS, *rows, strict=True)]
    lines = [_line(_HEADS, widths)]
    for row in rows:
        line = _line(row, widths)
        lines.append(_colour(row) + line + _PLAIN if colour else line)
    return "\n".join(lines)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = (
        cell.rjust(width) if index in _RIGHT else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def _urgency(one: Mapping[str, Any]) -> tuple[bool, float, str]:
    likely = max((p["exhaustion_probability"] for p in one["quotas"]), default=0.0)
    return one["state"] == "available", -likely, one["provider"]


def _rows(one: Mapping[str, Any], now: datetime) -> Iterator[tuple[str, ...]]:
    state = one["state"].replace("_", " ")
    if one["reason"]:
        state += f" ({one['reason']}, {_until(one['retry_after'], now)})"
    elif one["recovery_pending"]:
        state += " (recovery pending)"
    if not one["quotas"]:
        yield (one["provider"], state, "", "", "no budget", "", "", "", "")
    for that in one["quotas"]:
        share = that["used"] / that["budget"]
        filled = min(_BAR, round(share * _BAR))
        yield (
            one["provider"],
            state,
            " ".join(
                [that["period"], *(that[key] for key in ("model", "consumer") if key in that)]
            ),
            _amount(that["used"], that["unit"]),
            _amount(that["budget"], that["unit"]),
            f"{'█' * filled}{'░' * (_BAR - filled)} {share:4.0%}",
            f"{that['exhaustion_probability']:.0%}",
            _until(that["exhaustion_at"], now),
            _until(that["window_end"], now).replace("now", "rolls"),
        )


def _amount(amount: float, unit: str) -> str:
    if unit == "usd":
        return f"${amount:,.2f}"
    return _short(amount) + {"tokens": "", "requests": " req"}.get(unit, f" {unit}")


def _colour(row: tuple[str, ...]) -> str:
    if row[1].startswith("quota"):
        return _RED
    return _YELLOW if row[6] and int(row[6].rstrip("%")) >= 80 else _GREEN


def _short(tokens: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if tokens >= size:
            return (
                f"{tokens / size:.3g}{unit}"
                if tokens < 999.5 * size
                else f"{tokens / size:.0f}{unit}"
            )
    return f"{tokens:.0f}"


def _until(text: str | None, now: datetime) -> str:
    """`in 2h05m`, or the date when that is days away."""
    if text is None:
        return ""
    minutes = round((datetime.fromisoformat(text) - now).total_seconds() / 60)
    if minutes <= 0:
        return "now"
    if minutes >= 48 * 60:
        return f"in {minutes // 1440}d{minutes % 1440 // 60:02}h"
    return f"in {minutes // 60}h{minutes % 60:02}m" if minutes >= 60 else f"in {minutes}m"
