"""The backtest as one page: would I have been warned, when, and how often for nothing?"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np

from exporter.backtest import charts
from exporter.backtest.enough import LASTING, Need
from exporter.backtest.replay import PROBABILITY
from exporter.backtest.scores import THRESHOLDS, Alerts, Judge, Scores
from exporter.backtest.truth import Episode
from exporter.core.windows import DAY, Calendar, format_duration

SHOWN = 2
"""How many windows of each kind are drawn."""

_FEW = 5
"""Decisions a window must have to be worth drawing."""

Judged = Sequence[tuple[Judge, Mapping[str, Scores]]]


def write_report(path: Path, method: str, judged: Judged, needs: Sequence[Need]) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    decisions = judged[0][0].decisions
    days = (decisions.until - decisions.times[0]) / DAY
    begin = datetime.fromtimestamp(float(decisions.times[0]), UTC)
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    path.write_text(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Backtest: {escape(method)}</title><style>{style}</style></head><body><main>"
        "<h1>Would I have been warned, when, and how often for nothing?</h1>"
        f'<p class="muted">{len(decisions.cases)} budgets over {days:.1f} days from '
        f"{begin:%d %B %Y %H:%M} UTC, replayed as if it were then: each decision knows only what "
        f"was used before it. Method: <b>{escape(method)}</b>.</p>"
        + "".join(_section(method, judge, scores, needs) for judge, scores in judged)
        + "</main></body></html>\n",
        encoding="utf-8",
    )


def _section(method: str, judge: Judge, scores: Mapping[str, Scores], needs: Sequence[Need]) -> str:
    alerts = scores[method].alerts[-1]
    if not judge.episodes:
        return (
            f"<h2>Budgets per {judge.period}</h2><p>No window after the first days is complete: "
            "there is too little usage to judge warnings by. Three days are taken as history; "
            "what comes after them is scored.</p>"
        )
    return (
        f"<h2>Budgets per {judge.period}</h2>"
        + _answers(judge, alerts)
        + _table(method, judge, scores)
        + '<div class="charts">'
        + _figure(
            "Can its probabilities be taken at their word?",
            "On the dashed line, what was given 70 % came true 7 times in 10. Larger dots: said "
            "more often.",
            charts.calibration(scores[method]),
        )
        + _figure(
            "How much warning costs how many false alarms?",
            "Exhausted windows with an alert in time, against good windows with an alert. Up and "
            "left is better; a curve is one method at every threshold.",
            charts.trade_off(dict(scores), method),
        )
        + "</div>"
        + _windows(method, judge, alerts.threshold)
        + _budgets(method, judge, alerts.threshold, needs)
    )


def _budgets(method: str, judge: Judge, threshold: float, needs: Sequence[Need]) -> str:
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
    for case in sorted(judge.cases, key=lambda case: judge.decisions.cases[case][0]):
        need, count = needs[case], counts[case]
        cells = (f"{count[kind]:,}" for kind in ("ran out", "caught", "good", "false"))
        amount = "-" if math.isnan(need.enough) else f"{need.enough:,.0f}"
        rows.append(
            (need.provider, f"{need.budget.amount:,}", *cells, _percent(need.lasted), amount)
        )
    return (
        "<details open><summary>Every budget</summary>"
        '<p class="muted">Windows after the first three days that ran out or stayed under, and '
        "alerts for them. Lasted and enough look at all complete windows; enough is the budget "
        f"that would have lasted in {LASTING * 100:.0f} % of them.</p>"
        f'<div class="wide"><table><tr>{_cells("th", head)}</tr>'
        + "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows)
        + "</table></div></details>"
    )


def _answers(judge: Judge, alerts: Alerts) -> str:
    hold = format_duration(judge.hold)
    cards = (
        (
            "Warned in time",
            _percent(alerts.recall),
            f"{alerts.caught:,} of {alerts.exhausted:,} windows that ran out had an alert at least "
            f"{hold} before.",
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
    return (
        '<div class="answers">'
        + "".join(f"<div>{title}<b>{value}</b>{text}</div>" for title, value, text in cards)
        + f'</div><p class="muted">An alert fires when the probability has been {alerts.threshold} '
        f"or more for {hold} (rules know only yes and no). All but the column for the first day "
        "is about the time after the first three days.</p>"
    )


def _table(method: str, judge: Judge, scores: Mapping[str, Scores]) -> str:
    head: tuple[str, ...] = (
        "",
        "Brier score",
        "first day",
        "calibration error",
        "10-90 % holds",
        "moment off",
    )
    head += tuple(
        f"{what}, p ≥ {at}" for at in THRESHOLDS for what in ("warned in time", "for nothing")
    )
    rows = []
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
    return (
        f"<table><tr>{_cells('th', head)}</tr>"
        + "".join(
            f"<tr{' class=chosen' if row[0] == method else ''}>{_cells('td', row)}</tr>"
            for row in rows
        )
        + "</table>"
    )


def _windows(method: str, judge: Judge, threshold: float) -> str:
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
    drawn = [
        _figure(f"{title}", _caption(judge, one), charts.episode(judge, method, one, threshold))
        for title, found in kinds
        for _, one in _varied(judge, found)
    ]
    return (
        '<p class="muted">Single windows: used (black), the projection at each moment for the '
        "window's end with its 10-90 % band (blue), the budget, and the moments of alert and "
        f'exhaustion.</p><div class="charts">{"".join(drawn)}</div>'
    )


def _varied(judge: Judge, found: list[tuple[float, Episode]]) -> Iterable[tuple[float, Episode]]:
    """The foremost, of different providers."""
    seen: dict[str, tuple[float, Episode]] = {}
    for off, one in sorted(found, key=lambda each: each[0], reverse=True):
        seen.setdefault(judge.decisions.cases[one.case][0], (off, one))
    return list(seen.values())[:SHOWN]


def _off(method: str, judge: Judge, one: Episode) -> float:
    """The mean squared error of what was said in a window."""
    said = judge.decisions.said[method]
    end = one.first + len(judge.lasting(method, one))
    came = 0.0 if math.isnan(one.moment) else 1.0
    return float(np.mean((said[PROBABILITY, one.first : end, one.case] - came) ** 2))


def _caption(judge: Judge, one: Episode) -> str:
    provider, budget = judge.decisions.cases[one.case]
    zone = budget.period.zone if isinstance(budget.period, Calendar) else UTC
    begin = datetime.fromtimestamp(float(judge.decisions.times[one.first]), zone)
    return f"{provider}, {begin:%d %B %Y}"


def _figure(title: str, caption: str, drawing: str) -> str:
    return (
        f"<figure><h3>{escape(title)}</h3><figcaption>{escape(caption)}</figcaption>"
        f"{drawing}</figure>"
    )


def _cells(tag: str, row: Iterable[str]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}".replace("%", " %")
