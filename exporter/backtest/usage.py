"""Past usage by series, with what it tells: units, models and consumers."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.core.budget import BudgetUnit
from exporter.core.prices import Prices
from exporter.core.series import Series
from exporter.core.slots import COST, REQUESTS
from exporter.core.usage import Tokens

LATEST = 253_402_300_800.0
"""The year 10000; beyond it a timestamp is in another unit than seconds."""

MAX_AMOUNT = 2.0**53
"""Of anything in a row: larger whole numbers are not told apart."""

NO_COST = -1
"""What a row costs where its report does not say."""

Named = Callable[[str, str, str], Series]
"""Under which names the usage of a provider, model and consumer counts."""


class FileError(Exception):
    """The file cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Usage of one series in the order of time.

    Attributes:
        timestamps: Unix seconds.
        counts: a row each, with the columns of `Counts`.
    """

    timestamps: NDArray[np.float64]
    counts: NDArray[np.int64]


Part = tuple[Series, Rows]
"""Some of a series' usage, in any order of time."""


@dataclass(frozen=True, slots=True)
class Usage:
    """All usage of a source.

    Attributes:
        rows: by series.
        kind: what the source was taken for.
        units: what it tells.
        labels: of `model` and `consumer` those that it tells.
        unpriced: model -> rows that count 0 USD, for want of a cost and of a price.
    """

    rows: Mapping[Series, Rows]
    kind: str
    units: frozenset[BudgetUnit]
    labels: frozenset[str]
    unpriced: Mapping[str, int]

    def __len__(self) -> int:
        return sum(len(each.timestamps) for each in self.rows.values())


def usage_of(
    parts: Iterable[Part],
    kind: str,
    units: Collection[BudgetUnit],
    labels: Collection[str],
    prices: Prices,
) -> Usage:
    """Put parts together; what tells no cost is priced."""
    found: dict[Series, list[Rows]] = {}
    for series, rows in parts:
        if len(rows.timestamps):
            found.setdefault(series, []).append(rows)
    joined = {series: _joined(those) for series, those in found.items()}
    unpriced: Counter[str] = Counter()
    priced = sum(_price(series, rows, prices, unpriced) for series, rows in joined.items())
    known = frozenset(units) | ({BudgetUnit.USD} if priced else set())
    return Usage(joined, kind, known, frozenset(labels), unpriced)


def _joined(parts: Sequence[Rows]) -> Rows:
    moments = np.concatenate([part.timestamps for part in parts])
    order = np.argsort(moments, kind="stable")
    return Rows(moments[order], np.concatenate([part.counts for part in parts])[order])


def _price(series: Series, rows: Rows, prices: Prices, unpriced: Counter[str]) -> int:
    """Price the rows without a cost, in place; return of how many there was a price."""
    missing = np.flatnonzero(rows.counts[:, COST] == NO_COST)
    priced = 0
    for row in missing.tolist():
        tokens = Tokens(*rows.counts[row, :REQUESTS].tolist())
        cost = prices.cost(series.provider, series.model, tokens)
        if cost is not None:
            priced += any(tokens)
        elif any(tokens):
            unpriced[series.model] += 1
        rows.counts[row, COST] = cost or 0
    return priced
