"""How far a provider's own count is from ours."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.budget import NANO, Budget, BudgetUnit, Quota
from exporter.core.drift import drift
from exporter.core.measurement import Measurement
from exporter.core.reports import Report
from exporter.core.scope import Scope
from exporter.core.signal import Limit
from exporter.core.windows import DAY, HOUR, Calendar, Rolling, Unit

NOW = 1_790_000_000.0
UTC = ZoneInfo("UTC")
A_DAY, A_WEEK = Calendar(Unit.DAY, UTC), Calendar(Unit.WEEK, UTC)
FIVE_HOURS = Rolling(5 * HOUR)


def measured(
    used: float = 0.0,
    amount: int = 1000,
    period: Calendar | Rolling = A_DAY,
    unit: BudgetUnit = BudgetUnit.TOKENS,
    model: str = "",
    consumer: str = "",
) -> Measurement:
    scale = NANO if unit is BudgetUnit.USD else 1
    budget = Budget(amount * scale, period, unit=unit, model=model, consumer=consumer)
    quota = Quota(Scope("a", model, consumer), budget)
    rest: tuple[Any, ...] = (0.0, 0.0, 0.0, 0.0, None, {})
    return Measurement(quota, period.window(NOW), used * scale, *rest)


def of(limit: Limit, *those: Measurement, at: float = NOW) -> float | None:
    """The drift of one limit, reported at a moment."""
    return drift({limit.name: Report(limit, at)}, those, NOW).get(limit.name)


TOKENS = Limit("tokens", 1000, 400, unit="tokens", window=DAY)


@pytest.mark.parametrize(("used", "expected"), [(600, 0.0), (500, 0.1), (750, -0.15)])
def test_it_is_what_the_provider_counted_less_what_we_did(used: float, expected: float) -> None:
    assert of(TOKENS, measured(used)) == pytest.approx(expected)


def test_a_limit_that_differs_from_the_budget_is_what_counts() -> None:
    assert of(TOKENS, measured(600, amount=500)) == pytest.approx(0.0)


def test_a_share_is_compared_with_what_is_used_of_the_budget() -> None:
    share = Limit("5h", utilization=0.5, unit="share", window=5 * HOUR)
    assert of(share, measured(300, 1000, FIVE_HOURS)) == pytest.approx(0.2)


def test_dollars_are_compared_with_dollars() -> None:
    spent = Limit("spend", 100, 40, unit="usd", window=DAY)
    assert of(spent, measured(50, 100, unit=BudgetUnit.USD)) == pytest.approx(0.1)
    assert of(spent, measured(50, 100)) is None


@pytest.mark.parametrize(
    ("name", "period"),
    [("requests_day", A_DAY), ("requests_7d", A_WEEK), ("requests_5h", FIVE_HOURS)],
)
def test_a_name_tells_unit_and_window_where_nothing_else_does(
    name: str, period: Calendar | Rolling
) -> None:
    limit = Limit(name, 100, 90)
    counted = measured(5, 100, period, BudgetUnit.REQUESTS)
    assert of(limit, measured(50, 100, A_DAY), counted) == pytest.approx(0.05)


@pytest.mark.parametrize(
    "other",
    [
        measured(600, period=A_WEEK),
        measured(600, unit=BudgetUnit.REQUESTS),
        measured(600, model="gpt-*"),
        measured(600, consumer="team"),
    ],
    ids=["window", "unit", "model", "consumer"],
)
def test_a_budget_of_another_kind_is_not_compared(other: Measurement) -> None:
    assert of(TOKENS, other) is None


def test_a_limit_of_a_model_is_compared_with_the_budget_of_that_model() -> None:
    limit = Limit("tokens", 1000, 400, unit="tokens", window=DAY, model="gpt-*")
    assert of(limit, measured(100), measured(500, model="gpt-*")) == pytest.approx(0.1)


def test_a_report_from_a_window_that_has_ended_tells_nothing() -> None:
    start = A_DAY.window(NOW).start
    assert of(TOKENS, measured(600), at=start) is not None
    assert of(TOKENS, measured(600), at=start - 1) is None


def test_a_report_about_a_limit_that_is_whole_again_tells_nothing() -> None:
    for reset_at, tells in ((NOW + 1, True), (NOW, False)):
        limit = Limit("tokens", 1000, 400, unit="tokens", window=DAY, reset_at=reset_at)
        assert (of(limit, measured(600)) is not None) == tells


def test_a_rolling_report_tells_for_as_long_as_the_window() -> None:
    limit = Limit("5h", utilization=0.5, unit="share", window=5 * HOUR)
    those = measured(500, period=FIVE_HOURS)
    assert of(limit, those, at=NOW - 5 * HOUR) is not None
    assert of(limit, those, at=NOW - 5 * HOUR - 1) is None


@pytest.mark.parametrize(
    "limit",
    [
        Limit("tokens", 1000, unit="tokens", window=DAY),
        Limit("tokens", remaining=400, unit="tokens", window=DAY),
        Limit("tokens", 0, 0, unit="tokens", window=DAY),
        Limit("credits", 1000, 400, unit="tokens"),
    ],
    ids=["nothing left is told", "no whole is told", "a whole of nothing", "no window"],
)
def test_a_limit_that_does_not_say_what_is_used_tells_nothing(limit: Limit) -> None:
    assert of(limit, measured(600)) is None


@given(
    st.floats(0, 1e12),
    st.floats(0, 1e9) | st.none(),
    st.floats(-10, 1e9) | st.none(),
    st.floats(0, 100) | st.none(),
)
def test_it_is_a_share_whatever_is_reported(
    used: float, whole: float | None, left: float | None, share: float | None
) -> None:
    limit = Limit("tokens", whole, left, share, unit="tokens", window=DAY)
    found = of(limit, measured(used))
    assert found is None or -1 <= found <= 1
