"""Windows that a provider reports, carried on by what is counted, and foreseen."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.budget import DEFAULT_PREDICTION, Quota
from exporter.core.forecast import BIN_SECONDS
from exporter.core.ledger import Ledger
from exporter.core.measure import BudgetMeter
from exporter.core.measurement import Measurement
from exporter.core.reported_windows import (
    NEARLY,
    WEIGHTS,
    ended_with,
    estimate,
    profile_of,
    quota_of,
    share_per_unit,
)
from exporter.core.reports import Report, first_report
from exporter.core.scope import Scope
from exporter.core.series import Series
from exporter.core.signal import Limit
from exporter.core.slots import FINE_SECONDS
from exporter.core.windows import DAY, HOUR, Reported, Window

WEEK = 7 * DAY
BEGAN = 1_789_999_800.0  # a multiple of five minutes
ENDS = BEGAN + WEEK


def week(used: float, ends: float = ENDS, model: str = "") -> Limit:
    return Limit("7d", utilization=used, reset_at=ends, unit="share", window=WEEK, model=model)


def heard(*said: tuple[float, float]) -> Report:
    """Reports of a week, the first of several: how long after it began, and the share."""
    (after, used), *rest = said
    report = first_report(week(used), BEGAN + after)
    for after, used in rest:
        ends = ENDS + after // WEEK * WEEK
        report = report.followed_by(week(used, ends), BEGAN + after)
    return report


def evenly(per_second: float, since: float = BEGAN) -> "Counts":
    return Counts(per_second, since)


class Counts:
    """What is counted when use is even."""

    def __init__(self, per_second: float, since: float) -> None:
        self.per_second = per_second
        self.since = since

    def __call__(self, begin: float, end: float) -> float:
        return self.per_second * max(0.0, end - max(begin, self.since))


class TestWhatOneUnitCosts:
    def test_is_what_the_share_rose_by_over_what_was_counted(self) -> None:
        report = heard((DAY, 0.2), (2 * DAY, 0.4))
        assert share_per_unit(report, evenly(1.0), BEGAN) == pytest.approx(0.4 / (2 * DAY))

    def test_is_learnt_from_the_first_report_on_by_who_did_not_count_before(self) -> None:
        report = heard((DAY, 0.2), (2 * DAY, 0.3))
        since = BEGAN + DAY
        assert share_per_unit(report, evenly(1.0, since), since) == pytest.approx(0.1 / DAY)

    @pytest.mark.parametrize(
        ("report", "per_second", "since"),
        [
            (heard((DAY, 0.2)), 1.0, None),
            (heard((DAY, 0.2)), 1.0, BEGAN + DAY),
            (heard((DAY, 0.2), (2 * DAY, 0.21)), 1.0, BEGAN + DAY),
            (heard((DAY, 0.2), (2 * DAY, 0.4)), 0.0, BEGAN),
        ],
        ids=["nothing counted ever", "one report", "too small a rise", "idle"],
    )
    def test_is_not_learnt_from_nothing(
        self, report: Report, per_second: float, since: float | None
    ) -> None:
        assert share_per_unit(report, evenly(per_second), since) is None

    def test_is_known_at_once_in_the_next_window(self) -> None:
        report = heard((DAY, 0.2), (2 * DAY, 0.4), (WEEK + 60, 0.0))
        assert share_per_unit(report, evenly(1.0), BEGAN) == pytest.approx(
            0.4 / (2 * DAY), rel=0.01
        )

    def test_of_another_plan_is_soon_that_of_the_new_one(self) -> None:
        report = heard((DAY, 0.2), (2 * DAY, 0.4), (WEEK + DAY, 0.04), (WEEK + 6 * DAY, 0.24))
        new, old = 0.04 / DAY, 0.2 / DAY
        per_unit = share_per_unit(report, evenly(1.0), BEGAN)
        assert per_unit is not None
        assert new < per_unit < new + (old - new) / 10

    def test_of_a_limit_in_numbers_is_what_it_says(self) -> None:
        limit = Limit("requests", 1000, 900, reset_at=ENDS, unit="requests", window=DAY)
        assert share_per_unit(first_report(limit, BEGAN), evenly(0.0), None) == pytest.approx(1e-3)


class TestBetweenReports:
    def test_what_is_counted_carries_the_share_on(self) -> None:
        found = estimate(heard((DAY, 0.2)), 0.1 / DAY, evenly(1.0), BEGAN + 3 * DAY)
        assert found.used == pytest.approx(0.4)
        assert found.window == Window(BEGAN, ENDS)
        assert found.whole == pytest.approx(10 * DAY)

    def test_what_is_counted_does_not_spend_it(self) -> None:
        found = estimate(heard((DAY, 0.9)), 0.1 / DAY, evenly(1.0), BEGAN + 6 * DAY)
        assert found.used == NEARLY

    @pytest.mark.parametrize("said", [1.0, 1.07])
    def test_the_provider_spends_it(self, said: float) -> None:
        found = estimate(heard((DAY, said)), 0.1 / DAY, evenly(1.0), BEGAN + 6 * DAY)
        assert found.used == said

    def test_a_reset_that_passes_is_believed(self) -> None:
        found = estimate(heard((6 * DAY, 1.0)), 0.1 / DAY, evenly(1.0), ENDS + DAY)
        assert found.used == pytest.approx(0.1)
        assert found.window == Window(ENDS, ENDS + WEEK)

    def test_what_refills_all_the_time_is_whole_again_by_itself(self) -> None:
        limit = Limit(
            "requests", 1000, 500, reset_at=BEGAN + DAY / 2, unit="requests", window=DAY,
            refills=True,
        )  # fmt: skip
        found = estimate(first_report(limit, BEGAN), 1e-3, evenly(0.0), BEGAN + DAY / 4)
        assert found.used == pytest.approx(0.25)


class TestHowAWindowEnded:
    said = heard((DAY, 0.2), (6 * DAY, 0.6), (WEEK + DAY, 0.1))

    def test_is_what_was_reported_last_carried_on_to_its_end(self) -> None:
        assert ended_with(self.said, None, evenly(1.0), BEGAN) == 0.6
        assert ended_with(self.said, 0.1 / DAY, evenly(1.0), BEGAN) == pytest.approx(0.7)
        assert ended_with(self.said, 0.1 / DAY, evenly(1.0), BEGAN + 60) == pytest.approx(0.7)

    def test_is_unknown_when_what_was_counted_since_may_have_spent_it(self) -> None:
        assert ended_with(self.said, 0.5 / DAY, evenly(1.0), BEGAN) is None

    def test_is_spent_when_that_was_reported_once(self) -> None:
        report = heard((DAY, 1.0), (6 * DAY, 0.3), (WEEK + DAY, 0.1))
        assert ended_with(report, 0.1 / DAY, evenly(0.0), BEGAN) == 1.0

    def test_is_unknown_of_a_window_in_which_nothing_was_reported(self) -> None:
        assert ended_with(self.said, None, evenly(1.0), BEGAN - WEEK) is None


@given(
    st.lists(st.tuples(st.floats(0, WEEK - 1), st.floats(0, 1.2)), min_size=1, max_size=6),
    st.floats(0, 10),
    st.floats(0, 2 * WEEK - 1),
    st.floats(0, HOUR),
)
def test_time_only_adds_to_a_share_until_its_reset(
    said: list[tuple[float, float]], per_second: float, after: float, later: float
) -> None:
    report = heard(*sorted(said))
    counted = evenly(per_second)
    per_unit = share_per_unit(report, counted, BEGAN)
    now = max(report.at, BEGAN + after)
    before, then = (estimate(report, per_unit, counted, at) for at in (now, now + later))
    assert before.used >= 0
    assert before.used <= then.used + 1e-9 or then.window.start > now


# -- measured --


def quota(limit: Limit) -> Quota:
    found = quota_of("claude", limit, DEFAULT_PREDICTION)
    assert found is not None
    return found


class Account:
    """A subscription, and how it is used."""

    def __init__(self, *limits: Limit) -> None:
        self.quotas = {limit.key: quota(limit) for limit in limits}
        budgets = {"claude": tuple(one.budget for one in self.quotas.values())}
        self.ledger = Ledger(budgets, 35 * DAY, BEGAN)
        self.meter = BudgetMeter(self.ledger)
        self.reports: dict[Quota, Report] = {}

    def use(self, tokens: int, at: float, model: str = "claude-opus-5") -> None:
        self.ledger.advance(at)
        cell = (Series("claude", model), int(at // FINE_SECONDS))
        self.ledger.add({cell: [0, 0, 0, 0, 0, tokens, 1, 0]})

    def say(self, limit: Limit, at: float) -> None:
        held = self.reports.get(self.quotas[limit.key])
        self.reports[self.quotas[limit.key]] = (
            held.followed_by(limit, at) if held else first_report(limit, at)
        )

    def measure(self, now: float) -> Sequence[Measurement]:
        self.ledger.advance(now)
        self.meter.reported(self.reports)
        return self.meter.measure(now)


def worked(account: Account, per_hour: int, costs: float, days: float) -> float:
    """Use an account evenly, and let it report once an hour; the share that is then used."""
    used = 0.0
    for hour in range(int(days * 24)):
        at = BEGAN + hour * HOUR
        account.use(per_hour, at + 60)
        used += per_hour * costs
        account.say(week(round(used, 2)), at + HOUR)
    return used


def test_a_share_is_measured_like_a_budget_of_one() -> None:
    account = Account(week(0))
    used = worked(account, 10_000, 0.5 / 7 / 24 / 10_000, 3)
    (one,) = account.measure(BEGAN + 3 * DAY)
    assert one.quota == quota(week(0))
    assert one.budget.period == Reported("7d", WEEK)
    assert (one.window, one.budget.amount) == (Window(BEGAN, ENDS), 1)
    assert one.used == pytest.approx(used, abs=0.01)
    assert one.median == pytest.approx(0.5, abs=0.15)
    assert one.lower <= one.median <= one.upper
    assert one.burn["6h"] == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(("pace", "least", "most"), [(0.4, 0.0, 0.1), (2.5, 0.9, 1.0)])
def test_who_goes_on_like_that_hits_the_wall_or_does_not(
    pace: float, least: float, most: float
) -> None:
    account = Account(week(0))
    worked(account, 10_000, pace / 7 / 24 / 10_000, 2)
    (one,) = account.measure(BEGAN + 2 * DAY)
    assert least <= one.probability <= most
    assert (one.exhaustion_at is None) == (one.probability <= 0.5)
    if one.exhaustion_at is not None:
        assert one.exhaustion_at == pytest.approx(BEGAN + WEEK / pace, abs=DAY)


@pytest.mark.parametrize(("pace", "least", "most"), [(0.4, 0.0, 0.15), (2.5, 0.8, 1.0)])
def test_where_nothing_is_counted_the_reports_tell(pace: float, least: float, most: float) -> None:
    account = Account(week(0))
    for hour in range(1, 49):
        account.say(week(round(pace * hour / 7 / 24, 2)), BEGAN + hour * HOUR)
    (one,) = account.measure(BEGAN + 2 * DAY)
    assert least <= one.probability <= most
    assert one.used == pytest.approx(pace * 2 / 7, abs=0.01)
    assert one.burn == {}


def test_reports_alone_tell_nights_from_days() -> None:
    account = Account(week(0))
    used = 0.0
    for hour in range(14 * 24):
        number = hour // (7 * 24)
        used = 0.0 if hour % (7 * 24) == 0 else used
        used += 0.06 / 8 if 9 <= hour % 24 < 17 else 0.0
        account.say(week(round(used, 2), ENDS + number * WEEK), BEGAN + (hour + 1) * HOUR)
    evening, morning = BEGAN + 14 * DAY - 6 * HOUR, BEGAN + 14 * DAY + 8 * HOUR
    profile = profile_of(list(account.reports.values()), morning)
    edges = profile.start + BIN_SECONDS * np.arange(profile.cumulative.shape[1])
    used_by = np.interp([evening - DAY, evening - 12 * HOUR, evening], edges, profile.cumulative[0])
    night, day = np.diff(used_by)
    assert night < 0.2 * day


def test_tokens_of_a_family_of_models_alone_fill_its_window() -> None:
    opus = Limit("7d_opus", utilization=0.0, reset_at=ENDS, unit="share", window=WEEK,
                 model="*opus*")  # fmt: skip
    account = Account(week(0), opus)
    for hour in range(24):
        at = BEGAN + hour * HOUR
        account.use(1000, at + 60, "claude-opus-5")
        account.use(3000, at + 60, "claude-haiku-5")
    account.say(week(0.24), BEGAN + DAY)
    account.say(msgspec.structs.replace(opus, utilization=0.48), BEGAN + DAY)
    account.use(1000, BEGAN + DAY + 60, "claude-haiku-5")
    account.use(1000, BEGAN + DAY + 60, "claude-opus-5")
    whole, family = account.measure(BEGAN + DAY + HOUR)
    assert family.scope == Scope("claude", "*opus*")
    assert whole.used == pytest.approx(0.24 * (1 + 2000 / 96_000))
    assert family.used == pytest.approx(0.48 * (1 + 1000 / 24_000))


def test_what_nobody_reports_any_more_is_not_measured() -> None:
    account = Account(week(0))
    account.say(week(0.5), BEGAN + DAY)
    assert len(account.measure(BEGAN + DAY + WEEK - 1)) == 1
    assert account.measure(BEGAN + DAY + WEEK) == []


def test_what_is_forgotten_while_it_is_measured_is_measured_to_the_end() -> None:
    account = Account(week(0))
    account.say(week(0.5), BEGAN + DAY)
    account.meter.reported(account.reports)
    account.reports.clear()
    assert len(account.meter.measure(BEGAN + DAY)) == 1


def test_a_kind_of_token_weighs_what_it_costs() -> None:
    account = Account(week(0))
    cell = (Series("claude"), int(BEGAN // FINE_SECONDS))
    account.ledger.add({cell: [100, 1000, 100, 100, 0, 0, 1, 0]})
    counted = account.ledger.counted(0, BEGAN, BEGAN + DAY)
    assert counted == pytest.approx(100 + 100 + 125 + 500)
    assert len(WEIGHTS) == 6
