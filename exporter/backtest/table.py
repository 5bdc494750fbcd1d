"""The scores as text, and the decisions as CSV."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.text import Text

from exporter.backtest.enough import LASTING, Need
from exporter.backtest.replay import LOWER, MEDIAN, PROBABILITY, UPPER, WAIT, Decisions
from exporter.backtest.scores import Judge, Scores
from exporter.backtest.truth import Truth
from exporter.core.budget import Budget, BudgetUnit, Quota
from exporter.core.windows import format_duration
from exporter.terminal import as_text, table

LISTED = 20
"""How many budgets are listed in a terminal, those that lasted the least first."""

COLUMNS = (
    "timestamp",
    "provider",
    "period",
    "used_tokens",
    "budget_tokens",
    "projected_tokens",
    "projected_lower",
    "projected_upper",
    "probability",
    "exhaustion_timestamp",
    "exhausted",
)

SCOPE_COLUMNS = ("unit", "model", "consumer")
"""What follows where a budget has another unit or scope than tokens of a provider."""


def scores_table(judge: Judge, scores: dict[str, Scores]) -> str:
    """Return two tables: how good the probabilities are, and the alerts that rest on them."""
    quality = [("", "Brier", "Brier cold", "ECE", "10-90 % holds", "moment off")]
    quality += [
        (
            method,
            _number(one.brier, "{:.3f}"),
            _number(one.cold, "{:.3f}"),
            _number(one.calibration_error, "{:.3f}"),
            _number(one.coverage, "{:.1%}"),
            _number(one.moment_error, "{:.2f} h"),
        )
        for method, one in scores.items()
    ]
    quality.append(("base rate", _number(judge.base_brier, "{:.3f}"), "", "", "", ""))
    alerts = [("alert", "recall", "false alarms", "precision", "lead")]
    for method, one in scores.items():
        alerts += [
            (
                method if one.is_certain else f"{method}, p >= {each.threshold}",
                _number(each.recall, "{:.1%}"),
                _number(each.false_share, "{:.1%}"),
                _number(each.precision, "{:.2f}"),
                _number(each.lead, "{:.1f} h"),
            )
            for each in (one.alerts[:1] if one.is_certain else one.alerts)
        ]
    example = next(iter(scores.values()))
    counts = example.alerts[0]
    hold = format_duration(judge.hold)
    return (
        f"{judge.period}: {len(judge.cases)} budgets, {example.decisions:,} scored decisions, "
        f"{counts.exhausted:,} exhausted and {counts.good:,} good windows\n\n"
        f"{_aligned(quality)}\n\n{_aligned(alerts)}\n\n"
        f"An alert fires when its threshold has held for {hold}; recall counts those {hold} or "
        "more ahead.\n"
    )


def enough_table(needs: Sequence[Need]) -> str:
    """Return which budget would have lasted, of those that lasted the least."""
    known = [one for one in needs if one.windows]
    known.sort(key=lambda one: (one.lasted, one.quota.scope))
    head = ("provider", "period", "budget", "windows", "lasted in", f"enough for {LASTING:.0%}")
    rows = [
        (
            whose(one.quota),
            one.quota.budget.period.name,
            amount(one.quota.budget, one.quota.budget.amount),
            f"{one.windows:,}",
            f"{one.lasted:.0%}",
            amount(one.quota.budget, one.enough),
        )
        for one in known[:LISTED]
    ]
    rest = len(needs) - len(rows)
    more = f"\nand {rest} more; --report lists all\n" if rest else ""
    return _aligned([head, *rows]) + "\n" + more


def whose(quota: Quota) -> str:
    """Whose a quota is: `gemini, gemini-3-pro*`."""
    return ", ".join(part for part in quota.scope if part)


def amount(budget: Budget, value: float) -> str:
    """An amount of what a budget counts: `5,000`, `250 requests`, `$12.50`."""
    if budget.unit is BudgetUnit.USD:
        return f"${value / budget.unit.scale:,.2f}"
    text = f"{value:,.0f}"
    return text if budget.unit is BudgetUnit.TOKENS else f"{text} {budget.unit.value}"


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else form.format(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    shown = table(*head, right=head[1:])
    for row in rest:
        shown.add_row(*map(Text, row))
    return as_text(shown)


def write_decisions(path: Path, decisions: Decisions, truth: Truth, method: str) -> None:
    """Write every decision; `exhausted` is empty when its window is incomplete.

    Amounts are in the budget's unit, which has a column of its own where it is not tokens.

    Raises:
        OSError: it cannot be written.
    """
    said = decisions.said[method]
    scoped = any(
        not quota.scope.whole or quota.budget.unit is not BudgetUnit.TOKENS
        for quota in decisions.cases
    )
    kept = [_Kept.of(quota, scoped) for quota in decisions.cases]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*COLUMNS, *SCOPE_COLUMNS) if scoped else COLUMNS)
        for step, now in enumerate(decisions.times.tolist()):
            stamp = f"{now:.10g}"
            values = said[:, step].astype(np.float64)
            rows = zip(
                kept,
                decisions.used[step].tolist(),
                *(values[which].tolist() for which in (MEDIAN, LOWER, UPPER, PROBABILITY, WAIT)),
                truth.exhausted[step].tolist(),
                strict=True,
            )
            writer.writerows(
                (
                    stamp,
                    *one.head,
                    f"{used / one.scale:.15g}",
                    one.amount,
                    *(f"{value / one.scale:{one.form}}" for value in projected),
                    f"{probability:.6f}",
                    f"{now + wait:.0f}" if wait == wait else "",
                    exhausted if exhausted >= 0 else "",
                    *one.tail,
                )
                for one, used, *projected, probability, wait, exhausted in rows
            )


class _Kept(NamedTuple):
    """What is the same in every row of a quota."""

    head: Sequence[str]
    tail: Sequence[str]
    amount: str
    scale: int
    form: str

    @classmethod
    def of(cls, quota: Quota, scoped: bool) -> "_Kept":
        scope, budget = quota
        scale = budget.unit.scale
        return cls(
            (scope.provider, budget.period.name),
            (budget.unit.value, scope.model, scope.consumer) if scoped else (),
            f"{budget.amount / scale:.15g}",
            scale,
            ".6f" if budget.unit is BudgetUnit.USD else ".0f",
        )
