"""Demand in time in which a provider was out: what was not used then was turned away.

Such time is censored: its use is at most what was asked for. What is missing is put in by the
same times of other days, at the level of the hours before, or where no other day has such a time
uncensored, by the pace of those hours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from exporter.core.forecast.history import BIN_SECONDS, Floats, Profile

Outage = tuple[float, float]
"""Unix seconds between which a provider was out, infinite where it still is."""

_RENEWED = 3600
"""Seconds after which the demand of a series is estimated anew."""
_DAY_BINS = 86400 // BIN_SECONDS
_PACE_BINS = 3 * 3600 // BIN_SECONDS
"""Bins before an outage that tell the pace at which it began, and over which use in an outage is
held against what was expected."""
_SAME_WEEKDAY = np.array([7, 14, 21, 28])
_OTHER_DAYS = np.arange(1, 7)
_OTHER = 0.2
"""Weight of another weekday beside the same one."""
_LEVEL = (0.2, 5.0)
"""By how much the level may differ from that of other days."""
_OPEN = 0.5
"""A bin of which more was open than this tells the demand."""


class TurnedAway:
    """Adds to profiles the demand that was turned away, estimated anew once an hour.

    That takes about a millisecond per series with outages.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, Floats]] = {}

    def put_into(
        self, profile: Profile, outages: Mapping[int, Sequence[Outage]], rows: Iterable[int]
    ) -> Profile:
        """Return the profile with what was turned away on `rows`; `outages` are of any."""
        self._known = {row: each for row, each in self._known.items() if row in outages}
        found = {row: self._of(profile, row, outages[row]) for row in rows if row in outages}
        return replace(profile, turned_away=found)

    def _of(self, profile: Profile, row: int, outages: Sequence[Outage]) -> Floats:
        size = profile.cumulative.shape[1]
        key = (tuple(outages), profile.start, int(profile.end // _RENEWED))
        known = self._known.get(row)
        if known is None or known[0] != key:
            missing = turned_away(np.diff(profile.cumulative[row]), profile.start, outages)
            known = self._known[row] = key, np.concatenate([[0.0], missing.cumsum()])
        sums = known[1][:size]
        return np.pad(sums, (0, size - sums.size), mode="edge")


def turned_away(used: Floats, start: float, outages: Sequence[Outage]) -> Floats:
    """Return what of the demand of each bin from `start` on was not used, for want of a provider.

    `used` is what was. It counts in full: a part of the callers may not obey.
    """
    out = censored(used.size, start, outages)
    demand = used.copy()
    known = (out <= _OPEN).astype(np.float64)
    known[: int((used > 0).argmax())] = 0.0  # nobody knew the provider yet
    edges = np.flatnonzero(np.diff(out > 0, prepend=False, append=False))
    for first, end in edges.reshape(-1, 2).tolist():
        expected = _expected(demand, known, first, end)
        demand[first:end] += out[first:end] * _missing(expected, used[first:end])
    return demand - used


def _missing(expected: Floats, used: Floats) -> Floats:
    """Return what is missing of the expected; what came at another minute than expected counts."""
    starts = np.arange(0, expected.size, _PACE_BINS)
    sums = np.add.reduceat(expected, starts)
    # What exceeds the expected counts no more: a quotient of it could overflow.
    came = np.minimum(np.add.reduceat(used, starts), sums)
    share = 1 - np.divide(came, sums, out=np.ones(sums.shape), where=sums > 0)
    missing: Floats = expected * np.repeat(share, np.diff(starts, append=expected.size))
    return missing


def censored(size: int, start: float, outages: Sequence[Outage]) -> Floats:
    """Return which part of each bin from `start` on a provider was out."""
    out = np.zeros(size)
    for begin, end in outages:
        left = np.clip((begin - start) / BIN_SECONDS, 0, size)
        right = np.clip((end - start) / BIN_SECONDS, 0, size)
        first, last = int(left), int(right)
        if first == last:
            out[first : first + 1] += right - left
            continue
        out[first] += first + 1 - left
        out[first + 1 : last] = 1.0
        out[last : last + 1] += right - last
    return np.minimum(out, 1.0)


def _expected(demand: Floats, known: Floats, first: int, end: int) -> Floats:
    """Return the demand of the bins from `first` to `end`, by those of which it is known."""
    before = slice(max(0, first - _DAY_BINS), first)
    usual, weight = _usual(demand, known, first, end)
    usual_before, weight_before = _usual(demand, known, before.start, before.stop)
    both = known[before] * (weight_before > 0)
    of_usual = (both * usual_before).sum()
    level = (both * demand[before]).sum() / of_usual if of_usual > 0 else 1.0
    near = slice(max(0, first - _PACE_BINS), first)
    open_ = known[near].sum()
    if open_ == 0:
        near, open_ = before, known[before].sum()
    pace = (known[near] * demand[near]).sum() / max(open_, 1.0)
    expected: Floats = np.where(weight > 0, usual * np.clip(level, *_LEVEL), pace)
    return expected


def _usual(demand: Floats, known: Floats, first: int, end: int) -> tuple[Floats, Floats]:
    """Return the mean demand of the same times of earlier days, and its weight, 0 if unknown."""
    total, weight = np.zeros(end - first), np.zeros(end - first)
    for days, worth in ((_SAME_WEEKDAY, 1.0), (_OTHER_DAYS, _OTHER)):
        for lag in (days * _DAY_BINS).tolist():
            skipped = min(max(0, lag - first), end - first)
            part = slice(first - lag + skipped, max(end - lag, first - lag + skipped))
            seen = worth * known[part]
            total[skipped:] += seen * demand[part]
            weight[skipped:] += seen
    return total / np.maximum(weight, 1e-9), weight
