"""Amounts and moments in few characters, for tables in a terminal."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from exporter.core.windows import parse_duration


def amount(value: float, unit: str) -> str:
    """An amount of what a budget counts; `unit` is the budget's."""
    if unit == "usd":
        return f"${value:,.2f}"
    if unit == "share":
        return f"{value:.0%}"
    return short(value) + {"tokens": "", "requests": " req"}.get(unit, f" {unit}")


def short(value: float) -> str:
    """A number in three digits: `1.5k`, `2M`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return (
                f"{value / size:.3g}{unit}" if value < 999.5 * size else f"{value / size:.0f}{unit}"
            )
    return f"{value:.0f}"


def until(moment: str | None, now: datetime) -> str:
    """`in 2h05m`, `in 20s`, `now` when it has come; empty without a moment (RFC 3339)."""
    if moment is None:
        return ""
    seconds = (datetime.fromisoformat(moment) - now).total_seconds()
    if seconds <= 0:
        return "now"
    if seconds < 60:
        return f"in {max(1, round(seconds))}s"
    minutes = round(seconds / 60)
    if minutes >= 48 * 60:
        return f"in {minutes // 1440}d{minutes % 1440 // 60:02}h"
    return f"in {minutes // 60}h{minutes % 60:02}m" if minutes >= 60 else f"in {minutes}m"


def period_restarts(quota: Mapping[str, Any]) -> bool:
    """Whether its window ends for all at once; a rolling one frees use bit by bit instead."""
    if quota["unit"] == "share":
        return True  # the provider says when
    try:
        parse_duration(quota["period"])
    except ValueError:
        return True
    return False
