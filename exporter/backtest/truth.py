"""What then came true of every budget window, and the stretches in which an alert is judged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.backtest.replay import Decisions, Floats
from exporter.backtest.usage import Rows
from exporter.core.quota_index import Terms
from exporter.core.series import Series
from exporter.core.windows import Calendar, Rolling, Window


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of time in which a budget ran out, or did not.

    Of a calendar period: a window. Of a rolling one: the length before it ran out, or a stretch
    as long in which nothing true could be said of running out.

    Attributes:
        case: the budget.
        first, end: the steps at which decisions were taken, the last one excluded.
        moment: Unix seconds at which it ran out, nan when it did not.
    """

    case: int
    first: int
    end: int
    moment: float


@dataclass(frozen=True, slots=True)
class Truth:
    """What came true, a row per step and a column per case.

    Attributes:
        exhausted: 1 or 0; -1 when the window is incomplete.
        final: what the projection was about; nan when the window is incomplete.
        moment: Unix seconds at which the budget ran out: of the first step that knew; nan when
            it did not.
        episodes: all complete ones.
    """

    exhausted: NDArray[np.int8]
    final: Floats
    moment: Floats
    episodes: list[Episode]


def truth(decisions: Decisions, usage: Mapping[Series, Rows]) -> Truth:
    """Look at what was used after each decision."""
    shape = decisions.used.shape
    exhausted = np.full(shape, -1, np.int8)
    final, moment = np.full(shape, np.nan), np.full(shape, np.nan)
    episodes: list[Episode] = []
    for case, (quota, counted) in enumerate(zip(decisions.cases, decisions.counted, strict=True)):
        budget = quota.budget
        past = _Past([(usage[series], terms) for series, terms in counted], budget.spent_at)
        if isinstance(budget.period, Calendar):
            for window, first, end in _windows(budget.period, decisions):
                if window.end > decisions.until:
                    continue
                total, when = past.window(window)
                at = float(_step_after(np.array(when), decisions))
                exhausted[first:end, case] = total >= budget.spent_at
                final[first:end, case] = total
                moment[first:end, case] = at
                episodes.append(Episode(case, first, end, at))
        elif isinstance(budget.period, Rolling):
            spent = decisions.used[:, case] >= budget.spent_at
            came = _rolling(past, budget.period, decisions, spent)
            exhausted[:, case], final[:, case], moment[:, case] = came
            episodes += _stretches(case, budget.period, decisions, exhausted[:, case], spent)
    return Truth(exhausted, final, moment, episodes)


def _step_after(moment: Floats, decisions: Decisions) -> Floats:
    """Return the first step that knows what happened at `moment`."""
    steps = np.append(decisions.times, decisions.until)
    place = np.minimum(np.searchsorted(steps, moment, side="right"), len(steps) - 1)
    found: Floats = np.where(np.isnan(moment), np.nan, steps[place])
    return found


class _Past:
    """One quota's use in the order of time, in what its budget counts."""

    def __init__(self, parts: Sequence[tuple[Rows, Terms]], spent_at: float) -> None:
        self._spent_at = spent_at
        moments = np.concatenate([np.zeros(0), *(rows.timestamps for rows, _ in parts)])
        amounts = np.concatenate([np.zeros(0), *(_amounts(*part) for part in parts)])
        order = np.argsort(moments, kind="stable")
        self.times = moments[order]
        self.sums = np.concatenate([[0.0], np.cumsum(amounts[order])])

    def at(self, moments: Floats | float) -> Floats:
        """Return what was used before each moment."""
        found: Floats = self.sums[np.searchsorted(self.times, moments, side="left")]
        return found

    def window(self, window: Window) -> tuple[float, float]:
        """Return what was used in a window, and when that reached the budget (nan: never)."""
        first, end = np.searchsorted(self.times, window, side="left")
        used = self.sums[first + 1 : end + 1] - self.sums[first]
        reached = int(np.searchsorted(used, self._spent_at))
        total = float(used[-1]) if len(used) else 0.0
        return total, float(self.times[first + reached]) if reached < len(used) else np.nan

    def reached(self, length: float) -> Floats:
        """Return the moments at which the use of the `length` before them is the budget."""
        gone = self.sums[np.searchsorted(self.times, self.times - length, side="right")]
        found: Floats = self.times[self.sums[1:] - gone >= self._spent_at]
        return found


def _amounts(rows: Rows, terms: Terms) -> Floats:
    """Return what each row adds to a quota."""
    found = np.zeros(len(rows.timestamps))
    for column, each in terms:
        found += each * rows.counts[:, column]
    return found


def _windows(period: Calendar, decisions: Decisions) -> Iterator[tuple[Window, int, int]]:
    """Every window with the steps in it."""
    times, step = decisions.times, 0
    while step < len(times):
        window = period.window(times[step])
        end = int(np.searchsorted(times, window.end, side="left"))
        yield window, step, end
        step = end


def _rolling(
    past: _Past, period: Rolling, decisions: Decisions, spent: NDArray[np.bool_]
) -> tuple[NDArray[np.int8], Floats, Floats]:
    times, length = decisions.times, period.seconds
    known = times + length <= decisions.until
    full = np.append(past.reached(length), np.inf)
    following = full[np.searchsorted(full, times, side="left")]
    exhausted = (following <= times + length) | spent
    moment = _step_after(np.where(exhausted, following, np.nan), decisions)
    final = past.at(times + length) - past.at(times)
    return (
        np.where(known, exhausted, -1).astype(np.int8),
        np.where(known, final, np.nan),
        np.where(known, moment, np.nan),
    )


def _stretches(
    case: int,
    period: Rolling,
    decisions: Decisions,
    exhausted: NDArray[np.int8],
    spent: NDArray[np.bool_],
) -> Iterator[Episode]:
    every = decisions.times[1] - decisions.times[0] if len(decisions.times) > 1 else period.seconds
    size = max(1, int(period.seconds // every))
    onsets = np.flatnonzero(spent & ~np.append(False, spent[:-1]))
    for onset in onsets.tolist():
        free = np.flatnonzero(spent[:onset])
        first = max(onset - size, int(free[-1]) + 1 if len(free) else 0)
        yield Episode(case, first, onset, float(decisions.times[onset]))
    for first in range(0, len(exhausted) - size + 1, size):
        if (exhausted[first : first + size] == 0).all():
            yield Episode(case, first, first + size, np.nan)
