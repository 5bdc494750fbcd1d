"""Every budget at one moment."""

from dataclasses import replace
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.budget import Budget, Method, Per, PredictionSettings
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.measurement import Measurement
from exporter.core.quota_forecasts import FORECAST_AGE
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.slots import FINE_SECONDS
from exporter.core.windows import Calendar, Rolling, Unit, Window

HOUR = 3600
DAY = 86_400
MIDNIGHT = 1_736_121_600
NOON = MIDNIGHT + 12 * HOUR

UTC_DAY = Calendar(Unit.DAY, ZoneInfo("UTC"))
BUDGETS = {
    "openai": (Budget(1000, UTC_DAY),),
    "gemini": (
        Budget(5000, Calendar(Unit.DAY, ZoneInfo("America/Los_Angeles"))),
        Budget(400, Rolling(5 * HOUR), (2.0,) * 6),
        Budget(20_000, Calendar(Unit.WEEK, ZoneInfo("Europe/Berlin"))),
    ),
    "idle": (Budget(1, Calendar(Unit.MINUTE, ZoneInfo("UTC"))),),
}


def ledger_of(now: float, method: Method = Method.FORECAST) -> Ledger:
    settings = PredictionSettings(method=method)
    budgets = {
        name: [replace(budget, prediction=settings) for budget in those]
        for name, those in BUDGETS.items()
    }
    return Ledger(budgets, 35 * DAY, now)


def use(ledger: Ledger, provider: str, tokens: int, at: float) -> None:
    cell = (Series(provider), int(at // FINE_SECONDS))
    ledger.add({cell: [0, 0, 0, 0, 0, tokens, 1, 0]})


def one(meter: BudgetMeter, now: float, provider: str = "openai") -> Measurement:
    return meter.measure(now, [provider])[0]


@pytest.fixture(params=Method)
def method(request: pytest.FixtureRequest) -> Method:
    return request.param


def test_a_budget_is_measured_in_its_own_window_with_its_own_weights(method: Method) -> None:
    ledger = ledger_of(NOON, method)
    for hour, tokens in ((3, 1000), (6, 10), (8, 20), (11, 30)):
        use(ledger, "gemini", tokens, MIDNIGHT + hour * HOUR)
    found = {
        (each.scope.provider, each.budget.period.name): (each.window, each.used)
        for each in BudgetMeter(ledger).measure(NOON)
    }
    assert found == {
        ("openai", "day"): (Window(MIDNIGHT, MIDNIGHT + DAY), 0),
        ("gemini", "day"): (Window(MIDNIGHT + 8 * HOUR, MIDNIGHT + 32 * HOUR), 50),
        ("gemini", "5h"): (Window(NOON - 5 * HOUR, NOON), 100),
        ("gemini", "week"): (Window(MIDNIGHT - HOUR, MIDNIGHT + 7 * DAY - HOUR), 1060),
        ("idle", "minute"): (Window(NOON, NOON + 60), 0),
    }


def test_burn_rates_are_shares_of_the_budget_per_period(method: Method) -> None:
    ledger = ledger_of(NOON, method)
    for hour in range(12):
        use(ledger, "openai", 100, MIDNIGHT + hour * HOUR + 3500)
    burn = one(BudgetMeter(ledger), NOON).burn
    # Each hour's 100 fall into its last 100 seconds: 100 / 600 s x 86400 s / 1000 in 10 minutes.
    assert burn == {"10m": pytest.approx(14.4), "1h": pytest.approx(2.4), "6h": pytest.approx(2.4)}


def test_a_spent_budget_is_exceeded_with_certainty_and_now(method: Method) -> None:
    ledger = ledger_of(NOON, method)
    meter = BudgetMeter(ledger)
    use(ledger, "openai", 999, NOON - HOUR)
    assert not one(meter, NOON).exceeded
    use(ledger, "openai", 1, NOON - HOUR)
    spent = one(meter, NOON)
    assert (spent.exceeded, spent.probability, spent.exhaustion_at) == (True, 1.0, NOON)
    assert min(spent.lower, spent.median, spent.upper) >= 1000


def test_the_linear_rule_shows_its_line() -> None:
    ledger = ledger_of(NOON, Method.LINEAR)
    use(ledger, "openai", 600, NOON - HOUR)
    found = one(BudgetMeter(ledger), NOON)
    assert (found.lower, found.median, found.upper) == (1200, 1200, 1200)
    assert found.probability == 1
    assert found.exhaustion_at == MIDNIGHT + 20 * HOUR


def test_an_unlikely_exhaustion_has_no_moment(method: Method) -> None:
    ledger = ledger_of(NOON, method)
    use(ledger, "openai", 1, NOON - HOUR)
    found = one(BudgetMeter(ledger), NOON)
    assert found.probability < 0.5
    assert found.exhaustion_at is None


def test_a_forecast_is_made_anew_when_something_was_used_the_window_ended_or_it_is_old() -> None:
    ledger = ledger_of(NOON, Method.LINEAR)
    meter = BudgetMeter(ledger)
    use(ledger, "openai", 600, NOON - HOUR)
    first = one(meter, NOON)
    assert one(meter, NOON + FORECAST_AGE - 1).median == first.median
    assert one(meter, NOON + FORECAST_AGE).median < first.median
    use(ledger, "openai", 60, NOON)
    assert one(meter, NOON + FORECAST_AGE).median > first.median
    ledger.advance(MIDNIGHT + DAY)
    before, after = (one(meter, MIDNIGHT + DAY + shift) for shift in (-1, 0))
    assert before.median == pytest.approx(660, rel=0.001)
    assert (after.used, after.median) == (0, 0)


def test_time_going_back_makes_the_forecast_anew() -> None:
    ledger = ledger_of(NOON, Method.LINEAR)
    meter = BudgetMeter(ledger)
    use(ledger, "openai", 600, MIDNIGHT + HOUR)
    assert one(meter, NOON).median == 1200
    assert one(meter, MIDNIGHT + 6 * HOUR).median == 2400


def test_silence_never_raises_the_probability_of_a_calendar_window() -> None:
    ledger = ledger_of(MIDNIGHT)
    for hour in range(-20 * 24, 0):
        use(ledger, "gemini", 25 + hour % 7 * 20, MIDNIGHT + hour * HOUR)
    meter = BudgetMeter(ledger)
    week = []
    for hour in range(0, 60, 2):
        ledger.advance(MIDNIGHT + hour * HOUR)
        week.append(meter.measure(MIDNIGHT + hour * HOUR, ["gemini"])[2])
    for before, after in pairwise(week):
        assert after.probability <= before.probability
        assert after.upper <= before.upper


def test_demand_is_learnt_from_the_time_a_provider_was_not_out() -> None:
    ledger = ledger_of(NOON)
    outages = []
    for day in range(-15, 0):
        midnight = MIDNIGHT + day * DAY
        for minute in range(0, 13 * 60, 5):
            use(ledger, "openai", 6, midnight + minute * 60)
        outages.append((midnight + 13.0 * HOUR, midnight + 24.0 * HOUR))
    for minute in range(0, 12 * 60, 5):
        use(ledger, "openai", 6, MIDNIGHT + minute * 60)
    idle, asked = (BudgetMeter(ledger) for _ in range(2))
    asked.was_out({Scope("openai"): outages})
    assert one(idle, NOON).probability < 0.5
    assert one(asked, NOON).probability > 0.9


def test_what_is_not_asked_for_is_not_measured(method: Method) -> None:
    meter = BudgetMeter(ledger_of(NOON, method))
    assert [each.scope.provider for each in meter.measure(NOON, ["idle", "unknown"])] == ["idle"]
    assert meter.measure(NOON, []) == []
    assert BudgetMeter(Ledger({}, 35 * DAY, NOON)).measure(NOON) == []


uses = st.lists(
    st.tuples(st.sampled_from(["openai", "gemini"]), st.integers(1, 400), st.integers(0, 10 * DAY)),
    max_size=20,
)


@given(
    uses=uses,
    asked=st.lists(st.sampled_from([*BUDGETS]), unique=True),
    method=st.sampled_from(Method),
)
@settings(deadline=None, max_examples=50)
def test_some_providers_are_measured_as_all_of_them_are(
    uses: list[tuple[str, int, int]], asked: list[str], method: Method
) -> None:
    ledger = ledger_of(NOON, method)
    for provider, tokens, age in uses:
        use(ledger, provider, tokens, NOON - age)
    everybody = {
        (each.scope.provider, each.budget): each for each in BudgetMeter(ledger).measure(NOON)
    }
    for some in BudgetMeter(ledger).measure(NOON, asked):
        alike = everybody.pop((some.scope.provider, some.budget))
        assert (some.window, some.used, some.burn) == (alike.window, alike.used, alike.burn)
        assert some.probability == pytest.approx(alike.probability, abs=1e-4)
        assert some.median == pytest.approx(alike.median, rel=1e-3)
    assert not {provider for provider, _ in everybody} & set(asked)


@given(uses=uses, steps=st.lists(st.integers(0, 3 * HOUR), max_size=5))
@settings(deadline=None, max_examples=50)
def test_measuring_again_and_again_gives_what_measuring_once_gives(
    uses: list[tuple[str, int, int]], steps: list[int]
) -> None:
    ledger = ledger_of(NOON, Method.LINEAR)
    meter = BudgetMeter(ledger)
    now = NOON
    for step in steps:
        now += step
        ledger.advance(now)
        if uses:
            provider, tokens, age = uses.pop()
            use(ledger, provider, tokens, now - age)
        for held, fresh in zip(
            meter.measure(now),
            BudgetMeter(ledger).measure(now),
            strict=True,
        ):
            assert (held.used, held.exceeded, held.window) == (
                fresh.used,
                fresh.exceeded,
                fresh.window,
            )
            if step >= FORECAST_AGE:
                np.testing.assert_equal(held.median, fresh.median)


def test_a_measurement_can_be_explained_by_what_it_was_made_of(method: Method) -> None:
    ledger = ledger_of(NOON, method)
    for day in range(5):
        use(ledger, "openai", 100 * (day + 1), NOON - day * DAY - HOUR)
    meter = BudgetMeter(ledger)
    measured = one(meter, NOON)
    stranger = measured.quota._replace(scope=Scope("nobody"))
    [(quota, explained)] = meter.explain_quotas([stranger, measured.quota], NOON).items()
    assert quota == measured.quota
    assert [why for _, why in meter.explain("openai", NOON)] == [explained]
    assert (explained.moments[0], explained.moments[-1]) == measured.window
    assert explained.used[-1] == measured.used
    assert explained.windows > 0
    assert explained.learning


def test_a_forecast_stays_as_it_is_while_other_quotas_come_up(method: Method) -> None:
    settings = PredictionSettings(method=method)
    budget = Budget(1000, UTC_DAY, per=frozenset({Per.MODEL}), prediction=settings)
    ledger = Ledger({"openai": (budget,)}, 35 * DAY, NOON)
    meter = BudgetMeter(ledger)

    def use_model(model: str) -> None:
        cell = (Series("openai", model), int((NOON - HOUR) // FINE_SECONDS))
        ledger.add({cell: [0, 0, 0, 0, 0, 400, 1, 0]})

    use_model("gpt-5")
    first = one(meter, NOON)
    assert first.lower <= first.median <= first.upper
    for model in ("gpt-5-mini", "gpt-5-nano"):
        use_model(model)
        assert one(meter, NOON + 1) == first


def test_each_budget_of_a_provider_is_forecast_by_its_own_method() -> None:
    budgets = [
        Budget(1000 + at, UTC_DAY, prediction=PredictionSettings(method=each))
        for at, each in enumerate(Method)
    ]

    def measured(*some: Budget) -> list[Measurement]:
        ledger = Ledger({"openai": some}, 35 * DAY, NOON)
        use(ledger, "openai", 400, NOON - HOUR)
        return BudgetMeter(ledger).measure(NOON)

    assert measured(*budgets) == [*measured(budgets[0]), *measured(budgets[1])]


def test_measuring_beside_the_writer_leaves_out_quotas_whose_sums_have_no_room_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budget = Budget(1000, UTC_DAY, per=frozenset({Per.MODEL}))
    ledger = Ledger({"openai": (budget,)}, 35 * DAY, NOON)
    meter, reserve, found = BudgetMeter(ledger), ledger.fine.reserve, []

    def measure_first(rows: int) -> None:
        found.append(len(meter.measure(NOON)))
        reserve(rows)

    monkeypatch.setattr(ledger.fine, "reserve", measure_first)
    for number in range(3):
        ledger.members(Series("openai", f"model-{number}"))
    assert found == [0, 1, 2]
    assert len(meter.measure(NOON)) == 3
