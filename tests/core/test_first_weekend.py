"""Of a person who was watched for less than a week nobody knows what a weekend brings."""

import numpy as np
import pytest

from exporter.core.forecast import Cases, Forecast, allow_for_rest, learn, predict
from tests.core.forecast_shapes import BEGIN, at, hours, place, since, until

WORKED = hours(9, 18)
"""Also at weekends: what is not yet known is not read."""

ONE = np.ones(1)


def asked(
    bins: np.ndarray, now: float, share: float, personal: bool = True, rolling: bool = False
) -> tuple[Forecast, Forecast]:
    """What is said of a week of which a share is used, without and with a chance of rest."""
    known = bins[None, : place(now)]
    used = known[0, place(at(0)) :].sum()
    cases = Cases(
        series=np.zeros(1, np.intp),
        start=ONE * at(0),
        end=ONE * at(7),
        used=ONE * used,
        budget=ONE * used / share,
        rolling=np.full(1, rolling),
        utc_offset=ONE * 0,
    )
    profile, recent = learn(known, BEGIN, now), known[:, :0]
    made = predict(profile, recent, now, cases)
    return made, allow_for_rest(made, profile, recent, now, cases, np.full(1, personal))


def test_before_the_first_weekend_less_is_expected() -> None:
    made, found = asked(since(at(0), WORKED), at(4, 18), 0.8)
    assert 0.75 * made.probability[0] < found.probability[0] < made.probability[0]
    for now, before in ((found.lower, made.lower), (found.median, made.median)):
        assert now[0] < before[0]
    assert found.lower[0] <= found.median[0] <= found.upper[0]


def test_a_moment_is_given_only_where_it_stays_more_likely_than_not() -> None:
    for share in np.linspace(0.6, 0.99, 14):
        _, found = asked(since(at(0), WORKED), at(4, 18), share)
        assert np.isnan(found.exhaustion_at[0]) == (found.probability[0] <= 0.5)


@pytest.mark.parametrize(
    ("begins", "now", "personal", "rolling"),
    [
        (at(0), at(4, 18), False, False),
        (at(0), at(4, 18), True, True),
        (at(-7), at(4, 18), True, False),
        (at(0), at(6, 20), True, False),
    ],
    ids=["no person", "rolling", "a weekend is known", "the weekend was worked"],
)
def test_what_is_not_a_persons_first_weekend_stays_as_it_was(
    begins: float, now: float, personal: bool, rolling: bool
) -> None:
    made, found = asked(since(begins, WORKED), now, 0.8, personal, rolling)
    np.testing.assert_array_equal(made.probability, found.probability)
    np.testing.assert_array_equal(made.median, found.median)


def test_a_saturday_of_rest_keeps_the_chance() -> None:
    rested = until(at(5), since(at(0), WORKED))
    made, found = asked(rested, at(5, 18), 0.8)
    assert found.probability[0] < made.probability[0]
