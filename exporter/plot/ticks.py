"""Round values along an axis, and amounts in a few characters."""

from datetime import UTC, datetime, tzinfo
from math import floor, log10

import numpy as np

from exporter.core.windows import DAY


def short(amount: float) -> str:
    """An amount in a few characters: 1.2M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if amount >= size * 0.9995:  # that would be 1000 of the next smaller unit
            return f"{amount / size:.3g}{unit}"
    return f"{amount:.3g}"


def round_ticks(top: float) -> list[float]:
    """Three to six round values from 0 on."""
    rough = top / 4
    power = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
    step = next(power * size for size in (1, 2, 2.5, 5, 10) if power * size >= rough)
    found: list[float] = np.arange(0, top * (1 + 1e-9), step).tolist()
    return found


def time_ticks(begin: float, end: float, zone: tzinfo = UTC) -> list[tuple[float, str]]:
    """Five moments from `begin` to `end`, in Unix seconds, as the clocks of `zone` show them."""
    form = "%d %b" if end - begin > 2 * DAY else "%H:%M"
    return [
        (moment, datetime.fromtimestamp(moment, zone).strftime(form))
        for moment in np.linspace(begin, end, 5).tolist()
    ]
