"""Budgets in every unit and scope, and prices, as they are read."""

import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from exporter.config import PredictionSettings, load, parse
from exporter.core.budget import NANO, PLAIN, Budget, BudgetUnit, Method, Per
from exporter.core.usage import Tokens
from exporter.core.windows import DAY, Calendar, Rolling, Unit

MILLION = 10**6
PACIFIC = Calendar(Unit.DAY, ZoneInfo("America/Los_Angeles"))
UTC_DAY = Calendar(Unit.DAY, ZoneInfo("UTC"))
MONTH = Calendar(Unit.MONTH, ZoneInfo("UTC"))


def read(budget: str) -> Budget:
    """The only budget of a provider."""
    (found,) = parse(f"budgets: {{a: {budget}}}", "quota.yml").budgets["a"]
    return found


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("{requests: 250, model: gemini-3-pro*, timezone: America/Los_Angeles}",
         Budget(250, PACIFIC, unit=BudgetUnit.REQUESTS, model="gemini-3-pro*")),
        ("{usd: 500, period: month}", Budget(500 * NANO, MONTH, unit=BudgetUnit.USD)),
        ("{usd: 0.000001}", Budget(1000, UTC_DAY, unit=BudgetUnit.USD)),
        ("{tokens: 9, per: model}", Budget(9, UTC_DAY, per=frozenset([Per.MODEL]))),
        ("{tokens: 9, model: [o3, gpt-5*]}", Budget(9, UTC_DAY, model="gpt-5*|o3")),
        ("{requests: 9, period: 1d, consumer: batch-*}",
         Budget(9, Rolling(DAY), unit=BudgetUnit.REQUESTS, consumer="batch-*")),
        ("{usd: 20, per: consumer, model: gpt-5*}",
         Budget(20 * NANO, UTC_DAY, unit=BudgetUnit.USD, model="gpt-5*",
                per=frozenset([Per.CONSUMER]))),
        ("{tokens: 9, providers: [azure-eu, azure-us]}",
         Budget(9, UTC_DAY, pool=("azure-eu", "azure-us"))),
        ("{tokens: 9, reserve: 10%}", Budget(9, UTC_DAY, reserve=0.1)),
        ("{tokens: 9, labels: {team: ml}}", Budget(9, UTC_DAY, labels={"team": "ml"})),
        ("{tokens: 9, weights: {output: 5}}",
         Budget(9, UTC_DAY, weights=(*PLAIN[:3], 5.0, *PLAIN[4:]))),
    ],
)  # fmt: skip
def test_a_budget_is_what_the_provider_defines(text: str, budget: Budget) -> None:
    assert read(text) == budget


def test_a_budget_may_have_a_prediction_of_its_own() -> None:
    text = (
        "budgets: {a: [5, {tokens: 6, period: week, prediction: {exhausted_at: off}}]}\n"
        "prediction: {method: linear, from_used: 0.9}\n"
    )
    day, week = parse(text, "quota.yml").budgets["a"]
    assert day.prediction == PredictionSettings(Method.LINEAR, 0.95, 0.9)
    assert week.prediction == PredictionSettings(Method.LINEAR, None, 0.9)


def test_of_what_can_be_spent_a_reserve_is_left() -> None:
    assert read("{tokens: 20_000_000, reserve: 10%}").spent_at == 18_000_000
    assert read("{usd: 5, reserve: 50%}").spent_at == 2.5 * NANO


def test_prices_are_dollars_per_million() -> None:
    text = 'prices: {"gpt-5*": {input: 1.25, cache_read: 0.125, output: 10}}'
    prices = parse(text, "quota.yml").prices
    tokens = Tokens(input=MILLION, cache_read=MILLION, output=MILLION)
    assert prices.cost("openai", "gpt-5-mini", tokens) == 11_375_000_000


LISTED = {
    "sample_spec": {"input_cost_per_token": "see the documentation", "mode": "chat"},
    "gpt-5": {
        "litellm_provider": "openai",
        "input_cost_per_token": 1.25e-06,
        "output_cost_per_token": 1e-05,
        "cache_read_input_token_cost": 1.25e-07,
    },
    "gemini/gemini-3-pro": {
        "litellm_provider": "gemini",
        "input_cost_per_token": 2e-06,
        "output_cost_per_token": "1.2e-05",
    },
    "claude-opus-5": {
        "litellm_provider": "anthropic",
        "input_cost_per_token": 5e-06,
        "cache_creation_input_token_cost": 6.25e-06,
        "cache_creation_input_token_cost_above_1hr": 1e-05,
        "output_cost_per_token": 2.5e-05,
        "output_cost_per_reasoning_token": 3e-05,
    },
    "whisper": {"litellm_provider": "openai", "output_cost_per_second": 0.0001},
    "odd": {"litellm_provider": 7, "input_cost_per_token": {"batch": 1}},
}


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "dollars"),
    [
        ("openai", "gpt-5", Tokens(input=MILLION, cache_read=MILLION, output=MILLION), 11.375),
        ("gemini", "gemini-3-pro", Tokens(input=MILLION, output=MILLION), 14),
        ("vertex", "gemini-3-pro", Tokens(input=MILLION), 2),
        ("anthropic", "claude-opus-5", Tokens(cache_write=MILLION, reasoning=MILLION), 36.25),
        ("openai", "whisper", Tokens(output=MILLION), None),
        ("openai", "odd", Tokens(input=MILLION), None),
        ("openai", "sample_spec", Tokens(input=MILLION), None),
        ("openai", "o3", Tokens(output=MILLION), 8),
    ],
)
def test_a_price_file_of_litellm_is_read(
    tmp_path: Path, provider: str, model: str, tokens: Tokens, dollars: float | None
) -> None:
    (tmp_path / "prices.json").write_text(json.dumps(LISTED))
    path = tmp_path / "quota.yml"
    path.write_text(
        f"prices_file: {tmp_path}/prices.json\nprices: {{o3: {{input: 2, output: 8}}}}\n"
    )
    cost = load(path).prices.cost(provider, model, tokens)
    assert cost == (None if dollars is None else dollars * NANO)


def test_an_hour_in_the_cache_is_priced_apart_by_the_file(tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text(json.dumps(LISTED))
    path = tmp_path / "quota.yml"
    path.write_text(f"prices_file: {tmp_path}/prices.json\n")
    tokens = Tokens(cache_write=2 * MILLION)
    cost = load(path).prices.cost("anthropic", "claude-opus-5", tokens, MILLION)
    assert cost == 16_250_000_000
