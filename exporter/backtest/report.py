"""The backtest as one page: would I have been warned, when, and how often for nothing?"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import ChoiceLoader, PackageLoader
from markupsafe import Markup

from exporter.backtest import charts
from exporter.backtest.enough import LASTING, Need
from exporter.backtest.replay import PROBABILITY
from exporter.backtest.scores import THRESHOLDS, Alerts, Judge, Scores
from exporter.backtest.table import amount, whose
from exporter.backtest.truth import Episode
from exporter.core.windows import DAY, Calendar, format_duration
from exporter.templates import environment

SHOWN = 2
"""How many windows of each kind are drawn."""

_FEW = 5
"""Decisions a window must have to be worth drawing."""

Judged = Sequence[tuple[Judge, Mapping[str, Scores]]]


class _Table(NamedTuple):
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_report(path: Path, method: str, judged: Judged, needs: Sequence[Need]) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    templates = environment(__package__).overlay(
        loader=ChoiceLoader([PackageLoader(__package__), PackageLoader("exporter.plot")])
    )
    decisions = judged[0][0].decisions
    page = templates.get_template("report.html").render(
        method=method,
        budgets=len(decisions.cases),
        days=(decisions.until - decisions.times[0]) / DAY,
        begin=datetime.fromtimestamp(float(decisions.times[0]), UTC),
        lasting=f"{LASTING * 100:.0f} %",
        sections=[_section(method, judge, scores, needs) for judge, scores in judged],
    )
    path.write_text(page, encoding="utf-8")


def _section(
    method: str, judge: Judge, scores: Mapping[str, Scores], needs: Sequence[Need]
) -> dict[str, Any]:
    if not judge.episodes:
        return {"period": judge.period, "judged": False}
    alerts = scores[method].alerts[-1]
    trade_off, legend = charts.trade_off(dict(scores), method)
    return {
        "period": judge.period,
        "judged": True,
        "threshold": alerts.threshold,
        "hold": format_duration(judge.hold),
        "answers": _answers(judge, alerts),
        "scores": _scores(judge, scores),
        "calibration": charts.calibration(scores[method]),
        "trade_off": trade_off,
        "legend": [
            (point.kind, point.name, _percent(point.warned), _percent(point.false))
            for point in legend
        ],
        "windows": _windows(method, judge, alerts.threshold),
        "budgets": _budgets(method, judge, alerts.threshold, needs),
    }


def _budgets(method: str, judge: Judge, threshold: float, needs: Sequence[Need]) -> _Table:
    """A row for every budget: how it was warned of, and which would have been enough."""
    counts = {case: Counter[str]() for case in judge.cases}
    for one in judge.episodes:
        ran_out = not math.isnan(one.moment)
        counts[one.case]["ran out" if ran_out else "good"] += 1
        fired = np.flatnonzero(judge.lasting(method, one) >= threshold)
        if not len(fired):
            continue
        if not ran_out:
            counts[one.case]["false"] += 1
        elif one.moment - judge.decisions.times[one.first + fired[0]] >= judge.hold:
            counts[one.case]["caught"] += 1
    head = (
        *("provider", "budget", "ran out", "warned in time", "stayed under", "for nothing"),
        *("lasted in", f"enough for {LASTING * 100:.0f} %"),
    )
    rows = []
    for case in sorted(judge.cases, key=lambda case: judge.decisions.cases[case].scope):
        need, count = needs[case], counts[case]
        quota, budget = need.quota, need.quota.budget
        cells = (f"{count[kind]:,}" for kind in ("ran out", "caught", "good", "false"))
        enough = "-" if math.isnan(need.enough) else amount(budget, need.enough)
        allowed = amount(budget, budget.amount)
        rows.append((whose(quota), allowed, *cells, _percent(need.lasted), enough))
    return _Table(head, rows)


def _answers(judge: Judge, alerts: Alerts) -> Sequence[tuple[str, str, str]]:
    """What was asked, the answer, and what it means."""
    return (
        (
            "Warned in time",
            _percent(alerts.recall),
            f"{alerts.caught:,} of {alerts.exhausted:,} windows that ran out had an alert at least "
            f"{format_duration(judge.hold)} before.",
        ),
        (
            "How early",
            "-" if math.isnan(alerts.lead) else f"{alerts.lead:.1f} h",
            "Half of these alerts came earlier than this before the budget was spent.",
        ),
        (
            "For nothing",
            _percent(alerts.false_share),
            f"{alerts.false:,} of {alerts.good:,} windows that stayed under budget had an alert. "
            f"Of all alerts, {_percent(alerts.precision)} were right.",
        ),
    )


def _scores(judge: Judge, scores: Mapping[str, Scores]) -> _Table:
    head: tuple[str, ...] = (
        "method",
        "Brier score",
        "first day",
        "calibration error",
        "10-90 % holds",
        "moment off",
    )
    head += tuple(
        f"{what}, p ≥ {at}" for at in THRESHOLDS for what in ("warned in time", "for nothing")
    )
    rows: list[Sequence[str]] = []
    for name, one in scores.items():
        cells = [
            _number(one.brier, 3),
            _number(one.cold, 3),
            _number(one.calibration_error, 3),
            _percent(one.coverage),
            f"{_number(one.moment_error, 1)} h",
        ]
        for alerts in one.alerts:
            cells += [_percent(alerts.recall), _percent(alerts.false_share)]
        rows.append((name, *cells))
    rows.append(("always the base rate", _number(judge.base_brier, 3), *[""] * (len(head) - 2)))
    return _Table(head, rows)


class _Drawn(NamedTuple):
    title: str
    caption: str
    drawing: Markup


def _windows(method: str, judge: Judge, threshold: float) -> list[_Drawn]:
    """The best and the worst windows, drawn."""
    warned, missed, false = [], [], []
    for one in judge.episodes:
        lasting = judge.lasting(method, one)
        if len(lasting) < _FEW:
            continue
        fired = np.flatnonzero(lasting >= threshold)
        lead = 0.0
        if len(fired):
            lead = one.moment - float(judge.decisions.times[one.first + fired[0]])
        off = _off(method, judge, one)
        if math.isnan(one.moment):
            if len(fired):
                false.append((off, one))
        elif lead >= judge.hold:
            warned.append((lead, one))
        else:
            missed.append((off, one))
    kinds = (
        ("Best: warned earliest", warned),
        ("Worst: not warned in time", missed),
        ("Worst: warned for nothing", false),
    )
    return [
        _Drawn(title, _caption(judge, one), charts.episode(judge, method, one, threshold))
        for title, found in kinds
        for _, one in _varied(judge, found)
    ]


def _varied(judge: Judge, found: list[tuple[float, Episode]]) -> Iterable[tuple[float, Episode]]:
    """The foremost, of different providers."""
    seen: dict[str, tuple[float, Episode]] = {}
    for off, one in sorted(found, key=lambda each: each[0], reverse=True):
        seen.setdefault(judge.decisions.cases[one.case].scope.provider, (off, one))
    return list(seen.values())[:SHOWN]


def _off(method: str, judge: Judge, one: Episode) -> float:
    """The mean squared error of what was said in a window."""
    said = judge.decisions.said[method]
    end = one.first + len(judge.lasting(method, one))
    came = 0.0 if math.isnan(one.moment) else 1.0
    return float(np.mean((said[PROBABILITY, one.first : end, one.case] - came) ** 2))


def _caption(judge: Judge, one: Episode) -> str:
    quota = judge.decisions.cases[one.case]
    period = quota.budget.period
    zone = period.zone if isinstance(period, Calendar) else UTC
    begin = datetime.fromtimestamp(float(judge.decisions.times[one.first]), zone)
    return f"{whose(quota)}, {begin:%d %B %Y}"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}".replace("%", "\N{NO-BREAK SPACE}%")
