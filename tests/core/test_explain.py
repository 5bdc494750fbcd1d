"""What a forecast rests on."""

import numpy as np
import pytest

from exporter.core.forecast import BIN_SECONDS, Cases, Explanation, TurnedAway, explain, learn
from tests.core.forecast_shapes import BEGIN, DAY, OFFICE, STEADY, at, place, since

ONE = np.ones(1)


def explained(
    bins: np.ndarray,
    now: float,
    start: float,
    end: float,
    budget: float,
    rolling: bool = False,
    out: tuple[float, float] | None = None,
) -> Explanation:
    known = bins[None, : place(now)]
    used = bins[place(start) : place(now)].sum()
    cases = Cases(
        series=np.zeros(1, np.intp),
        start=ONE * start,
        end=ONE * end,
        used=ONE * used,
        budget=ONE * budget,
        rolling=np.full(1, rolling),
        utc_offset=ONE * 0,
    )
    profile = learn(known, BEGIN, now)
    if out:
        profile = TurnedAway().put_into(profile, {0: [out]}, [0])
    return explain(profile, known[:, :0], now, cases)[0]


def test_the_usual_course_of_a_working_day_beside_todays() -> None:
    found = explained(OFFICE, at(8, 12), at(8), at(9), 8000)
    assert (len(found.moments), found.moments[0], found.moments[-1]) == (49, at(8), at(9))
    assert found.usual[24] == pytest.approx(4000)
    assert found.usual[-1] == pytest.approx(10_000)
    assert found.used == pytest.approx(found.usual[:25])
    assert found.days == pytest.approx(43 + 4 / 24, abs=0.1)
    assert not found.learning


def test_what_was_turned_away_is_asked_for_and_not_used() -> None:
    cut = OFFICE.copy()
    for day in (7, 8):
        cut[place(at(day, 11)) : place(at(day + 1))] = 0
    found = explained(cut, at(8, 15), at(8), at(9), 8000, out=(at(8, 11), at(9)))
    assert found.used[-1] == pytest.approx(cut[place(at(8)) : place(at(8, 15))].sum())
    cut[place(at(8, 11)) : place(at(9))] = OFFICE[place(at(8, 11)) : place(at(9))]
    later = explained(cut, at(9, 12), at(9), at(10), 8000, out=(at(7, 11), at(8)))
    assert later.lower[-1] == pytest.approx(10_000, rel=0.05)


def test_a_saturday_is_compared_with_saturdays() -> None:
    found = explained(OFFICE, at(12, 12), at(12), at(13), 8000)
    assert max(found.upper) == 0
    assert found.windows >= 3


def test_a_week_is_compared_with_weeks() -> None:
    found = explained(OFFICE, at(11, 12), at(7), at(14), 62_500)
    assert found.usual[-1] == pytest.approx(50_000)
    assert found.upper[-1] - found.lower[-1] < 1000
    assert found.windows == 4


def test_the_band_holds_the_usual_course() -> None:
    uneven = STEADY * np.random.default_rng(3).gamma(2, 0.5, STEADY.size)
    found = explained(uneven, at(8, 12), at(8), at(9), 30_000)
    assert all(
        low <= mid <= high
        for low, mid, high in zip(found.lower, found.usual, found.upper, strict=True)
    )
    assert found.lower[-1] < found.usual[-1] < found.upper[-1]


def test_a_rolling_window_shows_what_it_held_and_what_such_windows_hold_later() -> None:
    found = explained(STEADY, at(8, 12), at(8, 7), at(8, 17), 6000, rolling=True)
    assert found.used == pytest.approx([5000] * 25)
    assert found.usual == pytest.approx([5000] * 49)


def test_a_young_provider_is_being_learnt_and_nothing_is_usual_yet() -> None:
    found = explained(since(at(8, 9), STEADY), at(8, 12), at(8), at(9), 30_000)
    assert found.learning
    assert found.days == pytest.approx(3 / 24, abs=BIN_SECONDS / DAY)
    assert (found.usual, found.windows) == ([], 0)
    assert len(found.used) == 25


def test_who_was_never_used_has_no_days() -> None:
    found = explained(STEADY * 0, at(8, 12), at(8), at(9), 30_000)
    assert found.days == 0
    assert found.used == [0.0] * 25
