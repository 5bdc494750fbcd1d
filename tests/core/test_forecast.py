"""What a forecast promises, whatever its coefficients."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.forecast import (
    BIN_SECONDS,
    Cases,
    Forecast,
    Profile,
    learn,
    linear,
    predict,
    predict_linear,
)

DAY = 86400.0
HOUR = 3600.0
MIDNIGHT = 1_736_121_600.0


def steady(days: float, per_hour: float = 1000.0) -> np.ndarray:
    """A series used evenly from `days` before MIDNIGHT until a day after."""
    return np.full(int((days + 1) * DAY / BIN_SECONDS), per_hour * BIN_SECONDS / HOUR)


def office(days: int, per_hour: float = 1000.0) -> np.ndarray:
    """A series used evenly from 9 to 17 h of every day."""
    day = np.zeros(288)
    day[9 * 12 : 17 * 12] = per_hour / 12
    return np.tile(day, days + 1)


def known(bins: np.ndarray, days: float, now: float) -> tuple[Profile, np.ndarray]:
    """What is known at `now` of series that began `days` before MIDNIGHT."""
    start = MIDNIGHT - days * DAY
    bins = np.atleast_2d(bins)[:, : int(np.ceil((now - start) / BIN_SECONDS))]
    return learn(bins, start, now), bins[:, int((now - start) // BIN_SECONDS) :]


def day_case(used: float | list[float], budget: float | list[float], series: int = 0) -> Cases:
    used, budget = np.broadcast_arrays(np.atleast_1d(used), np.atleast_1d(budget))
    return window(MIDNIGHT, MIDNIGHT + DAY, used, budget, series=series)


def window(
    start: float, end: float, used: object, budget: object, rolling: bool = False, series: int = 0
) -> Cases:
    used, budget = np.broadcast_arrays(
        np.atleast_1d(np.asarray(used, float)), np.atleast_1d(np.asarray(budget, float))
    )
    full = np.ones(used.shape)
    return Cases(
        series=np.full(used.shape, series),
        start=full * start,
        end=full * end,
        used=used,
        budget=budget,
        rolling=full * rolling > 0,
        utc_offset=full * 0.0,
    )


def check_sound(forecast: Forecast, cases: Cases, now: float) -> None:
    assert ((forecast.probability >= 0) & (forecast.probability <= 1)).all()
    for values in (forecast.lower, forecast.median, forecast.upper):
        assert np.isfinite(values).all()
    assert (forecast.lower <= forecast.median).all()
    assert (forecast.median <= forecast.upper).all()
    assert (cases.rolling | (forecast.lower >= cases.used)).all()
    likely = forecast.probability > 0.5
    assert (np.isfinite(forecast.exhaustion_at) == likely).all()
    assert (forecast.exhaustion_at[likely] >= now).all()
    assert (forecast.exhaustion_at[likely] <= cases.end[likely] + 1).all()


histories = st.lists(
    st.sampled_from([0.0, 0.0, 1.0, 20.0, 3000.0, 1e6]), min_size=1, max_size=24 * 12
)
"""Hourly use, from the oldest on."""


@given(
    hourly=histories,
    minutes=st.integers(0, 1439),
    used=st.sampled_from([0.0, 1.0, 500.0, 1e6]),
    length=st.sampled_from([60.0, HOUR, 5 * HOUR, DAY, 7 * DAY, 31 * DAY]),
    rolling=st.booleans(),
)
@settings(deadline=None)
def test_any_history_and_window_give_a_sound_forecast_that_falls_with_the_budget(
    hourly: list[float], minutes: int, used: float, length: float, rolling: bool
) -> None:
    bins = np.repeat(hourly, 12)
    days = len(hourly) / 24
    start = np.floor((MIDNIGHT - days * DAY) / BIN_SECONDS) * BIN_SECONDS
    now = start + bins.size * BIN_SECONDS + minutes % 5 * 60 + 1.0
    elapsed = length if rolling else min(length, minutes * 60.0)
    budgets = np.array([1.0, 10.0, 600.0, 3e4, 1e6, 1e8, 1e12])
    begin, end = (
        (now - length, now + length) if rolling else (now - elapsed, now - elapsed + length)
    )
    cases = window(begin, end, used, budgets, rolling)
    profile = learn(bins[None, :], start, now)
    forecast = predict(profile, np.zeros((1, 1)), now, cases)
    check_sound(forecast, cases, now)
    assert (np.diff(forecast.probability) <= 1e-9).all()
    assert (forecast.probability[cases.used >= cases.budget] == 1).all()


@given(hourly=histories, factor=st.sampled_from([1e-3, 0.5, 7.0, 1e6]), hours=st.integers(0, 23))
@settings(deadline=None, max_examples=40)
def test_counting_in_another_unit_changes_no_probability_and_no_moment(
    hourly: list[float], factor: float, hours: int
) -> None:
    bins = np.repeat(hourly, 12)[None, :]
    start = MIDNIGHT
    now = start + bins.shape[1] * BIN_SECONDS
    begin = now - hours * HOUR
    cases = window(begin, begin + DAY, 700.0, [800.0, 5e3, 1e5, 1e7])
    plain = predict(learn(bins, start, now), bins[:, :0], now, cases)
    scaled = predict(
        learn(bins * factor, start, now),
        bins[:, :0],
        now,
        replace(cases, used=cases.used * factor, budget=cases.budget * factor),
    )
    np.testing.assert_allclose(scaled.probability, plain.probability, atol=1e-4)
    np.testing.assert_allclose(scaled.median, plain.median * factor, rtol=1e-3)


def test_one_request_just_after_midnight_without_history_is_no_alarm() -> None:
    now = MIDNIGHT + 60
    profile, recent = known(np.array([1000.0, 0.0]), 0, now)
    forecast = predict(profile, recent, now, day_case(1000.0, 100_000.0))
    assert 0.02 < forecast.probability[0] < 0.7
    assert linear(now, day_case(1000.0, 100_000.0)).probability[0] == 1


@pytest.mark.parametrize("days", [2, 7, 13, 34])
def test_a_steady_series_is_forecast_surely_and_close(days: int) -> None:
    now = MIDNIGHT + 6 * HOUR
    profile, recent = known(steady(days), days, now)
    forecast = predict(profile, recent, now, day_case(6000.0, [12_000.0, 48_000.0]))
    assert forecast.probability[0] > 0.9
    assert forecast.probability[1] < 0.1
    assert forecast.median[0] == pytest.approx(24_000, rel=0.15)
    assert forecast.exhaustion_at[0] == pytest.approx(MIDNIGHT + 12 * HOUR, abs=1.5 * HOUR)


def test_the_interval_narrows_as_days_become_known() -> None:
    now = MIDNIGHT + 6 * HOUR
    width = []
    for days in (0, 1, 3, 10):
        profile, recent = known(steady(days), days, now)
        forecast = predict(profile, recent, now, day_case(6000.0, 30_000.0))
        width.append(forecast.upper[0] - forecast.lower[0])
    assert width[0] > width[1] > width[2] > width[3]


def test_a_night_without_use_is_not_taken_for_the_end_of_use() -> None:
    now = MIDNIGHT + 8 * HOUR
    profile, recent = known(office(10), 10, now)
    forecast = predict(profile, recent, now, day_case(0.0, 4000.0))
    assert forecast.probability[0] > 0.7
    assert forecast.exhaustion_at[0] == pytest.approx(MIDNIGHT + 13 * HOUR, abs=1.5 * HOUR)


def test_an_evening_after_work_is_not_extrapolated() -> None:
    now = MIDNIGHT + 18 * HOUR
    profile, recent = known(office(10), 10, now)
    forecast = predict(profile, recent, now, day_case(8000.0, 8800.0))
    assert forecast.probability[0] < 0.2


def test_an_idle_provider_is_unlikely_to_run_out() -> None:
    now = MIDNIGHT + 12 * HOUR
    bins = steady(10)
    bins[4 * 288 :] = 0
    profile, recent = known(bins, 10, now)
    assert predict(profile, recent, now, day_case(0.0, 20_000.0)).probability[0] < 0.1


@pytest.mark.parametrize("length", [60.0, HOUR, 5 * HOUR, DAY, 7 * DAY, 31 * DAY])
@pytest.mark.parametrize("rolling", [False, True])
@pytest.mark.parametrize("others", [0.0, 50.0])
def test_a_provider_that_never_used_anything_is_not_expected_to_begin(
    length: float, rolling: bool, others: float
) -> None:
    now = MIDNIGHT + 10 * HOUR
    profile, recent = known(np.stack([steady(3, 0.0), steady(3, others)]), 3, now)
    begin = now - length if rolling else now - length / 3
    forecast = predict(profile, recent, now, window(begin, now + length, 0.0, 1e5, rolling))
    assert forecast.probability[0] < 0.05
    assert forecast.upper[0] == 0


@pytest.mark.parametrize("length", [5 * HOUR, 7 * DAY])
def test_thirty_requests_at_once_at_the_very_beginning_are_not_yet_a_certainty(
    length: float,
) -> None:
    now = MIDNIGHT + 10 * HOUR + 10
    profile, recent = known(np.append(np.zeros(34 * 12), 30_000.0), 1, now)
    cases = window(now - length, now + length, 30_000.0, [60_000.0, 300_000.0, 3e6], True)
    assert (predict(profile, recent, now, cases).probability < [0.95, 0.8, 0.6]).all()


def test_use_since_the_profile_was_learnt_counts() -> None:
    now = MIDNIGHT + 6 * HOUR + 130
    bins = np.atleast_2d(steady(5))[:, : 5 * 288 + 73]
    start = MIDNIGHT - 5 * DAY
    early = learn(bins, start, now - 2 * HOUR)
    late = learn(bins, start, now)
    cases = day_case(6000.0, [20_000.0, 24_000.0])
    first, second = (
        predict(profile, bins[:, profile.cumulative.shape[1] - 1 :], now, cases)
        for profile in (early, late)
    )
    np.testing.assert_allclose(first.probability, second.probability, atol=1e-6)
    np.testing.assert_allclose(first.upper, second.upper, rtol=1e-6)


def test_a_case_is_answered_alike_alone_and_among_others() -> None:
    now = MIDNIGHT + 9 * HOUR
    profile, recent = known(np.stack([steady(5), office(5), steady(5, 50.0)]), 5, now)
    each = [day_case(1000.0, 30_000.0, 0), day_case(1000.0, 9000.0, 1), day_case(1000.0, 1300.0, 2)]
    columns = ([getattr(case, field.name) for case in each] for field in fields(Cases))
    several = Cases(*(np.concatenate(column) for column in columns))
    together = predict(profile, recent, now, several)
    for number, case in enumerate(each):
        alone = predict(profile, recent, now, case)
        assert alone.probability[0] == pytest.approx(together.probability[number], abs=1e-5)
        assert alone.upper[0] == pytest.approx(together.upper[number], rel=1e-3)


def test_a_rolling_window_forgets_what_a_calendar_window_keeps() -> None:
    now = MIDNIGHT + 14 * HOUR
    profile, recent = known(office(10), 10, now)
    rolls = window(now - 6 * HOUR, now + 6 * HOUR, 5000.0, [5700.0, 7300.0], rolling=True)
    fixed = window(now - 6 * HOUR, now + 6 * HOUR, 5000.0, [5700.0, 7300.0])
    rolling, calendar = (predict(profile, recent, now, case) for case in (rolls, fixed))
    assert rolling.probability[0] > 0.5
    assert now < rolling.exhaustion_at[0] < now + 3 * HOUR
    assert rolling.probability[1] < 0.3 < 0.5 < calendar.probability[1]


def test_a_full_rolling_window_is_certain_and_one_that_will_fill_is_likely() -> None:
    now = MIDNIGHT
    profile, recent = known(steady(6), 6, now)
    cases = window(now - 5 * HOUR, now + 5 * HOUR, 5000.0, [4000.0, 4900.0, 50_000.0], True)
    forecast = predict(profile, recent, now, cases)
    assert forecast.probability[:2].tolist() == [1, 1]
    assert forecast.exhaustion_at[:2].tolist() == [now, now]
    assert forecast.probability[2] < 0.05
    assert forecast.median[2] == pytest.approx(5000, rel=0.15)


@pytest.mark.parametrize(
    ("elapsed", "used", "projected", "probability"),
    [
        (6 * HOUR, 250.0, 1000.0, 0.0),
        (6 * HOUR, 251.0, 1004.0, 1.0),
        (12 * HOUR, 1000.0, 2000.0, 1.0),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 5.0, 5.0, 0.0),
        (24 * HOUR, 999.0, 999.0, 0.0),
    ],
)
def test_the_linear_rule_is_used_times_length_over_elapsed(
    elapsed: float, used: float, projected: float, probability: float
) -> None:
    forecast = linear(MIDNIGHT + elapsed, day_case(used, 1000.0))
    assert forecast.median[0] == pytest.approx(projected)
    assert forecast.lower[0] == forecast.median[0] == forecast.upper[0]
    assert forecast.probability[0] == probability
    assert np.isfinite(forecast.exhaustion_at[0]) == (probability == 1)


def test_the_linear_moment_is_where_the_line_meets_the_budget() -> None:
    forecast = linear(MIDNIGHT + 6 * HOUR, day_case(500.0, 1000.0))
    assert forecast.exhaustion_at[0] == MIDNIGHT + 12 * HOUR


def test_predict_linear_continues_the_last_hours_and_not_the_day() -> None:
    now = MIDNIGHT + 12 * HOUR
    bins = np.zeros(288 * 2)
    bins[288 + 11 * 12 : 288 + 12 * 12] = 100.0
    profile, recent = known(bins, 1, now)
    cases = day_case(1200.0, 10_000.0)
    hour = predict_linear(profile, recent, now, cases, HOUR)
    assert hour.median[0] == pytest.approx(1200 * 13)
    assert hour.probability[0] == 1
    day = predict_linear(profile, recent, now, cases, DAY)
    assert day.median[0] < 5000
    assert day.probability[0] == 0
