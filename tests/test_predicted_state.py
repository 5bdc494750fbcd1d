"""When a forecast takes a provider out, and until when."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import msgspec
import pytest

from exporter.core.budget import Budget, PredictionSettings, Quota
from exporter.core.measurement import Measurement
from exporter.core.quota_state import Reason
from exporter.core.scope import Scope
from exporter.core.windows import Window, parse_period
from exporter.quota_states import QuotaStates

HOUR, DAY = 3600.0, 86_400.0
MIDNIGHT = 1_736_121_600.0
NOON = MIDNIGHT + 12 * HOUR

OPENAI = Scope("openai")


@pytest.fixture
def states() -> QuotaStates:
    return QuotaStates()


def measured(used: float, probability: float, period: str = "day", tokens: int = 1000):
    budget = Budget(tokens, parse_period(period, ZoneInfo("UTC")))
    window = Window(MIDNIGHT, MIDNIGHT + DAY)
    if budget.period.rolling:
        window = Window(NOON - 5 * HOUR, NOON)
    quota = Quota(OPENAI, budget)
    return Measurement(quota, window, used, 900, 1100, 1300, probability, None, {})


def freed_at(one: Measurement, share: float, now: float) -> float:
    return one.window.end if not one.budget.period.rolling else now + HOUR * share


def seen(
    states: QuotaStates,
    now: float,
    *budgets: Measurement,
    settings: PredictionSettings | None = None,
) -> tuple[Reason | None, float | None]:
    """Settle the state, and tell its reason and when to retry."""
    if settings is not None:
        budgets = tuple(with_settings(one, settings) for one in budgets)
    states.settle(OPENAI, budgets, freed_at, now)
    state = states.scope(OPENAI, now).view
    return state.reason, state.retry_at


def with_settings(one: Measurement, settings: PredictionSettings) -> Measurement:
    budget = replace(one.budget, prediction=settings)
    return msgspec.structs.replace(one, quota=Quota(OPENAI, budget))


OUT = (Reason.PREDICTED, MIDNIGHT + DAY)
IN = (None, None)


@pytest.mark.parametrize(
    ("used", "probability", "expected"),
    [
        (990, 0.95, OUT),
        (980, 0.99, OUT),
        (979, 1.0, IN),
        (500, 1.0, IN),
        (990, 0.94, IN),
    ],
)
def test_a_provider_is_out_once_a_likely_exhaustion_is_near(
    states: QuotaStates, used: float, probability: float, expected: object
) -> None:
    assert seen(states, NOON, measured(used, probability)) == expected


def test_it_stays_out_whatever_becomes_of_the_probability(states: QuotaStates) -> None:
    assert seen(states, NOON, measured(985, 0.96)) == OUT
    for hour in range(1, 12):
        assert seen(states, NOON + hour * HOUR, measured(985, 0.1)) == OUT


def test_it_comes_back_with_the_next_window_and_without_a_success(states: QuotaStates) -> None:
    assert seen(states, NOON, measured(985, 0.96)) == OUT
    assert seen(states, MIDNIGHT + DAY, measured(0, 0.96)) == IN


def test_a_budget_that_was_raised_brings_it_back(states: QuotaStates) -> None:
    assert seen(states, NOON, measured(985, 0.96)) == OUT
    assert seen(states, NOON + 1, measured(985, 0.96, tokens=1090)) == OUT
    assert seen(states, NOON + 2, measured(985, 0.96, tokens=1200)) == IN


def test_a_rolling_window_is_retried_when_it_will_have_forgotten_enough(
    states: QuotaStates,
) -> None:
    retry_at = pytest.approx(NOON + 0.9 * HOUR)
    assert seen(states, NOON, measured(985, 0.96, "5h")) == (Reason.PREDICTED, retry_at)
    reason, kept = seen(states, NOON + 60, measured(950, 0.96, "5h"))
    assert (reason, kept) == (Reason.PREDICTED, retry_at)
    assert seen(states, NOON + 120, measured(890, 0.96, "5h")) == IN


def test_of_several_budgets_the_one_that_is_free_last_says_until_when(states: QuotaStates) -> None:
    both = measured(985, 0.96, "5h"), measured(985, 0.96)
    assert seen(states, NOON, *both) == OUT


def test_a_spent_budget_is_no_prediction(states: QuotaStates) -> None:
    assert seen(states, NOON, measured(985, 0.96)) == OUT
    assert seen(states, NOON + 1, measured(1000, 1.0)) == (Reason.BUDGET, MIDNIGHT + DAY)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (PredictionSettings(exhausted_at=None), IN),
        (PredictionSettings(exhausted_at=0.9, from_used=0.5), OUT),
        (PredictionSettings(exhausted_at=0.9, from_used=0), OUT),
        (PredictionSettings(exhausted_at=0.9, from_used=0.7), IN),
    ],
)
def test_the_settings_say_how_likely_and_how_near(
    states: QuotaStates, settings: PredictionSettings, expected: object
) -> None:
    assert seen(states, NOON, measured(600, 0.92), settings=settings) == expected


HYSTERESIS = PredictionSettings(from_used=0, release_below=0.7)


@pytest.mark.parametrize(("probability", "expected"), [(0.94, IN), (0.95, OUT), (1.0, OUT)])
def test_with_a_release_it_is_set_however_little_is_used(
    states: QuotaStates, probability: float, expected: object
) -> None:
    assert seen(states, NOON, measured(1, probability), settings=HYSTERESIS) == expected


@pytest.mark.parametrize(("probability", "expected"), [(0.94, OUT), (0.7, OUT), (0.69, IN)])
def test_with_a_release_it_is_taken_back_below_that(
    states: QuotaStates, probability: float, expected: object
) -> None:
    assert seen(states, NOON, measured(500, 0.95), settings=HYSTERESIS) == OUT
    assert seen(states, NOON + 1, measured(500, probability), settings=HYSTERESIS) == expected


def test_with_a_release_the_next_window_has_to_become_as_likely_again(
    states: QuotaStates,
) -> None:
    assert seen(states, NOON, measured(500, 0.95), settings=HYSTERESIS) == OUT
    assert seen(states, MIDNIGHT + DAY, measured(0, 0.8), settings=HYSTERESIS) == IN


def test_a_prediction_that_is_no_longer_wanted_is_taken_back(states: QuotaStates) -> None:
    assert seen(states, NOON, measured(985, 0.96)) == OUT
    off = PredictionSettings(exhausted_at=None)
    assert seen(states, NOON + 1, measured(985, 0.96), settings=off) == IN


def test_outages_are_remembered_stored_and_taken_up(states: QuotaStates) -> None:
    assert seen(states, NOON, measured(985, 0.96)) == OUT
    assert states.outages.of(OPENAI) == ((NOON, MIDNIGHT + DAY),)
    assert seen(states, NOON + HOUR, measured(985, 0.96, tokens=1200)) == IN
    assert states.outages.of(OPENAI) == ((NOON, NOON + HOUR),)
    other = QuotaStates()
    for name, body in states.changed.items():
        assert other.load(name, body, NOON)
    assert other.outages.all() == states.outages.all()


def test_a_provider_that_is_forgotten_leaves_no_outages(states: QuotaStates) -> None:
    assert seen(states, NOON, measured(985, 0.96)) == OUT
    states.forget("openai", NOON)
    assert states.outages.of(OPENAI) == ()
