"""Past usage from a file: CSV, or the answer to a Prometheus range query; either may be gzipped."""

import csv
import gzip
import io
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporter.core.moment import unix_seconds

COLUMNS = ("timestamp", "provider", "tokens")

LATEST = 253_402_300_800.0
"""The year 10000; beyond it a timestamp is in another unit than seconds."""

FEW_DROPS = 0.1
"""A series of a range query is taken for a counter when fewer of its changes than this share are
drops: a counter drops at a restart only, an increase nearly every other time."""

JUST_BEFORE = 0.001
"""Seconds by which a sample's use lies before the sample."""


class FileError(Exception):
    """The file cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One provider's usage in the order of time.

    Attributes:
        timestamps: Unix seconds.
        tokens: whole tokens, at least 0.
    """

    timestamps: NDArray[np.float64]
    tokens: NDArray[np.int64]


def joined(parts: Sequence[Rows]) -> Rows:
    """Usage of one provider that came under several names."""
    moments = np.concatenate([part.timestamps for part in parts])
    order = np.argsort(moments, kind="stable")
    return Rows(moments[order], np.concatenate([part.tokens for part in parts])[order])


@dataclass(slots=True)
class _Columns:
    timestamps: "array[float]" = field(default_factory=lambda: array("d"))
    tokens: "array[float]" = field(default_factory=lambda: array("d"))

    def rows(self) -> Rows:
        tokens = np.rint(np.array(self.tokens)).astype(np.int64)
        return joined([Rows(np.array(self.timestamps), tokens)])


def read(path: Path) -> tuple[dict[str, Rows], str]:
    """Return usage by provider, and a sentence on what the file was taken for.

    Raises:
        FileError: it is neither, or a value in it makes no sense.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except (OSError, EOFError) as exc:
        raise FileError(f"{path}: cannot read it: {getattr(exc, 'strerror', '') or exc}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise FileError(f"{path}:{line}: expected UTF-8, got 0x{content[exc.start]:02x}") from None
    if text.lstrip()[:1] in ("{", "["):
        usage, kind = _range_query(path, text)
    else:
        columns, kind = _table(path, text), "rows"
        usage = {provider: each.rows() for provider, each in columns.items()}
    if not usage:
        raise FileError(f"{path}: no usage in it")
    return usage, kind


def _table(path: Path, text: str) -> dict[str, _Columns]:
    lines = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip().lower() for name in next(lines, [])]
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        wanted = ", ".join(missing)
        raise FileError(f"{path}:1: no column {wanted}, got {','.join(header) or 'an empty line'}")
    places = [header.index(name) for name in COLUMNS]
    columns: dict[str, _Columns] = {}
    for cells in lines:
        if not cells:
            continue
        try:
            moment, provider, tokens = (cells[place] for place in places)
            held = columns.get(provider)
            if held is None:
                held = columns[_name(provider)] = _Columns()
            held.timestamps.append(_moment(moment))
            held.tokens.append(_amount(tokens))
        except IndexError:
            raise FileError(
                f"{path}:{lines.line_num}: expected {len(header)} columns, got {len(cells)}"
            ) from None
        except ValueError as exc:
            raise FileError(f"{path}:{lines.line_num}: {exc}") from None
    return columns


def _name(text: str) -> str:
    if not text:
        raise ValueError("provider: expected a name, got an empty value")
    return text


def _moment(text: str) -> float:
    try:
        moment = float(text)
    except ValueError:
        moment = _rfc3339(text)
    if not 0 <= moment < LATEST:
        raise ValueError(f"timestamp: expected Unix seconds, got {text}")
    return moment


def _rfc3339(text: str) -> float:
    try:
        return unix_seconds(text)
    except ValueError:
        raise ValueError(
            f"timestamp: expected Unix seconds or RFC 3339 with an offset, got {text!r}"
        ) from None


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < 2**53:
        raise ValueError(f"tokens: expected a number of at least 0, got {text!r}")
    return amount


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


def _range_query(path: Path, text: str) -> tuple[dict[str, Rows], str]:
    try:
        answer = msgspec.json.decode(text, type=RangeAnswer)
    except msgspec.DecodeError as exc:
        raise FileError(f"{path}: no answer to a Prometheus range query: {exc}") from None
    if answer.data.result_type != "matrix":
        kind = answer.data.result_type
        raise FileError(f"{path}: $.data.resultType: expected matrix, got {kind}")
    return rows_of([(one.metric, one.values) for one in answer.data.result], str(path))


Samples = tuple[dict[str, str], list[tuple[float, str]]]
"""The labels of a series, and its moments and values."""


def rows_of(found: Sequence[Samples], source: str) -> tuple[dict[str, Rows], str]:
    """Return usage by provider from the series of a range query, and what they were taken for.

    Raises:
        FileError: a series has no provider, or a value makes no sense.
    """
    series = []
    for index, (labels, values) in enumerate(found):
        place = f"{source}: $.data.result[{index}]"
        if not labels.get("provider"):
            raise FileError(f"{place}.metric: expected a label provider, got {labels}")
        series.append((labels["provider"], *_samples(values, place)))
    counters = _are_counters([amounts for _, _, amounts in series])
    columns: dict[str, _Columns] = {}
    for provider, moments, amounts in series:
        held = columns.setdefault(provider, _Columns())
        if counters:
            moments, amounts = moments[1:], list(_increases(amounts))
        # A sample tells what was used up to it: it must not fall into the window after it.
        held.timestamps.extend(moment - JUST_BEFORE for moment in moments)
        held.tokens.extend(amounts)
    kind = "cumulative counters" if counters else "increases"
    usage = {provider: held.rows() for provider, held in columns.items() if held.timestamps}
    return usage, kind


def _samples(values: Sequence[tuple[float, str]], place: str) -> tuple[list[float], list[float]]:
    moments, amounts = [], []
    for index, (moment, text) in enumerate(values):
        try:
            moments.append(_moment(str(moment)))
            amounts.append(_amount(text))
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
