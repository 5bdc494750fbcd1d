"""`explain`: what the forecasts of a provider's budgets rest on."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from exporter.cli.http import Unreachable, ask, provider_path
from exporter.cli.http import add_arguments as add_connection
from exporter.cli.words import amount, until

_BARS = "▁▂▃▄▅▆▇█"
_NOTHING = " "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose forecasts, and how to show them."""
    add_connection(parser)
    parser.add_argument("provider")
    parser.add_argument("--json", action="store_true", help="the exporter's own JSON")


def run(options: argparse.Namespace) -> int:
    """0 when the exporter answered, else 1."""
    try:
        found = ask(options, provider_path(options.provider, "/explain"))
    except Unreachable as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2) if options.json else explained(found, datetime.now(UTC)))
    return 0


def explained(found: Mapping[str, Any], now: datetime) -> str:
    """The answer of the exporter in words and lines of bars."""
    if not found["quotas"]:
        return f"{found['provider']}: no budget and no reported window, so nothing is forecast"
    return "\n\n".join(
        "\n".join(_quota(found["provider"], quota, now)) for quota in found["quotas"]
    )


def _quota(provider: str, quota: Mapping[str, Any], now: datetime) -> Iterator[str]:
    unit = quota["unit"]
    parts = [provider, *(quota[key] for key in ("model", "consumer") if key in quota)]
    budget = quota["budget"] * (1 - quota["reserve"])
    yield f"{' '.join(parts)}: {amount(quota['budget'], unit)} per {quota['period']}"
    band = " to ".join(amount(quota[f"projected_{edge}"], unit) for edge in ("lower", "upper"))
    yield (
        f"  used {amount(quota['used'], unit)} ({quota['used_ratio']:.0%}), "
        f"projected {amount(quota['projected'], unit)} ({band})"
    )
    moment = until(quota["exhaustion_at"], now)
    when = f", most likely {moment}" if moment else ""
    yield f"  {quota['exhaustion_probability']:.1%} likely to run out{when}"
    yield f"  {_grounds(quota)}"
    yield f"  {_record(quota['record'])}"
    course = quota["course"]
    highest = max([budget, *course["usual_upper"], *course["used"], quota["used"]])
    rows = {
        "now": _until_now(course, quota["used"], now),
        "usual": course["usual"],
        "lower": course["usual_lower"],
        "upper": course["usual_upper"],
    }
    for name, values in rows.items():
        if values:
            end = amount(values[-1], unit)
            yield f"  {name:5} {bars(values, highest, len(course['timestamps']))} {end}"
    yield f"  from {_at(course['timestamps'][0])} to {_at(course['timestamps'][-1])}"


def _until_now(course: Mapping[str, Any], used: float, now: datetime) -> list[float]:
    """What was used at each of the moments, and in the end what is used by now: the moments of a
    day are half an hour apart, and the course knows none after the last of them."""
    past: list[float] = course["used"]
    moments = course["timestamps"]
    apart = moments[1] - moments[0]
    is_now = past and now.timestamp() - moments[len(past) - 1] < apart / 2
    return [*(past[:-1] if is_now else past), used]


def bars(values: Sequence[float], highest: float, width: int) -> str:
    """One character per value by its height; blank where there is none yet."""
    top = len(_BARS) - 1
    scale = top / highest if highest > 0 else 0.0
    drawn = "".join(_BARS[min(top, round(value * scale))] for value in values)
    return drawn.ljust(width, _NOTHING)


def _grounds(quota: Mapping[str, Any]) -> str:
    days = f"{quota['history_days']:.1f} days of history"
    if not quota["windows"]:
        return f"learning: {days}, no earlier window yet"
    record = f"{quota['windows']} earlier windows scored, of {days}"
    return f"learning: {record}" if quota["learning"] else record


def _record(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "no window was over yet: the forecasts are not scored"
    windows = "1 window" if record["windows"] == 1 else f"{record['windows']} windows"
    return (
        f"record: {windows} scored, {record['mean_probability']:.0%} was said on average, "
        f"{record['share_exhausted']:.0%} came true, Brier score {record['brier']:.3f}"
    )


def _at(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M} UTC"
