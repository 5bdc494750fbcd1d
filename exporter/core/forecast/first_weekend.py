"""The first weekend of a person's plan: nobody knows yet whether it is one of rest.

From working days alone a forecast goes on much as they were, and warned in vain of two in five of
the weeks that lasted. So in the first week what is expected is a mean: of that, and of what comes
if the weekend ahead brings nothing.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from exporter.core.forecast.cases import Cases, Forecast
from exporter.core.forecast.features import weekends
from exporter.core.forecast.history import Floats, Profile, Timeline
from exporter.core.forecast.past import DAY, HOUR, MINUTE
from exporter.core.forecast.predict import predict

RESTS = 0.2
"""Chance of a weekend of rest beside what the networks expect of weekends: of 0, 0.2, 0.3, 0.5 and
0.8 the best for accounts of which one half rests (`tests/benchmarks/reported_forecasts.py`)."""

_SEEN = 1.5 * DAY
"""Seconds of weekend from which on one is known."""
_SOON = 12 * HOUR
"""Seconds of a weekend after which its use tells whether it is one of rest."""
_AWAKE = 0.5
"""Use in it, over the mean before, from which on it is none."""


def allow_for_rest(
    made: Forecast,
    profile: Profile,
    recent: Floats,
    now: float,
    cases: Cases,
    personal: NDArray[np.bool_],
) -> Forecast:
    """Return what was forecast of the cases; of `personal` ones with a chance of rest."""
    if not personal.any():
        return made
    timeline = Timeline(profile, recent, now)
    ahead, chance = _first_weekend(timeline, cases)
    some = np.flatnonzero(personal & (chance > 0))
    if not some.size:
        return made
    ends = np.maximum(cases.end[some] - ahead[some], now + MINUTE)
    rested = predict(profile, recent, now, replace(cases.take(some), end=ends))
    share = chance[some]

    def mean(of: Floats, other: Floats) -> Floats:
        found = of.copy()
        found[some] += share * (other - of[some])
        return found

    return made.blended(rested, mean)


def _first_weekend(timeline: Timeline, cases: Cases) -> tuple[Floats, Floats]:
    """Return the seconds of weekend ahead of each case, and the chance that nothing comes in them:
    0 where a weekend is known, or none is ahead of a calendar window of more than a day."""
    now, series = timeline.now, cases.series
    age = np.maximum(now - timeline.since[series], 0.0)
    # Unix time began on a Thursday.
    since_saturday = now + cases.utc_offset - 2 * DAY
    ahead = weekends(since_saturday + cases.end - now) - weekends(since_saturday)
    seen = weekends(since_saturday) - weekends(since_saturday - age)
    open_ = (seen < _SEEN) & (ahead > 0) & (cases.end - cases.start > DAY) & ~cases.rolling
    begun = np.minimum(np.minimum(since_saturday % (7 * DAY), 2 * DAY), age)
    begun = np.where(since_saturday % (7 * DAY) < 2 * DAY, begun, 0.0)
    total = timeline.total(series, np.full(series.shape, now))
    lately = total - timeline.total(series, now - begun)
    usual = total / np.maximum(age, HOUR) * begun
    awake = np.where(begun > _SOON, lately / np.maximum(_AWAKE * usual, 1e-300), 0.0)
    return ahead, np.where(open_ & (age > 0), RESTS * np.clip(1 - awake, 0.0, 1.0), 0.0)
