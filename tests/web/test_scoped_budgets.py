"""What budgets with a reserve, a scope or a prediction of their own take out."""

import asyncio
from typing import Any

import pytest

from exporter.config import parse
from tests.web.test_routes import DAY, HOUR, NOON, house

CONFIG = """budgets:
  openai:
    - {tokens: 1000, reserve: 10%}
    - {requests: 3, per: consumer}
    - {tokens: 100, model: gpt-5*, consumer: batch-*}
"""


@pytest.mark.parametrize(
    ("events", "out", "left"),
    [
        ([{"tokens": 899}], [], [{}]),
        ([{"tokens": 899}, {"tokens": 1}], [{}, {"model": "o3"}], []),
        (
            [{"tokens": 1, "consumer": "web", "requests": 3}],
            [{"consumer": "web"}, {"consumer": "web", "model": "o3"}],
            [{}, {"consumer": "batch-1"}],
        ),
        (
            [
                {"tokens": 60, "consumer": "batch-1", "model": "gpt-5"},
                {"tokens": 40, "consumer": "batch-2", "model": "gpt-5-mini"},
            ],
            [{"consumer": "batch-3", "model": "gpt-5"}],
            [
                {"consumer": "batch-1", "model": "o3"},
                {"consumer": "web", "model": "gpt-5"},
                {"model": "gpt-5"},
            ],
        ),
    ],
    ids=["nearly", "the reserve is left", "a consumer", "some consumers of some models"],
)
def test_a_spent_budget_takes_out_whom_it_is_for(
    events: list[dict[str, Any]], out: list[dict[str, str]], left: list[dict[str, str]]
) -> None:
    async def story() -> None:
        async with house(CONFIG) as built:
            for event in events:
                answer = await built.push({"provider": "openai", **event})
                assert answer.json()["accepted"] == 1, answer.text
            await built.service.refresh(NOON)
            for asked, expected in [(one, "quota_exhausted") for one in out] + [
                (one, "available") for one in left
            ]:
                named = {"provider": "openai", **asked}
                found = (await built.http.get("/v1/availability", params=named)).json()
                assert found["state"] == expected, asked

    asyncio.run(story())


def test_a_prediction_takes_out_by_the_settings_of_its_own_budget() -> None:
    config = """budgets:
  careful: {tokens: 100, prediction: {method: linear, exhausted_at: 0.9, from_used: 0.5}}
  patient: {tokens: 100, prediction: {method: linear, exhausted_at: off}}
"""

    async def story() -> None:
        async with house(config) as built:
            await built.push(*({"provider": name, "tokens": 60} for name in ("careful", "patient")))
            await built.service.refresh(NOON)
            careful = await built.provider("careful")
            patient = await built.provider("patient")
            assert (careful["state"], careful["reason"]) == ("quota_exhausted", "predicted")
            assert patient["state"] == "available"
            assert patient["periods"]["day"]["exhaustion_probability"] == 1

    asyncio.run(story())


def test_a_budget_that_is_added_knows_at_once_what_was_used_before() -> None:
    later = """budgets:
  openai:
    - {tokens: 1000}
    - {requests: 100, period: 35d, per: model}
    - {usd: 5, period: 7d, consumer: batch-*}
"""

    async def story() -> None:
        async with house("budgets: {openai: 1000}\n") as built:
            for day in range(34):
                event = {"provider": "openai", "tokens": 1, "timestamp": NOON - day * DAY - HOUR}
                await built.push(
                    {**event, "model": "gpt-5", "consumer": "batch-1", "cost_usd": 0.5},
                    {**event, "model": "o3", "consumer": "web", "requests": 2},
                )
            await built.service.reload(parse(later, "quota.yml"), NOON)
            await built.service.refresh(NOON)
            used = {
                (labels.get("model"), labels.get("consumer"), labels["unit"]): value
                for (name, found), value in (await built.metrics()).items()
                if name == "llm_quota_used_ratio"
                for labels in [dict(found)]
            }
            assert used == {
                (None, None, "tokens"): pytest.approx(0.002),
                ("gpt-5", None, "requests"): pytest.approx(0.34),
                ("o3", None, "requests"): pytest.approx(0.68),
                (None, "batch-*", "usd"): pytest.approx(0.7),
            }

    asyncio.run(story())
