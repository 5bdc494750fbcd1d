"""What the forecasts of a provider rest on, over HTTP; and what they learn of outages."""

import pytest

from tests.web.test_routes import DAY, HOUR, NOON, House, lived

WEEKS = "budgets: {openai: [{tokens: 1000}, {usd: 5, period: 5h}]}\nretention: 35d\n"


async def used_every_hour(house: House, days: int) -> None:
    """10 tokens and a cent an hour, day and night."""
    hours = range(days * 24)
    events = [
        {"provider": "openai", "tokens": 10, "cost_usd": 0.01, "timestamp": NOON - hour * HOUR - 60}
        for hour in hours
    ]
    assert (await house.push(*events)).json()["accepted"] == len(events)


def test_the_usual_course_of_every_budget_is_shown_beside_todays() -> None:
    async def story(house: House) -> None:
        await used_every_hour(house, 20)
        shown = (await house.http.get("/v1/providers/openai/explain")).json()
        assert shown["provider"] == "openai"
        day, cost = shown["quotas"]
        assert (day["period"], day["budget"], day["used"]) == ("day", 1000, 120)
        assert (day["learning"], day["record"]) == (False, None)
        assert day["history_days"] == pytest.approx(20, abs=0.1)
        assert day["windows"] >= 10
        course = day["course"]
        assert course["timestamps"][0] == NOON - 12 * HOUR
        assert course["timestamps"][-1] == NOON + 12 * HOUR
        assert len(course["timestamps"]) == len(course["usual"]) == 49
        assert course["used"] == pytest.approx(course["usual"][:25], abs=10)
        assert course["usual"][-1] == pytest.approx(240, abs=10)
        assert (cost["unit"], cost["budget"]) == ("usd", 5)
        assert cost["course"]["usual"][-1] == pytest.approx(0.05, abs=0.011)

    lived(story, WEEKS)


def test_who_has_no_budget_or_is_not_known_has_nothing_to_explain() -> None:
    async def story(house: House) -> None:
        answer = await house.http.get("/v1/providers/nobody/explain")
        assert answer.json() == {"provider": "nobody", "quotas": []}
        slashed = await house.http.get("/v1/providers/a%2Fexplain")
        assert slashed.json()["provider"] == "a/explain"
        assert (await house.http.put("/v1/providers/openai/explain")).status_code == 405

    lived(story)


def test_the_record_of_a_budget_tells_what_was_said_and_what_came() -> None:
    async def story(house: House) -> None:
        await used_every_hour(house, 3)
        for half_hour in range(49):
            house.clock.now = NOON + half_hour * HOUR / 2
            await house.service.tick(house.clock.now)
        shown = (await house.http.get("/v1/providers/openai/explain")).json()
        record = shown["quotas"][0]["record"]
        assert record["windows"] == 1
        assert record["share_exhausted"] == 0
        assert 0 <= record["brier"] < 0.05
        assert 0 <= record["mean_probability"] < 0.2

    lived(story)


@pytest.mark.parametrize("obeys", [True, False])
def test_demand_that_was_turned_away_is_still_expected(obeys: bool) -> None:
    """A budget of half the demand: who obeys uses nothing after noon, on any day."""

    async def story(house: House) -> None:
        begin = NOON - 12 * HOUR - 6 * DAY
        for step in range(6 * 48):
            now = house.clock.now = begin + step * HOUR / 2
            out = (await house.provider("openai"))["state"] != "available"
            if not out or not obeys:
                await house.push({"provider": "openai", "tokens": 50, "timestamp": now})
        house.clock.now = NOON - 4 * HOUR
        await house.push({"provider": "openai", "tokens": 800, "timestamp": house.clock.now - 1})
        (day,) = (await house.http.get("/v1/providers/openai/explain")).json()["quotas"]
        assert day["exhaustion_probability"] > 0.9
        assert day["course"]["usual"][-1] == pytest.approx(2400, rel=0.1)

    lived(story, "budgets: {openai: {tokens: 1200}}\n")
