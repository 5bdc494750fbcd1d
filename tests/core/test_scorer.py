"""What the forecaster said, held against what came true."""

from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.budget import Budget, BudgetUnit, Quota
from exporter.core.measurement import Measurement
from exporter.core.scope import Scope
from exporter.core.scorer import MEMORY, PATIENCE, RECORD_SECONDS, ForecastScorer, Score
from exporter.core.windows import Calendar, Period, Reported, Rolling, Unit, Window

HOUR = 3600
DAY = 86_400
MIDNIGHT = 1_736_121_600.0
DAILY = Calendar(Unit.DAY, ZoneInfo("UTC"))
FIVE_HOURS = Rolling(5 * HOUR)


def said(
    probability: float,
    now: float,
    used: float = 0,
    tokens: int = 100,
    period: Period = DAILY,
    provider: str = "openai",
) -> list[Measurement]:
    quota = Quota(Scope(provider), Budget(tokens, period))
    window = period.window(now)
    return [Measurement(quota, window, used, 0, 0, 0, probability, None, {})]


class Usage:
    """Tokens used per day, as a ledger would answer."""

    def __init__(self, *per_day: float) -> None:
        self.per_day = per_day

    def __call__(self, quota: Quota, moment: float) -> float:
        return self.per_day[int((moment - MIDNIGHT) // DAY)]


def unasked(quota: Quota, moment: float) -> float:
    pytest.fail("the use of a window was asked for")


def day_of(
    record: ForecastScorer, day: int, probability: float, usage: Usage, used: float = 0
) -> None:
    """Look at a budget every ten minutes of a day, and once just after it."""
    start = MIDNIGHT + day * DAY
    for step in range(145):
        now = start + step * 600
        record.observe(said(probability, now, used if step < 144 else 0), now, usage)


@pytest.mark.parametrize(
    ("probability", "used", "brier", "error"),
    [(0.0, 99, 0.0, 0.0), (0.3, 99, 0.09, 0.3), (0.3, 100, 0.49, 0.7), (1.0, 100, 0.0, 0.0)],
)
def test_a_window_is_scored_when_it_is_over(
    probability: float, used: float, brier: float, error: float
) -> None:
    record = ForecastScorer()
    day_of(record, 0, probability, Usage(used))
    assert record.scores() == {"day": Score(pytest.approx(brier), pytest.approx(error), 1)}


def test_nothing_is_scored_before_the_window_is_over() -> None:
    record = ForecastScorer()
    for step in range(144):
        record.observe(said(0.5, MIDNIGHT + step * 600), MIDNIGHT + step * 600, unasked)
    assert record.scores() == {}


def test_each_eighth_but_the_first_counts_once_however_often_it_is_looked_at() -> None:
    record = ForecastScorer()
    for minute in range(1441):
        now = MIDNIGHT + minute * 60
        probability = 1.0 if minute < 180 else 0.0 if minute % 180 == 0 else 0.9
        record.observe(said(probability, now), now, Usage(0))
    assert record.scores() == {"day": Score(0.0, 0.0, 1)}


def test_what_is_said_of_a_spent_budget_is_no_forecast() -> None:
    record = ForecastScorer()
    for hour in range(25):
        now = MIDNIGHT + hour * HOUR
        spent = 12 <= hour < 24
        record.observe(said(1.0 if spent else 0.4, now, 100 if spent else 0), now, Usage(100, 0))
    assert record.scores()["day"].brier == pytest.approx(0.36)
    for hour in range(24, 49):  # spent from its first eighth on: nothing was forecast
        now = MIDNIGHT + hour * HOUR
        record.observe(said(1.0, now, 100 if hour < 48 else 0), now, unasked)
    assert record.scores()["day"].windows == 1


def test_the_calibration_error_weighs_ranges_of_probability_by_what_was_said_in_them() -> None:
    record = ForecastScorer()
    outcomes = [(0.25, 0), (0.25, 0), (0.25, 0), (0.25, 100), (0.95, 100), (0.85, 0)]
    usage = Usage(*(used for _, used in outcomes))
    for day, (probability, _) in enumerate(outcomes):
        day_of(record, day, probability, usage)
    score = record.scores()["day"]
    assert score.windows == 6
    assert score.calibration_error == pytest.approx((0.05 + 0.85) / 6, rel=0.01)
    assert score.brier == pytest.approx((3 * 0.0625 + 0.5625 + 0.0025 + 0.7225) / 6, rel=0.01)


def test_a_window_that_ended_while_nobody_looked_is_scored_by_its_use() -> None:
    record = ForecastScorer()
    record.observe(said(0.8, MIDNIGHT + 23 * HOUR), MIDNIGHT + 23 * HOUR, unasked)
    record.observe(said(0.1, MIDNIGHT + 26 * HOUR), MIDNIGHT + 26 * HOUR, Usage(100))
    assert record.scores()["day"].brier == pytest.approx(0.04)


def test_after_a_long_absence_nothing_is_scored() -> None:
    record = ForecastScorer()
    seen = MIDNIGHT + 23 * HOUR
    record.observe(said(0.8, seen), seen, unasked)
    record.observe(said(0.1, seen + PATIENCE + 1), seen + PATIENCE + 1, unasked)
    assert record.scores() == {}


def test_what_was_said_of_another_budget_is_dropped() -> None:
    record = ForecastScorer()
    for hour in range(25):
        now = MIDNIGHT + hour * HOUR
        record.observe(said(0.5, now, tokens=100 if hour < 24 else 200), now, unasked)
    assert record.scores() == {}


def test_providers_of_one_period_are_scored_together_and_periods_apart() -> None:
    record = ForecastScorer()
    for step in range(50):
        now = MIDNIGHT + step * HOUR / 2
        for provider in ("openai", "gemini"):
            record.observe(said(0.5, now, provider=provider), now, Usage(0))
        record.observe(said(0.5, now, period=FIVE_HOURS), now, unasked)
    scores = record.scores()
    assert list(scores) == ["5h", "day"]
    assert scores["day"].windows == 2


def rolling(
    record: ForecastScorer, hours: list[tuple[float, float]], begin: float = MIDNIGHT
) -> None:
    """Look once in ten minutes at a rolling window, given probability and use by the hour."""
    for step in range(6 * len(hours)):
        probability, used = hours[step // 6]
        now = begin + step * 600
        record.observe(said(probability, now, used, period=FIVE_HOURS), now, unasked)


def test_a_rolling_window_is_scored_by_whether_it_fills_within_one_length() -> None:
    record = ForecastScorer()
    rolling(record, [(0.7, 0)] * 3 + [(1.0, 100)])
    score = record.scores()["5h"]
    assert (score.brier, score.calibration_error) == (pytest.approx(0.09), pytest.approx(0.3))
    record = ForecastScorer()
    rolling(record, [(0.7, 0)] * 6)
    assert record.scores()["5h"].brier == pytest.approx(0.49)


def test_what_was_said_of_a_rolling_window_before_a_gap_is_dropped() -> None:
    record = ForecastScorer()
    rolling(record, [(0.7, 0)])
    rolling(record, [(0.7, 0)] * 3, MIDNIGHT + 3 * HOUR)
    assert record.scores() == {}


def test_a_restart_changes_nothing() -> None:
    kept, stored = ForecastScorer(), ForecastScorer()
    usage = Usage(100, 0, 100)
    for minute in range(0, 3 * 1440 - 30, 30):
        now = MIDNIGHT + minute * 60
        for period in (DAILY, FIVE_HOURS):
            probability = (minute % 77) / 77
            looked = said(probability, now, 100 * (minute % 900 > 700), period=period)
            kept.observe(looked, now, usage)
            stored.observe(looked, now, usage)
        stored = ForecastScorer.load(stored.dump(now))
    assert stored.scores() == kept.scores()
    assert set(kept.scores()) == {"day", "5h"}


def test_a_provider_that_is_gone_leaves_nothing_behind() -> None:
    record = ForecastScorer()
    for hour in range(20):
        record.observe(said(0.5, MIDNIGHT + hour * HOUR), MIDNIGHT + hour * HOUR, unasked)
    assert b"openai" in record.dump(MIDNIGHT + 20 * HOUR)
    assert b"openai" not in record.dump(MIDNIGHT + 40 * HOUR)


@pytest.mark.parametrize("document", [b"", b"[]", b'{"tallies": {"day": 3}}'])
def test_a_document_that_is_no_record_is_refused(document: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        ForecastScorer.load(document)


def test_old_windows_fade() -> None:
    record = ForecastScorer()
    unit = Calendar(Unit.MINUTE, ZoneInfo("UTC"))
    for minute in range(4 * MEMORY):
        for second in (0, 30):
            now = MIDNIGHT + 60 * minute + second
            right = 1.0 if minute > MEMORY else 0.0
            record.observe(said(right, now, period=unit), now, lambda *_: 100)
    score = record.scores()["minute"]
    assert score.windows == 4 * MEMORY - 1
    assert score.brier < 0.1


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9 * HOUR), st.floats(0, 1), st.sampled_from([0, 100]), st.booleans()
        ),
        max_size=60,
    )
)
def test_scores_stay_within_0_and_1_whenever_somebody_looks(
    looks: list[tuple[int, float, int, bool]],
) -> None:
    record, now = ForecastScorer(), MIDNIGHT
    for step, probability, used, roll in looks:
        now += step
        period = FIVE_HOURS if roll else DAILY
        record.observe(said(probability, now, used, period=period), now, lambda *_: 100)
    for score in record.scores().values():
        assert 0 <= score.brier <= 1
        assert 0 <= score.calibration_error <= 1
        assert score.windows > 0


def test_every_quota_has_a_record_of_its_own_which_survives_a_restart_and_ends() -> None:
    record = ForecastScorer()
    usage = Usage(0, 0, 200)
    for day in range(3):
        day_of(record, day, 0.25 if day < 2 else 0.75, usage, used=0)
    (one,) = said(0.5, MIDNIGHT)
    (other,) = said(0.5, MIDNIGHT, provider="other")
    assert record.record(other.quota) is None
    found = record.record(one.quota)
    assert found is not None
    assert (found.windows, found.at) == (3, MIDNIGHT + 3 * DAY)
    assert found.squares / found.count == pytest.approx(0.0625)
    assert found.said / found.count == pytest.approx(5 / 12, abs=0.01)
    assert found.came / found.count == pytest.approx(1 / 3, abs=0.01)
    again = ForecastScorer.load(record.dump(MIDNIGHT + 3 * DAY))
    assert again.record(one.quota) == found
    later = ForecastScorer.load(record.dump(MIDNIGHT + 3 * DAY + RECORD_SECONDS))
    assert later.record(one.quota) is None


# -- windows that a provider reports --

WEEKLY = Quota(Scope("claude"), Budget(1, Reported("7d", 7.0 * DAY), unit=BudgetUnit.SHARE))


def week_of(
    record: ForecastScorer, start: float, end: float, until: float, came: float | None
) -> None:
    """Look every hour at a reported week of which 0.25 is said, up to some time."""
    now = start
    while now <= until:
        ends = end + 2 * (now // HOUR % 2)  # resets come as durations
        one = Measurement(WEEKLY, Window(ends - 7 * DAY, ends), 0.5, 0, 0, 0, 0.25, None, {})
        record.observe([one], now, lambda quota, moment: came)
        now += HOUR


@pytest.mark.parametrize(("came", "brier"), [(0.97, 0.0625), (1.0, 0.5625)])
def test_a_reported_window_is_scored_by_what_was_reported_in_it(came: float, brier: float) -> None:
    record = ForecastScorer()
    ends = MIDNIGHT + 7 * DAY
    week_of(record, MIDNIGHT, ends, ends - HOUR, None)
    assert record.scores() == {}
    week_of(record, ends, ends + 7 * DAY, ends, came)
    assert record.scores() == {
        "7d": Score(pytest.approx(brier), pytest.approx(abs(0.25 - (came >= 1))), 1)
    }
    found = record.record(WEEKLY)
    assert found is not None
    assert found.windows == 1


def test_what_was_said_of_a_reported_window_is_dropped_when_nobody_knows_what_came() -> None:
    record = ForecastScorer()
    ends = MIDNIGHT + 7 * DAY
    week_of(record, MIDNIGHT, ends, ends - HOUR, None)
    week_of(record, ends, ends + 7 * DAY, ends, None)
    assert record.scores() == {}


@pytest.mark.parametrize("begins", [2 * DAY, 4 * DAY])
def test_a_window_that_began_later_than_was_assumed_is_scored_at_its_own_end(begins: float) -> None:
    """It did, or its provider ended the one before early: nobody can tell."""
    record = ForecastScorer()
    middle = MIDNIGHT + begins
    week_of(record, MIDNIGHT, MIDNIGHT + 7 * DAY, middle, 0.5)
    week_of(record, middle + HOUR, middle + 7 * DAY, middle + 7 * DAY - HOUR, 0.5)
    assert record.scores() == {}
    week_of(record, middle + 7 * DAY, middle + 14 * DAY, middle + 7 * DAY, 0.5)
    assert record.scores()["7d"].windows == 1
