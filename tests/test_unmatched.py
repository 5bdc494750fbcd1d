"""Budgets that match nothing."""

import logging

import pytest

from exporter.config import Limits, parse
from exporter.core.series import Series
from exporter.names import Names
from exporter.unmatched import UnmatchedBudgets

NOW = 1_790_000_000.0
DAY = 86_400.0

CONFIG = """\
budgets:
  openai:
    - 1000
    - {tokens: 1000, period: week, model: gpt-5*}
    - {tokens: 1000, period: week, model: gtp-5*}
    - {requests: 5, period: week, consumer: batch-*}
    - {requests: 5, period: week, per: model}
  pool: {tokens: 1000, model: gpt-*, providers: [openai, azure]}
  idle: {tokens: 1000, model: gpt-5*}
"""


def names_of(*used: tuple[Series, float]) -> Names:
    names = Names()
    names.configure(Limits(), ())
    for series, ago in used:
        names.use(series, NOW - ago)
    return names


def test_one_for_what_was_not_seen_for_a_day_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter")
    names = names_of(
        (Series("openai", "gpt-5-mini", "web"), DAY - 1),
        (Series("openai", "gtp-5", "batch-1"), DAY + 1),
    )
    budgets, unmatched = parse(CONFIG, "quota.yml").budgets, UnmatchedBudgets()
    for _ in range(2):
        found = unmatched.check(budgets, names.used_since, NOW)
        assert {(one.scope.model, one.scope.consumer) for one in found} == {
            ("gtp-5*", ""), ("", "batch-*"),
        }  # fmt: skip
    told = [record.fields["budget"] for record in caplog.records]  # type: ignore[attr-defined]
    assert sorted(told) == ["1000 per week for gtp-5*", "5 requests per week for batch-*"]


def test_one_that_has_matched_since_is_told_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter")
    names = names_of((Series("openai", "gpt-4"), 0.0))
    budgets = parse("budgets: {openai: {tokens: 5, model: gpt-5}}", "quota.yml").budgets
    unmatched = UnmatchedBudgets()
    assert unmatched.check(budgets, names.used_since, NOW)
    names.use(Series("openai", "gpt-5"), NOW)
    assert not unmatched.check(budgets, names.used_since, NOW)
    names.use(Series("openai", "gpt-4"), NOW + 2 * DAY)
    assert unmatched.check(budgets, names.used_since, NOW + 2 * DAY)
    assert len(caplog.records) == 2


def test_a_provider_that_nobody_uses_tells_nothing() -> None:
    names = names_of((Series("openai", "gpt-4"), DAY + 1))
    budgets = parse("budgets: {openai: {tokens: 5, model: gpt-5}}", "quota.yml").budgets
    assert not UnmatchedBudgets().check(budgets, names.used_since, NOW)
