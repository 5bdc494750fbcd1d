"""Usage from CSV: what `export` writes, or less of it."""

import csv
import io
import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.backtest.usage import LATEST, MAX_AMOUNT, NO_COST, FileError, Named, Part, Rows
from exporter.core.budget import NANO, BudgetUnit
from exporter.core.moment import unix_seconds
from exporter.core.series import Series
from exporter.core.slots import COST, REQUESTS, WIDTH
from exporter.core.usage import KINDS

LABELS = ("model", "consumer")
KIND_COLUMNS = tuple(f"{kind}_tokens" for kind in KINDS[:-1])
AMOUNTS = ("tokens", *KIND_COLUMNS, "requests", "cost_usd")
"""`tokens` are all of a row, those of the kinds among them."""

_UNITS = {"requests": BudgetUnit.REQUESTS, "cost_usd": BudgetUnit.USD}
_UNSPECIFIED = KINDS.index("unspecified")
_Numbers = NDArray[np.float64]


@dataclass(slots=True)
class _Held:
    """The cells of one series, row by row."""

    series: Series
    timestamps: "array[float]" = field(default_factory=lambda: array("d"))
    amounts: "array[float]" = field(default_factory=lambda: array("d"))


def read_table(path: Path, text: str, named: Named) -> tuple[list[Part], set[BudgetUnit], set[str]]:
    """Return usage, and which units and labels it tells.

    Raises:
        FileError: a column is missing, or a value makes no sense.
    """
    lines = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip().lower() for name in next(lines, [])]
    amounts = [name for name in AMOUNTS if name in header]
    missing = [name for name in ("timestamp", "provider") if name not in header]
    if not amounts:
        missing.append("tokens (or requests, or cost_usd)")
    if missing:
        got = ",".join(header) or "an empty line"
        raise FileError(f"{path}:1: no column {', '.join(missing)}, got {got}")
    at, provider = header.index("timestamp"), header.index("provider")
    labels = [header.index(name) if name in header else None for name in LABELS]
    places = [(header.index(name), _reader(name)) for name in amounts]
    by_kind = "tokens" in amounts and any(name in KIND_COLUMNS for name in amounts)
    held: dict[tuple[str, ...], _Held] = {}
    for cells in lines:
        if not cells:
            continue
        try:
            model, consumer = ("" if one is None else cells[one] for one in labels)
            key = (cells[provider], model, consumer)
            one = held.get(key)
            if one is None:
                one = held[key] = _Held(named(_provider(key[0]), model, consumer))
            one.timestamps.append(moment(cells[at]))
            row = [read(cells[place]) for place, read in places]
        except IndexError:
            raise FileError(
                f"{path}:{lines.line_num}: expected {len(header)} columns, got {len(cells)}"
            ) from None
        except ValueError as exc:
            raise FileError(f"{path}:{lines.line_num}: {exc}") from None
        if by_kind and row[0] + 0.5 < (kinds := _of_kinds(amounts, row)):
            raise FileError(
                f"{path}:{lines.line_num}: tokens: expected at least the {kinds:.0f} of its "
                f"kinds, got {row[0]:.0f}"
            )
        one.amounts.extend(row)
    units = {_UNITS.get(name, BudgetUnit.TOKENS) for name in amounts}
    parts = [(one.series, _rows(one, amounts)) for one in held.values()]
    return parts, units, {name for name in LABELS if name in header}


def _of_kinds(names: Sequence[str], row: Sequence[float]) -> float:
    cells = zip(names, row, strict=True)
    return sum(amount for name, amount in cells if name in KIND_COLUMNS)


def _rows(held: _Held, names: Sequence[str]) -> Rows:
    amounts: _Numbers = np.array(held.amounts).reshape(-1, len(names))
    counts = np.zeros((len(amounts), WIDTH), np.int64)
    counts[:, COST] = NO_COST
    for name, column in zip(names, np.rint(amounts).astype(np.int64).T, strict=True):
        if name in KIND_COLUMNS:
            counts[:, KIND_COLUMNS.index(name)] = column
        elif name == "requests":
            counts[:, REQUESTS] = column
    if "tokens" in names:
        tokens = np.rint(amounts[:, names.index("tokens")]).astype(np.int64)
        rest = tokens - counts[:, : len(KIND_COLUMNS)].sum(axis=1)
        counts[:, _UNSPECIFIED] = np.maximum(rest, 0)
    if "cost_usd" in names:
        cost = amounts[:, names.index("cost_usd")]
        counts[:, COST] = np.where(cost == NO_COST, NO_COST, np.rint(cost * NANO))
    return Rows(np.array(held.timestamps), counts)


def _provider(text: str) -> str:
    if not text:
        raise ValueError("provider: expected a name, got an empty value")
    return text


def moment(text: str) -> float:
    """Unix seconds.

    Raises:
        ValueError: it is neither Unix seconds nor RFC 3339.
    """
    try:
        found = float(text)
    except ValueError:
        found = _rfc3339(text)
    if not 0 <= found < LATEST:
        raise ValueError(f"timestamp: expected Unix seconds, got {text}")
    return found


def _rfc3339(text: str) -> float:
    try:
        return unix_seconds(text)
    except ValueError:
        raise ValueError(
            f"timestamp: expected Unix seconds or RFC 3339 with an offset, got {text!r}"
        ) from None


def _reader(name: str) -> Callable[[str], float]:
    if name == "cost_usd":
        return lambda text: amount(name, text, MAX_AMOUNT / NANO) if text else NO_COST
    return lambda text: amount(name, text)


def amount(name: str, text: str, most: float = MAX_AMOUNT) -> float:
    """A number from 0 to below `most`.

    Raises:
        ValueError: it is none.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < most:
        raise ValueError(f"{name}: expected a number of at least 0, got {text!r}")
    return found
