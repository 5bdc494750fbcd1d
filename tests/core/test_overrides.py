"""What operators set for a while, applied to budgets."""

from dataclasses import replace

import pytest

from exporter.config import parse
from exporter.core.budget import AmountOverride, Budget
from exporter.core.overrides import Amount, BudgetKey, Silence, applied, key_of
from exporter.core.scope import Scope

CONFIG = """
budgets:
  openai: 1000
  gemini:
    - {requests: 250, model: gemini-3-pro*}
    - {requests: 1000, per: model}
    - {tokens: 5000, model: [gemini-3-pro*, gemini-3-flash]}
    - {usd: 5, period: month, consumer: batch-*}
"""
BUDGETS = parse(CONFIG, "quota.yml").budgets


def test_without_a_word_the_budgets_are_the_very_same() -> None:
    assert applied(BUDGETS, {}, {}) is BUDGETS


def test_an_amount_holds_for_its_budget_alone() -> None:
    key = BudgetKey("gemini", "day", "requests", per="model")
    changed = applied(BUDGETS, {key: Amount(3000, 7.0, "launch")}, {})
    wanted = replace(
        BUDGETS["gemini"][1], amount=3000, override=AmountOverride(1000, 7.0, "launch")
    )
    assert changed["gemini"] == (BUDGETS["gemini"][0], wanted, *BUDGETS["gemini"][2:])
    assert changed["openai"] == BUDGETS["openai"]


def test_an_amount_for_a_budget_that_is_gone_changes_nothing() -> None:
    assert applied(BUDGETS, {BudgetKey("openai", "week", "tokens"): Amount(5, 7.0)}, {}) == BUDGETS


def silenced(scope: Scope) -> list[float | None]:
    changed = applied(BUDGETS, {}, {scope: Silence(9.0)})
    assert changed == BUDGETS  # to count, they are the same
    for budget in changed[scope.provider]:
        assert (budget.predicted_out_at is None) == (budget.silenced_until is not None)
    return [budget.silenced_until for budget in changed[scope.provider]]


@pytest.mark.parametrize(
    ("scope", "which"),
    [
        (Scope("gemini"), [1, 1, 1, 1]),
        (Scope("gemini", "gemini-3-pro*"), [1, 0, 0, 0]),
        (Scope("gemini", "gemini-3-*"), [1, 0, 1, 0]),
        (Scope("gemini", "gemini-3-pro"), [0, 0, 0, 0]),
        (Scope("gemini", "", "batch-*"), [0, 0, 0, 1]),
        (Scope("gemini", "gemini-*", "batch-*"), [0, 0, 0, 0]),
    ],
)
def test_a_silence_is_about_the_budgets_of_its_scope(scope: Scope, which: list[int]) -> None:
    assert silenced(scope) == [9.0 if one else None for one in which]


def test_the_longest_of_several_silences_counts() -> None:
    said = {Scope("openai"): Silence(5.0), Scope("openai", "", ""): Silence(9.0)}
    said[Scope("gemini", "gemini*")] = Silence(3.0)
    assert applied(BUDGETS, {}, said)["openai"][0].silenced_until == 9.0


def of(provider: str, **given: str) -> BudgetKey:
    return key_of(provider, BUDGETS[provider], given)[0]


def test_the_only_budget_needs_no_name() -> None:
    assert of("openai") == BudgetKey("openai", "day", "tokens")


def test_of_several_the_whole_providers_needs_no_name() -> None:
    budgets = parse(
        """
budgets:
  openai:
    - {tokens: 2_000_000}
    - {tokens: 400_000, consumer: nightly-*}
    - {tokens: 1_000, per: consumer}
    - {tokens: 9_000, model: gpt-5*, consumer: nightly-*}
    - {usd: 20, period: month}
""",
        "quota.yml",
    ).budgets["openai"]

    def named(**given: str) -> BudgetKey:
        return key_of("openai", budgets, given)[0]

    assert named(period="day") == BudgetKey("openai", "day", "tokens")
    assert named(consumer="nightly-*") == BudgetKey("openai", "day", "tokens", "", "nightly-*")
    assert named(model="gpt-5*") == BudgetKey("openai", "day", "tokens", "gpt-5*", "nightly-*")
    assert named(per="consumer") == BudgetKey("openai", "day", "tokens", "", "", "consumer")
    with pytest.raises(ValueError, match=r"^period: expected one of day, month, got none$"):
        named()


def test_of_several_budgets_one_is_told_by_what_is_different() -> None:
    assert of("gemini", period="month").consumer == "batch-*"
    assert of("gemini", unit="requests", per="model") == BudgetKey(
        "gemini", "day", "requests", per="model"
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "period: expected one of day, month, got none"),
        ({"period": "day"}, "unit: expected one of requests, tokens, got none"),
        (
            {"unit": "requests"},
            "model: expected one of gemini-3-pro*, got none",
        ),
        (
            {"period": "week"},
            "budget: expected one that gemini has (day requests gemini-3-pro*; day requests model; "
            "day tokens gemini-3-flash|gemini-3-pro*; month usd batch-*), got week",
        ),
    ],
)
def test_a_budget_that_cannot_be_told_is_asked_for(given: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        of("gemini", **given)
    assert str(error.value) == told


def test_every_budget_has_a_key_of_its_own() -> None:
    budgets: list[Budget] = list(BUDGETS["gemini"])
    assert len({BudgetKey.of("gemini", one) for one in budgets}) == len(budgets)
