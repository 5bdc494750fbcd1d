"""Usage from the answer to a Prometheus range query: of counters, or of increases."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporter.backtest.csv_usage import LABELS, amount, moment
from exporter.backtest.usage import MAX_AMOUNT, NO_COST, FileError, Named, Part, Rows
from exporter.core.budget import BudgetUnit
from exporter.core.slots import COST, REQUESTS, WIDTH
from exporter.core.usage import KINDS

FEW_DROPS = 0.1
"""A series of a range query is taken for a counter when fewer of its changes than this share are
drops: a counter drops at a restart only, an increase nearly every other time."""

JUST_BEFORE = 0.001
"""Seconds by which a sample's use lies before the sample."""

Samples = tuple[dict[str, str], list[tuple[float, str]]]
"""The labels of a series, and its moments and values."""


class RangeSeries(msgspec.Struct):
    """One series of a range query's answer."""

    metric: dict[str, str]
    values: list[tuple[float, str]]


class RangeData(msgspec.Struct):
    """All series of a range query's answer."""

    result: list[RangeSeries]
    result_type: str = msgspec.field(name="resultType")


class RangeAnswer(msgspec.Struct):
    """What Prometheus answers to a range query."""

    data: RangeData


def decode(text: str, source: str) -> list[Samples]:
    """Return the series of an answer.

    Raises:
        FileError: it is none to a range query.
    """
    try:
        answer = msgspec.json.decode(text, type=RangeAnswer)
    except msgspec.DecodeError as exc:
        raise FileError(f"{source}: no answer to a Prometheus range query: {exc}") from None
    if answer.data.result_type != "matrix":
        kind = answer.data.result_type
        raise FileError(f"{source}: $.data.resultType: expected matrix, got {kind}")
    return [(one.metric, one.values) for one in answer.data.result]


def read_series(
    found: Sequence[Samples], source: str, unit: BudgetUnit, named: Named, cost: int = NO_COST
) -> tuple[list[Part], str, set[str]]:
    """Return usage, what the series were taken for, and which labels they have.

    Of tokens a label `kind` tells the kind; they cost `cost`, 0 where other series tell that.

    Raises:
        FileError: a series has no provider, or a value makes no sense.
    """
    series = []
    for index, (labels, values) in enumerate(found):
        place = f"{source}: $.data.result[{index}]"
        if not labels.get("provider"):
            raise FileError(f"{place}.metric: expected a label provider, got {labels}")
        series.append((labels, *_samples(values, place, unit)))
    counters = _are_counters([amounts for _, _, amounts in series])
    parts = []
    for labels, moments, amounts in series:
        if counters:
            moments, amounts = moments[1:], list(_increases(amounts))
        name, kind = labels["provider"], labels.get("kind", "")
        # A sample tells what was used up to it: it must not fall into the window after it.
        rows = _rows(np.array(moments) - JUST_BEFORE, amounts, unit, kind, cost)
        parts.append((named(name, *(labels.get(label, "") for label in LABELS)), rows))
    present = {label for label in LABELS if any(labels.get(label) for labels, _, _ in series)}
    return parts, "cumulative counters" if counters else "increases", present


def _rows(
    moments: NDArray[np.float64], amounts: list[float], unit: BudgetUnit, kind: str, cost: int
) -> Rows:
    column = KINDS.index(kind if kind in KINDS else "unspecified")
    column = {BudgetUnit.REQUESTS: REQUESTS, BudgetUnit.USD: COST}.get(unit, column)
    counts = np.zeros((len(moments), WIDTH), np.int64)
    counts[:, COST] = cost if unit is BudgetUnit.TOKENS else 0
    counts[:, column] = np.rint(np.array(amounts) * unit.scale)
    return Rows(moments, counts)


def _samples(
    values: Sequence[tuple[float, str]], place: str, unit: BudgetUnit
) -> tuple[list[float], list[float]]:
    moments, amounts = [], []
    for index, (at, text) in enumerate(values):
        try:
            moments.append(moment(str(at)))
            amounts.append(amount(unit.value, text, MAX_AMOUNT / unit.scale))
        except ValueError as exc:
            raise FileError(f"{place}.values[{index}]: {exc}") from None
    return moments, amounts


def _are_counters(series: list[list[float]]) -> bool:
    steps = np.concatenate([np.diff(amounts) for amounts in series] or [np.zeros(0)])
    return int((steps < 0).sum()) <= FEW_DROPS * int((steps != 0).sum())


def _increases(amounts: list[float]) -> Iterator[float]:
    """What a counter grew by from sample to sample; after a drop it began at 0."""
    for before, after in pairwise(amounts):
        yield after - before if after >= before else after
