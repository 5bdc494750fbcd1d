"""Shapes that a person would judge at a glance are judged alike."""

import pytest

from tests.core.forecast_shapes import SHAPES, Shape


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_probability_is_one_that_a_person_would_accept(shape: Shape) -> None:
    assert shape.low <= shape.said().probability[0] <= shape.high


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_the_band_is_not_many_budgets_wide(shape: Shape) -> None:
    said = shape.said()
    assert said.upper[0] < 2.5 * max(shape.budget, said.median[0])
