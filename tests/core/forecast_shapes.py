"""Shapes of use whose forecast a person would judge at a glance, simulated.

Time begins five weeks before a Monday, 0:00 UTC; use is per five minutes.
"""

from dataclasses import dataclass

import numpy as np

from exporter.core.forecast import BIN_SECONDS, Cases, Forecast, learn, predict

HOUR, DAY = 3600.0, 86400.0
PER_HOUR, PER_DAY = int(HOUR / BIN_SECONDS), int(DAY / BIN_SECONDS)
MONDAY = 1_736_121_600.0
WEEKS = 5
BEGIN = MONDAY - WEEKS * 7 * DAY
DAYS = WEEKS * 7 + 14


def at(day: float, hour: float = 0.0, minute: float = 0.0) -> float:
    """Unix seconds of an hour of a day, counted from the Monday."""
    return MONDAY + day * DAY + hour * HOUR + minute * 60


def place(moment: float) -> int:
    """The bin that begins at a moment."""
    return int((moment - BEGIN) // BIN_SECONDS)


def hours(begin: float, end: float, per_hour: float = 1000.0, days: int = 7) -> np.ndarray:
    """Even use between two hours of the first `days` days of every week."""
    day = np.zeros(PER_DAY)
    day[int(begin * PER_HOUR) : int(end * PER_HOUR)] = per_hour / PER_HOUR
    week = np.concatenate([np.tile(day, days), np.zeros((7 - days) * PER_DAY)])
    return np.tile(week, DAYS // 7)


def since(moment: float, bins: np.ndarray) -> np.ndarray:
    """Nothing before a moment."""
    return np.where(np.arange(bins.size) < place(moment), 0.0, bins)


def until(moment: float, bins: np.ndarray) -> np.ndarray:
    """Nothing from a moment on."""
    return np.where(np.arange(bins.size) < place(moment), bins, 0.0)


def growing(per_day: float) -> np.ndarray:
    """Even use that is more by a share every day; 24,000 on the Monday."""
    day = np.arange(DAYS * PER_DAY) // PER_DAY - WEEKS * 7
    return 24_000.0 / PER_DAY * (1 + per_day) ** day


def changed(moment: float, factor: float, bins: np.ndarray) -> np.ndarray:
    """Another level from a moment on."""
    return np.where(np.arange(bins.size) < place(moment), bins, factor * bins)


def once(moment: float, tokens: float) -> np.ndarray:
    """A single call."""
    bins = np.zeros(DAYS * PER_DAY)
    bins[place(moment)] = tokens
    return bins


@dataclass(frozen=True)
class Shape:
    """One shape, looked at once.

    Attributes:
        name: what a person sees.
        bins: tokens per bin.
        window: `day`, `week` or `month`, or `7d` or `5h`, which roll.
        budget: tokens.
        now: when it is looked at.
        low, high: what a person would accept as probability.
        others: use of another series of the installation.
        looks: earlier moments at which it was looked at, too, while nothing was used.
    """

    name: str
    bins: np.ndarray
    window: str
    budget: float
    now: float
    low: float
    high: float
    others: np.ndarray | None = None
    looks: tuple[float, ...] = ()

    def case(self, now: float) -> Cases:
        """The window at a moment."""
        lengths = {"5h": 5 * HOUR, "7d": 7 * DAY}
        rolling = self.window in lengths
        if rolling:
            start, end = now - lengths[self.window], now + lengths[self.window]
        elif self.window == "month":
            start, end = at(-5), at(26)  # January 2025
        else:
            length = {"hour": HOUR, "day": DAY, "week": 7 * DAY}[self.window]
            start = MONDAY + (now - MONDAY) // length * length
            end = start + length
        used = self._total(min(now, end)) - self._total(start)
        one = np.ones(1)
        return Cases(
            series=np.zeros(1, np.intp),
            start=one * start,
            end=one * end,
            used=one * used,
            budget=one * self.budget,
            rolling=np.full(1, rolling),
            utc_offset=one * 0,
        )

    def _total(self, moment: float) -> float:
        return float(self.bins[: max(0, place(moment))].sum())

    def at(self, now: float) -> Forecast:
        """What is said at a moment that is a bin's edge."""
        rows = [self.bins] if self.others is None else [self.bins, self.others]
        known = np.array(rows)[:, : place(now)]
        return predict(learn(known, BEGIN, now), known[:, :0], now, self.case(now))

    def said(self) -> Forecast:
        """What is said in the end, having looked before."""
        before: Forecast | None = None
        for moment in (*self.looks, self.now):
            said = self.at(moment)
            if before is not None:
                said = said.held_down(before, np.full(1, True))
            before = said
        assert before is not None
        return before


OFFICE = hours(8, 18, days=5)
"""Weekdays only, 10,000 a day, 50,000 a week."""
STEADY = hours(0, 24)
"""24,000 a day, evenly."""
JOB = hours(2, 2.5, per_hour=20_000)
"""10,000 a day, at 2:00 within half an hour."""
NOTHING = np.zeros(DAYS * PER_DAY)
_NEW = at(0, 0)

SHAPES = [
    Shape("office week, Friday 15:00, 1.25 x the week", OFFICE, "week", 62_500, at(4, 15), 0, 0.03),
    Shape("office week, Saturday 8:00, 1.25 x the week", OFFICE, "week", 62_500, at(5, 8), 0, 0.03),
    Shape(
        "office week, Wednesday 12:00, 0.8 x the week", OFFICE, "week", 40_000, at(2, 12), 0.8, 1
    ),
    Shape("office week, Saturday 8:00, 1.25 x a day", OFFICE, "day", 12_500, at(5, 8), 0, 0.03),
    Shape("office week, Saturday 8:00, half a day", OFFICE, "day", 5_000, at(5, 8), 0, 0.03),
    Shape("office week, Monday 8:00, 1.25 x a day", OFFICE, "day", 12_500, at(7, 8), 0, 0.05),
    Shape("office week, Monday 8:00, 0.8 x a day", OFFICE, "day", 8_000, at(7, 8), 0.8, 1),
    Shape("office week, Monday 8:00, 1.25 x 7 days", OFFICE, "7d", 62_500, at(7, 8), 0, 0.05),
    Shape("office week, mid-month, 1.25 x the month", OFFICE, "month", 287_500, at(9, 12), 0, 0.05),
    Shape(
        "office week, its second Saturday, 1.25 x a day",
        since(at(-14), OFFICE),
        "day",
        12_500,
        at(-2, 8),
        0,
        0.08,
    ),
    Shape("never used, day", NOTHING, "day", 1e6, at(0, 2), 0, 0.03, since(_NEW, STEADY)),
    Shape("never used, week", NOTHING, "week", 1e6, at(0, 2), 0, 0.03, since(_NEW, STEADY)),
    Shape("never used, 7 days", NOTHING, "7d", 1e6, at(0, 2), 0, 0.03, since(_NEW, STEADY)),
    Shape("never used, month", NOTHING, "month", 1e6, at(0, 2), 0, 0.03, since(_NEW, STEADY)),
    Shape("one call of 100, an hour ago, day", once(at(0, 9), 100), "day", 1e6, at(0, 10), 0, 0.05),
    Shape(
        "one call of 100, an hour ago, week", once(at(0, 9), 100), "week", 1e6, at(0, 10), 0, 0.05
    ),
    Shape(
        "half the pace since nine hours, day",
        since(at(0), STEADY),
        "day",
        48_000,
        at(0, 9),
        0,
        0.05,
    ),
    Shape(
        "half the pace since nine hours, week",
        since(at(0), STEADY),
        "week",
        336_000,
        at(0, 9),
        0,
        0.1,
    ),
    Shape(
        "1.5 x the pace since nine hours, day",
        since(at(0), STEADY),
        "day",
        16_000,
        at(0, 9),
        0.5,
        1,
    ),
    Shape("exact steady job, 2 % room, 6:00", STEADY, "day", 24_480, at(7, 6), 0, 0.05),
    Shape("exact steady job, 2 % room, 11:00", STEADY, "day", 24_480, at(7, 11), 0, 0.05),
    Shape(
        "exact hourly cron, 2 % room, 10:00",
        np.tile(np.append(1000.0, np.zeros(11)), DAYS * 24),
        "day",
        24_480,
        at(7, 10),
        0,
        0.05,
    ),
    Shape("batch at 2:00, 1.2 x, 1:00", JOB, "day", 12_000, at(7, 1), 0, 0.05),
    Shape("batch at 2:00, 1.2 x, 2:10", JOB, "day", 12_000, at(7, 2, 10), 0, 0.05),
    Shape("batch at 2:00, 1.2 x, 3:00", JOB, "day", 12_000, at(7, 3), 0, 0.03),
    Shape(
        "10 % more every day, to reach 1.11, noon",
        growing(0.1),
        "day",
        24_000 * 1.1**7 / 1.11,
        at(7, 12),
        0.8,
        1,
    ),
    Shape(
        "10 % less every day, to reach 0.95, noon",
        growing(-0.1),
        "day",
        24_000 * 0.9**7 / 0.95,
        at(7, 12),
        0,
        0.35,
    ),
    Shape(
        "sudden x10 since 20:00, 21:30",
        changed(at(7, 20), 10, STEADY),
        "day",
        50_000,
        at(7, 21, 30),
        0.8,
        1,
    ),
    Shape(
        "sudden x10 since 20:00, 22:30",
        changed(at(7, 20), 10, STEADY),
        "day",
        50_000,
        at(7, 22, 30),
        0.9,
        1,
    ),
    Shape("sudden stop at 9:00, 12:00", until(at(7, 9), STEADY), "day", 22_000, at(7, 12), 0, 0.3),
    Shape("sudden stop at 9:00, 18:00", until(at(7, 9), STEADY), "day", 20_000, at(7, 18), 0, 0.05),
    Shape(
        "silent since Monday 0:00, Tuesday 9:00, 1.25 x the week",
        until(at(7), STEADY),
        "week",
        210_000,
        at(8, 9),
        0,
        0.05,
        looks=(at(7), *(at(7, hour) for hour in range(3, 33, 3))),
    ),
    Shape(
        "silent since Monday 0:00, Tuesday 9:00, 1.25 x the month",
        until(at(7), STEADY),
        "month",
        930_000,
        at(8, 9),
        0,
        0.08,
        looks=(at(7), *(at(7, hour) for hour in range(3, 33, 3))),
    ),
    Shape("steady, budget raised to twice, noon", STEADY, "day", 48_000, at(7, 12), 0, 0.02),
    Shape("steady, budget cut to 0.7, noon", STEADY, "day", 16_800, at(7, 12), 0.97, 1),
    Shape("steady, 5 h at 1.25 x", STEADY, "5h", 6_250, at(7, 12), 0, 0.05),
    Shape("steady, 7 days at 1.25 x", STEADY, "7d", 210_000, at(7, 12), 0, 0.05),
]
