"""Past usage from a file: CSV, or the answer to a Prometheus range query; either may be gzipped."""

import gzip
from pathlib import Path

from exporter.backtest.csv_usage import read_table
from exporter.backtest.range_query import decode, read_series
from exporter.backtest.usage import FileError, Named, Usage, usage_of
from exporter.core.budget import BudgetUnit
from exporter.core.prices import Prices


def read(path: Path, named: Named, prices: Prices, unit: BudgetUnit) -> Usage:
    """Return the usage in a file; `unit` is that of the values of a range query.

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
        parts, kind, labels = read_series(decode(text, str(path)), str(path), unit, named)
        usage = usage_of(parts, kind, {unit}, labels, prices)
    else:
        parts, units, labels = read_table(path, text, named)
        usage = usage_of(parts, "rows", units, labels, prices)
    if not usage.rows:
        raise FileError(f"{path}: no usage in it")
    return usage
