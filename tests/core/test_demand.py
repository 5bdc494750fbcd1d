"""Time in which a provider was out is no sample of demand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.forecast import BIN_SECONDS, Cases, TurnedAway, learn, predict
from exporter.core.forecast.demand import censored, turned_away

HOUR, DAY = 3600.0, 86400.0
PER_HOUR, PER_DAY = 12, 288
MIDNIGHT = 1_736_121_600.0


def test_half_a_bin_of_outage_censors_half_of_it() -> None:
    out = censored(4, 0.0, [(150.0, 900.0)])
    assert out.tolist() == [0.5, 1.0, 1.0, 0.0]


def test_an_outage_within_one_bin_and_one_that_lasts() -> None:
    out = censored(3, 0.0, [(310.0, 340.0), (750.0, np.inf)])
    np.testing.assert_allclose(out, [0.0, 0.1, 0.5])


def test_outages_before_the_history_and_after_it_censor_nothing() -> None:
    assert not censored(3, 9000.0, [(0.0, 9000.0), (9900.0, 1e9)]).any()


def test_the_same_hours_of_other_days_say_what_was_turned_away() -> None:
    day = np.repeat(np.arange(24.0), PER_HOUR)
    used = np.tile(day, 9)
    used[8 * PER_DAY + 12 * PER_HOUR :] = 0
    outage = (8 * DAY + 12 * HOUR, 9 * DAY)
    np.testing.assert_allclose(
        turned_away(used, 0.0, [outage])[8 * PER_DAY + 12 * PER_HOUR :], day[12 * PER_HOUR :]
    )


def test_the_level_of_the_hours_before_counts() -> None:
    used = np.tile(np.ones(PER_DAY), 9)
    used[8 * PER_DAY - 12 * PER_HOUR :] = 2.0
    used[8 * PER_DAY + 12 * PER_HOUR :] = 0
    missing = turned_away(used, 0.0, [(8 * DAY + 12 * HOUR, np.inf)])
    np.testing.assert_allclose(missing[8 * PER_DAY + 12 * PER_HOUR :], 2.0, rtol=0.15)


def test_without_other_days_the_pace_before_goes_on() -> None:
    used = np.zeros(PER_DAY)
    used[: 10 * PER_HOUR] = 5.0
    missing = turned_away(used, 0.0, [(10 * HOUR, DAY)])
    np.testing.assert_allclose(missing[10 * PER_HOUR :], 5.0)
    assert not missing[: 10 * PER_HOUR].any()


def test_what_callers_used_in_spite_of_it_counts_towards_the_demand() -> None:
    used = np.full(PER_DAY, 4.0)
    used[10 * PER_HOUR :] = 1.0
    missing = turned_away(used, 0.0, [(10 * HOUR, DAY)])
    np.testing.assert_allclose((used + missing)[10 * PER_HOUR :], 4.0)


@given(
    used=st.lists(st.sampled_from([0.0, 1.0, 50.0, 1e6]), min_size=1, max_size=600),
    outages=st.lists(st.tuples(st.floats(-1e5, 2e5), st.floats(0, 1e5)), max_size=6),
)
def test_demand_is_never_less_than_use_and_is_use_where_nothing_was_out(
    used: list[float], outages: list[tuple[float, float]]
) -> None:
    amounts = np.array(used)
    spans = [(begin, begin + length) for begin, length in outages]
    missing = turned_away(amounts, 0.0, spans)
    assert np.isfinite(missing).all()
    assert (missing >= 0).all()
    assert not missing[censored(amounts.size, 0.0, spans) == 0].any()


def test_dear_use_that_nobody_expected_is_counted_without_a_warning() -> None:
    used = np.zeros(PER_DAY)
    used[0] = 1e-3
    used[20 * PER_HOUR :] = 3e12  # nano-dollars
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        missing = turned_away(used, 0.0, [(20 * HOUR, DAY)])
    assert not missing[20 * PER_HOUR :].any()


def office(days: int) -> np.ndarray:
    day = np.zeros(PER_DAY)
    day[9 * PER_HOUR : 17 * PER_HOUR] = 1000 / PER_HOUR
    return np.tile(day, days)


@pytest.mark.parametrize("obeying", [True, False])
def test_an_installation_whose_routers_obey_still_expects_to_exceed(obeying: bool) -> None:
    days = 14
    bins = office(days + 1)
    outages = []
    if obeying:
        for day in range(days):
            # 8,000 a day are wanted, 5,000 are allowed: out from 14:00 on.
            bins[day * PER_DAY + 14 * PER_HOUR : (day + 1) * PER_DAY] = 0
            outages.append((MIDNIGHT + day * DAY + 14 * HOUR, MIDNIGHT + (day + 1) * DAY))
    now = MIDNIGHT + days * DAY + 12 * HOUR
    known = bins[None, : int((now - MIDNIGHT) / BIN_SECONDS)]
    start = MIDNIGHT + days * DAY
    one = np.ones(1)
    cases = Cases(
        series=np.zeros(1, np.intp),
        start=one * start,
        end=one * (start + DAY),
        used=one * 3000,
        budget=one * 5250,
        rolling=np.zeros(1, bool),
        utc_offset=one * 0,
    )
    profile = learn(known, MIDNIGHT, now)
    told = predict(TurnedAway().put_into(profile, {0: outages}, [0]), known[:, :0], now, cases)
    assert told.probability[0] > 0.9
    if obeying:
        assert predict(profile, known[:, :0], now, cases).probability[0] < 0.5


def test_rows_without_outages_are_left_alone() -> None:
    used = np.ones((3, PER_DAY))
    used[1, 144:] = 0
    profile = learn(used, MIDNIGHT, MIDNIGHT + DAY)
    told = TurnedAway().put_into(profile, {1: [(MIDNIGHT + 12 * HOUR, np.inf)], 2: []}, [0, 1])
    assert list(told.turned_away) == [1]
    assert told.turned_away[1][-1] == pytest.approx(144)


def test_an_estimate_is_kept_for_an_hour_unless_the_outages_change() -> None:
    used = np.ones((1, PER_DAY))
    used[0, 144:] = 0
    away = TurnedAway()
    outages = [(MIDNIGHT + 12 * HOUR, np.inf)]

    def missing(hour: float) -> float:
        profile = learn(used, MIDNIGHT, MIDNIGHT + hour * HOUR)
        told = away.put_into(profile, {0: outages}, [0]).turned_away[0]
        assert told.size == profile.cumulative.shape[1]
        return float(told[-1])

    assert missing(14.1) == pytest.approx(25)
    assert missing(14.5) == pytest.approx(25)
    assert missing(15.1) == pytest.approx(37)
    outages[0] = (MIDNIGHT + 12 * HOUR, MIDNIGHT + 13 * HOUR)
    assert missing(15.2) == pytest.approx(12)
