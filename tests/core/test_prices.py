"""What tokens cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.budget import NANO
from exporter.core.prices import Prices, price
from exporter.core.usage import Tokens

MILLION = 10**6

GPT = price({"input": 2 * NANO, "output": 10 * NANO})
CLAUDE = price(
    {
        "input": 5 * NANO,
        "cache_read": NANO // 2,
        "cache_write": 6_250_000_000,
        "cache_write_1h": 10 * NANO,
        "output": 25 * NANO,
    }
)


@pytest.mark.parametrize(
    ("tokens", "for_an_hour", "dollars"),
    [
        (Tokens(input=MILLION), 0, 5),
        (Tokens(cache_read=MILLION), 0, 0.5),
        (Tokens(cache_write=MILLION), 0, 6.25),
        (Tokens(cache_write=MILLION), MILLION, 10),
        (Tokens(cache_write=2 * MILLION), MILLION, 16.25),
        (Tokens(output=MILLION, reasoning=MILLION), 0, 50),
        (Tokens(), 0, 0),
    ],
)
def test_each_kind_has_its_price_and_a_cache_of_an_hour_another(
    tokens: Tokens, for_an_hour: int, dollars: float
) -> None:
    prices = Prices({"claude-opus-5": CLAUDE})
    assert prices.cost("anthropic", "claude-opus-5", tokens, for_an_hour) == dollars * NANO


def test_what_has_no_price_of_its_own_costs_what_it_stands_for() -> None:
    prices = Prices({"*": GPT})
    kinds = ("input", "cache_read", "cache_write", "output", "reasoning")
    costs = [prices.cost("p", "m", Tokens(**{kind: MILLION})) for kind in kinds]
    assert costs == [2 * NANO, 2 * NANO, 2 * NANO, 10 * NANO, 10 * NANO]
    assert prices.cost("p", "m", Tokens(cache_write=MILLION), MILLION) == 2 * NANO


def test_of_tokens_whose_kind_nobody_told_there_is_no_price_unless_it_is_named() -> None:
    assert Prices({"*": GPT}).cost("p", "m", Tokens(unspecified=1)) is None
    named = price({"unspecified": 3 * NANO})
    assert Prices({"*": named}).cost("p", "m", Tokens(unspecified=MILLION)) == 3 * NANO
    assert Prices({"*": named}).cost("p", "m", Tokens(input=1, unspecified=1)) is None


def test_a_name_wins_over_patterns_and_of_those_the_first() -> None:
    one, two, three = (price({"input": each * NANO}) for each in (1, 2, 3))
    prices = Prices({"gpt-*": one, "gpt-5*": two, "gpt-5": three}, {"gpt-4": three, "o3": two})
    found = [
        prices.cost("p", model, Tokens(input=MILLION)) for model in ("gpt-5", "gpt-5-mini", "gpt-4")
    ]
    assert found == [3 * NANO, NANO, NANO]
    assert prices.cost("p", "o3", Tokens(input=MILLION)) == 2 * NANO
    assert prices.cost("p", "o4", Tokens(input=MILLION)) is None


def test_a_listed_price_of_the_provider_wins_over_that_of_any() -> None:
    one, two = (price({"input": each * NANO}) for each in (1, 2))
    prices = Prices({}, {"gpt-5": one, "azure/gpt-5": two})
    assert prices.cost("azure", "gpt-5", Tokens(input=MILLION)) == 2 * NANO
    assert prices.cost("openai", "gpt-5", Tokens(input=MILLION)) == NANO


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**15))
def test_a_cost_is_whole_and_the_nearest(into: int, out: int, each: int) -> None:
    prices = Prices({"*": price({"input": each, "output": 3})})
    cost = prices.cost("p", "m", Tokens(input=into, output=out))
    assert isinstance(cost, int)
    assert abs(cost * MILLION - (into * each + out * 3)) <= MILLION // 2
