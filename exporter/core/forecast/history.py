"""What a forecast knows of the past: cumulative use of many series, readable at any moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

BIN_SECONDS = 300
"""Width of a history bin; bins are aligned to Unix time."""

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Profile:
    """The settled past of many series: 8 bytes per bin and series, 81 kB for 35 days.

    Attributes:
        start: Unix seconds at which the first bin begins.
        cumulative: tokens used from `start` to each bin edge, one row per series.
        since: Unix seconds of each series' first use, infinite when there was none.
        turned_away: of rows whose provider was out at times: what was asked for and not used,
            cumulated alike; see `demand`.
    """

    start: float
    cumulative: Floats
    since: Floats
    turned_away: Mapping[int, Floats] = field(default_factory=dict)

    @property
    def end(self) -> float:
        """Unix seconds of the last edge: what came later is `recent` to a forecast."""
        return self.start + float((self.cumulative.shape[1] - 1) * BIN_SECONDS)


def learn(bins: Floats, start: float, now: float) -> Profile:
    """Digest the history of many series, to be kept for about an hour of forecasts.

    `bins` has a row per series and a column per `BIN_SECONDS` from `start` on; only bins that are
    over by `now` are taken in.
    """
    settled = bins[:, : max(0, int((now - start) // BIN_SECONDS))]
    cumulative = np.zeros((settled.shape[0], settled.shape[1] + 1))
    np.cumsum(settled, axis=1, out=cumulative[:, 1:])
    return Profile(start, cumulative, _first_use(settled, start))


def _first_use(bins: Floats, start: float) -> Floats:
    if not bins.shape[1]:
        return np.full(bins.shape[0], np.inf)
    used = bins > 0
    return np.where(used.any(axis=1), start + used.argmax(axis=1) * BIN_SECONDS, np.inf)


class Timeline:
    """A profile continued to `now` by the bins since its end, the last of them still filling."""

    def __init__(self, profile: Profile, recent: Floats, now: float) -> None:
        """Join; `recent` has a column per bin from `profile.end` on, of which those after `now`
        are not read.
        """
        count = max(0, int(np.ceil((now - profile.end) / BIN_SECONDS)))
        recent = recent[:, :count]
        self.now = now
        self._profile = profile
        self._tail = np.zeros((recent.shape[0], recent.shape[1] + 1))
        np.cumsum(recent, axis=1, out=self._tail[:, 1:])
        self._edges = np.minimum(profile.end + BIN_SECONDS * np.arange(recent.shape[1] + 1), now)
        self.since = np.minimum(profile.since, _first_use(recent, profile.end))
        rows = sorted(profile.turned_away)
        self._hidden = np.array([profile.turned_away[row] for row in rows])
        self._hidden_row = np.full(len(profile.cumulative), -1)
        self._hidden_row[rows] = np.arange(len(rows))

    def total(self, series: Ints, moments: Floats) -> Floats:
        """Return the demand from the beginning to each moment (not after `now`): what was used,
        and what was turned away.

        It is linear within bins; `series` is broadcast against `moments`.
        """
        total = self.used(series, moments)
        if self._hidden.size:
            left, right, part = self._place(moments)
            row = self._hidden_row[series]
            below = np.where(row >= 0, self._hidden[row, left], 0.0)
            above = np.where(row >= 0, self._hidden[row, right], 0.0)
            total += below + part * (above - below)
        return total

    def _place(self, moments: Floats) -> tuple[Ints, Ints, Floats]:
        """Return the edges of the profile around each moment, and how far it is between them."""
        last = self._profile.cumulative.shape[1] - 1
        position = np.clip((moments - self._profile.start) / BIN_SECONDS, 0.0, last)
        left = position.astype(np.intp)
        return left, np.minimum(left + 1, last), position - left

    def used(self, series: Ints, moments: Floats) -> Floats:
        """Return what was used from the beginning to each moment, likewise."""
        profile = self._profile
        left, right, part = self._place(moments)
        below = profile.cumulative[series, left]
        total: Floats = below + part * (profile.cumulative[series, right] - below)
        if self._tail.shape[1] > 1 and (moments > profile.end).any():
            index = np.arange(self._edges.size, dtype=np.float64)
            position = np.interp(moments, self._edges, index)
            left = np.minimum(position.astype(np.intp), self._edges.size - 2)
            below = self._tail[series, left]
            total += below + (position - left) * (self._tail[series, left + 1] - below)
        return total
