"""How good decisions were, by the figures that matter to whoever is woken by them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.backtest.replay import LOWER, PROBABILITY, UPPER, WAIT, Decisions, Floats, Said
from exporter.backtest.truth import Episode, Truth
from exporter.core.windows import DAY

HOLD = 1800.0
"""Seconds for which a probability has to hold before an alert fires, and by which it has to come
before the exhaustion to be in time; of a period under five hours a tenth of it."""

WARM_DAYS, COLD_DAYS = 3, 1
"""Days of usage after which history counts as known, and up to which as unknown."""

BINS = 10
THRESHOLDS = (0.8, 0.9)
GRID = np.linspace(0.02, 0.98, 49)
"""Thresholds of the trade-off."""


@dataclass(frozen=True, slots=True)
class Alerts:
    """What alerts at one threshold would have done.

    Attributes:
        threshold: the probability.
        caught: exhausted windows with an alert in time, of `exhausted`.
        false: windows that stayed under budget with an alert, of `good`.
        fired: windows with an alert; `right` of them were exhausted later.
        lead: hours from a timely alert to the exhaustion, median; nan when there was none.
    """

    threshold: float
    caught: int
    exhausted: int
    false: int
    good: int
    right: int
    lead: float

    @property
    def recall(self) -> float:
        return _share(self.caught, self.exhausted)

    @property
    def false_share(self) -> float:
        return _share(self.false, self.good)

    @property
    def precision(self) -> float:
        return _share(self.right, self.right + self.false)


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one method; nan where nothing could be scored.

    All but `cold` concern decisions after `WARM_DAYS` taken while the budget was not spent.

    Attributes:
        brier, cold: mean squared difference of probability and outcome, warm and cold.
        calibration_error: expected calibration error over ten ranges.
        calibration: mean probability, share that came true and number by range.
        coverage: share of outcomes within the 10 to 90 % interval.
        moment_error: median distance of the exhaustion's moment, hours.
        alerts: by threshold.
        trade_off: false-alarm share and recall at each threshold of `GRID`.
        decisions: how many were scored warm.
    """

    brier: float
    cold: float
    calibration_error: float
    calibration: Floats
    coverage: float
    moment_error: float
    alerts: tuple[Alerts, ...]
    trade_off: Floats
    decisions: int

    @property
    def is_certain(self) -> bool:
        """Whether the method knows only yes and no, so that every threshold fires alike."""
        return len({(one.caught, one.false, one.right) for one in self.alerts}) == 1


@dataclass(frozen=True, slots=True)
class Judge:
    """Scores methods on the cases of one period.

    Attributes:
        period: the name of their period.
        cases: columns of the decisions.
        warm, cold: the decisions that are scored, of the cases.
        episodes: the stretches in which alerts are judged, all of them warm.
        hold: see `HOLD`; seconds.
        base_brier: Brier score of always saying how often budgets ran out.
    """

    period: str
    decisions: Decisions
    truth: Truth
    cases: Sequence[int]
    warm: NDArray[np.bool_]
    cold: NDArray[np.bool_]
    episodes: list[Episode]
    hold: float

    @classmethod
    def of(cls, decisions: Decisions, truth: Truth, cases: Sequence[int]) -> "Judge":
        """Choose what is scored."""
        spent_at = np.array([decisions.cases[case].budget.spent_at for case in cases])
        live = (decisions.used[:, cases] < spent_at) & (truth.exhausted[:, cases] >= 0)
        age = (decisions.times - decisions.times[0])[:, None] / DAY
        period = decisions.cases[cases[0]].budget.period
        known = set(cases)
        start = int(np.searchsorted(age[:, 0], WARM_DAYS))
        episodes = [one for one in truth.episodes if one.case in known and one.first >= start]
        return cls(
            period.name,
            decisions,
            truth,
            cases,
            live & (age >= WARM_DAYS),
            live & (age < COLD_DAYS),
            episodes,
            min(HOLD, period.longest / 10),
        )

    @property
    def base_brier(self) -> float:
        outcome = self.truth.exhausted[:, self.cases][self.warm]
        rate = outcome.mean() if outcome.size else np.nan
        return float(rate * (1 - rate))

    def score(self, method: str) -> Scores:
        """Score one method."""
        said = self.decisions.said[method][:, :, self.cases]
        outcome = self.truth.exhausted[:, self.cases]
        probability = said[PROBABILITY][self.warm].astype(np.float64)
        came = outcome[self.warm]
        final = self.truth.final[:, self.cases][self.warm]
        within = final >= said[LOWER][self.warm] * (1 - 1e-6)
        within &= final <= said[UPPER][self.warm] * (1 + 1e-6)
        wait = (self.truth.moment - self.decisions.times[:, None])[:, self.cases][self.warm]
        off = np.abs(said[WAIT][self.warm] - wait) / 3600
        calibration = _calibration(probability, came)
        gap = np.abs(calibration[0] - calibration[1]) * calibration[2]
        return Scores(
            brier=_mean((probability - came) ** 2),
            cold=_mean((said[PROBABILITY][self.cold] - outcome[self.cold]) ** 2),
            calibration_error=float(np.nansum(gap) / came.size) if came.size else np.nan,
            calibration=calibration,
            coverage=_mean(within),
            moment_error=_median(off),
            trade_off=self._trade_off(method),
            alerts=tuple(self._alerts(method, threshold) for threshold in THRESHOLDS),
            decisions=int(came.size),
        )

    def lasting(self, method: str, episode: Episode) -> Said:
        """Return, for each step of an episode before the exhaustion, the highest threshold at
        which an alert would fire then.
        """
        end = episode.end
        if not np.isnan(episode.moment):
            end = min(end, int(np.searchsorted(self.decisions.times, episode.moment)))
        said = self.decisions.said[method][PROBABILITY, episode.first : end, episode.case]
        lasting = said.copy()
        for back in range(1, self._hold_steps + 1):
            lasting[back:] = np.minimum(lasting[back:], said[:-back])
        lasting[: self._hold_steps] = 0
        return lasting

    @property
    def _hold_steps(self) -> int:
        times = self.decisions.times
        return int(-(-self.hold // (times[1] - times[0]))) if len(times) > 1 else 1

    def _trade_off(self, method: str) -> Floats:
        exhausted = np.array([not np.isnan(one.moment) for one in self.episodes], bool)
        level = np.zeros(len(self.episodes))
        for index, one in enumerate(self.episodes):
            lasting = self.lasting(method, one)
            if exhausted[index]:
                ahead = one.moment - self.decisions.times[one.first : one.first + len(lasting)]
                lasting = lasting[ahead >= self.hold]
            level[index] = lasting.max(initial=0.0)
        return np.array(
            [[_mean(level[part] >= each) for each in GRID] for part in (~exhausted, exhausted)]
        )

    def _alerts(self, method: str, threshold: float) -> Alerts:
        caught = exhausted = false = right = 0
        leads = []
        for one in self.episodes:
            fired = np.flatnonzero(self.lasting(method, one) >= threshold)
            if np.isnan(one.moment):
                false += bool(len(fired))
                continue
            exhausted += 1
            if len(fired):
                right += 1
                lead = one.moment - self.decisions.times[one.first + fired[0]]
                if lead >= self.hold:
                    caught += 1
                    leads.append(lead / 3600)
        good = len(self.episodes) - exhausted
        lead = float(np.median(leads)) if leads else np.nan
        return Alerts(threshold, caught, exhausted, false, good, right, lead)


def _calibration(probability: Floats, came: NDArray[np.int8]) -> Floats:
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    count = np.bincount(place, minlength=BINS).astype(np.float64)
    sums = [np.bincount(place, each, BINS) for each in (probability, came)]
    safe = np.where(count > 0, count, np.nan)
    return np.array([sums[0] / safe, sums[1] / safe, count])


def _mean(values: NDArray[np.generic]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def _median(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
