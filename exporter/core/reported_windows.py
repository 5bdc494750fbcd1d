"""Windows that a provider reports by itself (a share, or what remains, and a reset) as quotas.

Between two reports the used share is carried on by what we count ourselves::

    used(now) = used at the last report + counted since then x share per unit
    share per unit = (rise + k x earlier rises) / (counted + k x counted in earlier windows)

A rise is that between the first and the last report of a window, and counted is what we counted
meanwhile: a ratio estimator (https://en.wikipedia.org/wiki/Ratio_estimator), so what others use of
the same account is in it in proportion. `k` lets the earlier windows weigh no more than a rise of
`PRIOR`: a plan may change. A limit in numbers says itself what a unit costs, which weighs the same.

The implied budget, 1 / share per unit, makes the rest a budget as any other: the forecast is that
of what we count; where we count nothing, of the use that the reports tell (`profile_of`).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.core.budget import PLAIN, Budget, BudgetUnit, PredictionSettings, Quota, Weights
from exporter.core.forecast import BIN_SECONDS, Profile
from exporter.core.reports import Report, WindowReports, is_amount, is_quota, share_of
from exporter.core.scope import Scope
from exporter.core.signal import Limit
from exporter.core.windows import DAY, Period, Reported, Rolling, Window

WEIGHTS: Weights = (1.0, 0.1, 1.25, 5.0, 5.0, 1.0)
"""What a token of each kind counts in a share: the ratio of the prices, the same for every model of
Anthropic's (https://platform.claude.com/docs/en/about-claude/pricing) and near those of OpenAI's.
No provider publishes how a share is filled; a wrong ratio only matters where the mix changes."""

PRIOR = 0.1
"""Rise, as a share of the whole, that what is known from before weighs at the most."""

LEARNT = 0.02
"""Rise from which a ratio is worth something: shares come in steps of 0.01."""

NEARLY = 0.999
"""Only the provider's own word spends a window; what we count carries the share up to here."""

_UNLEARNT = 1e6  # the whole of a window of which only the reports tell the use

Counted = Callable[[float, float], float]
"""What we counted from one moment up to another, in Unix seconds."""


class Estimate(NamedTuple):
    """A reported window at one moment.

    Attributes:
        window: the running one, Unix seconds.
        used: the share that is used.
        whole: the implied budget in what we count.
        learnt: `whole` is known; else it is arbitrary, and only the reports tell the use.
    """

    window: Window
    used: float
    whole: float
    learnt: bool


def quota_of(provider: str, limit: Limit, prediction: PredictionSettings) -> Quota | None:
    """The quota that a limit of a provider is; None where it is none.

    Of an amount per day without a use, what we count is the use: as such limits refill all the
    time, within a rolling window.
    """
    unsaid = limit.remaining is limit.utilization is limit.reset_at is None
    silent = unsaid and limit.window == DAY and is_amount(limit)
    if limit.window is None or not (silent or is_quota(limit)):
        return None
    unit = BudgetUnit(limit.unit)
    period: Period = Reported(limit.name, limit.window, limit.refills)
    if silent:
        period = Rolling(limit.window)
    budget = Budget(
        amount=1 if unit is BudgetUnit.SHARE else int((limit.limit or 1.0) * unit.scale),
        period=period,
        weights=WEIGHTS if unit is BudgetUnit.SHARE else PLAIN,
        unit=unit,
        model=limit.model,
        prediction=prediction,
    )
    return Quota(Scope(provider, limit.model), budget)


def share_per_unit(report: Report, counted: Counted, since: float | None) -> float | None:
    """The share of the whole that one counted unit costs; None where nothing is learnt yet.

    Args:
        since: Unix seconds from which we count; None when we never did.
    """
    rises, units = 0.0, 0.0
    if report.limit.unit != BudgetUnit.SHARE and report.limit.limit:
        whole = report.limit.limit * BudgetUnit(report.limit.unit).scale
        rises, units = PRIOR, PRIOR * whole
    pairs = [] if since is None else [_pair(one, counted, since) for one in report.windows]
    for rise, count in pairs[:-1]:
        rises, units = rises + rise, units + count
    weight = min(1.0, PRIOR / rises) if rises else 1.0
    rises, units = weight * rises, weight * units
    for rise, count in pairs[-1:]:
        rises, units = rises + rise, units + count
    return rises / units if units > 0 and rises >= LEARNT else None


def _pair(one: WindowReports, counted: Counted, since: float) -> tuple[float, float]:
    """What a share rose by, and what we counted meanwhile."""
    begin, used = one.begin_at, one.begin_used
    if since > begin:
        begin, used = one.first_at, one.first_used
    return max(0.0, one.last_used - used), counted(begin, one.last_at)


def estimate(report: Report, per_unit: float | None, counted: Counted, now: float) -> Estimate:
    """The window of a report that is not forgotten, as it is at `now`."""
    limit = report.limit
    length, reset = limit.window or 0.0, limit.reset_at or 0.0
    since, used = report.at, share_of(limit) or 0.0
    window = Window(reset - length, reset)
    if limit.refills:
        # https://en.wikipedia.org/wiki/Leaky_bucket
        used = max(0.0, used - (now - since) / length)
        window = Window(now - length, now)
    elif now >= reset:
        since, used = reset + (now - reset) // length * length, 0.0
        window = Window(since, since + length)
    if per_unit is None:
        return Estimate(window, used, _UNLEARNT, False)
    if used < 1:
        used = max(used, min(used + per_unit * counted(since, now), NEARLY))
    return Estimate(window, used, 1 / per_unit, True)


def ended_with(
    report: Report, per_unit: float | None, counted: Counted, begin: float
) -> float | None:
    """The share that was used at the end of the window that began about `begin`.

    None where it is unknown: nothing was reported in it, or what we counted after the last report
    may have spent it.
    """
    length = report.limit.window or 0.0
    those = [one for one in report.windows if abs(one.ends - begin - length) <= length / 2]
    if not those:
        return None
    said, last = max(one.last_used for one in those), those[-1]
    if said >= 1 or per_unit is None:
        return said
    carried = last.last_used + per_unit * counted(last.last_at, last.ends)
    return None if carried >= NEARLY else max(said, carried)


def profile_of(reports: Sequence[Report], now: float) -> Profile:
    """The use that reports tell, even between any two of them, a row for each."""
    begins = [report.windows[0].begin_at if report.windows else report.at for report in reports]
    start = min(begins) // BIN_SECONDS * BIN_SECONDS
    edges = np.arange(start, now + 1e-9, BIN_SECONDS, dtype=np.float64)
    rows = [_cumulative(report.windows, edges) for report in reports]
    return Profile(start, _UNLEARNT * np.stack(rows), np.array(begins))


def _cumulative(
    windows: Iterable[WindowReports], edges: NDArray[np.float64]
) -> NDArray[np.float64]:
    moments, sums, before = [0.0], [0.0], 0.0
    for one in windows:
        for at, used in (
            (one.begin_at, one.begin_used),
            (one.first_at, one.first_used),
            *one.course,
            (one.last_at, one.last_used),
        ):
            # Shares are rounded, and windows may overlap: a sum never falls.
            moments.append(max(at, moments[-1]))
            sums.append(max(before + used - one.begin_used, sums[-1]))
        before = sums[-1]
    return np.interp(edges, moments, sums)
