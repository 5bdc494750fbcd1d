"""What every benchmark prints: the machine, a table, and whether the targets were met."""

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path


def machine() -> str:
    """One line on where the numbers come from, and how busy it was."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}, load {load:.1f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table, aligned."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * width for width in widths]
    for row in (head, rule, *rows):
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


def finish(missed: Sequence[str]) -> None:
    """End with 1 when a target was missed."""
    for one in missed:
        print(f"missed: {one}")
    sys.exit(1 if missed else 0)
