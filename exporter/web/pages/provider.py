"""The page of one provider."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from markupsafe import Markup

from exporter.core.budget import BudgetUnit
from exporter.core.forecast import Explanation
from exporter.core.measurement import Measurement
from exporter.core.quota_state import Reason, State
from exporter.core.scope import Scope
from exporter.core.scorer import Record
from exporter.core.signal import Refusal
from exporter.core.views import Explained, ProviderView
from exporter.snapshot import Snapshot
from exporter.web.pages.condition import ScopeRow, configured, rows_of, unpriced
from exporter.web.pages.curves import course, large
from exporter.web.pages.limits import ReportedLimit, limits_of
from exporter.web.pages.spenders import Recent, Spender, Spending
from exporter.web.pages.status import similar

MAX_BUDGETS = 20
"""Budgets with a chart; the status page lists all."""

MAX_ROWS = 50
"""Scopes in the table of states."""


@dataclass(frozen=True, slots=True)
class ShownBudget:
    """A budget with its chart.

    Attributes:
        title: what it is for.
        measurement: it, measured.
        explained: what its forecast rests on; None of what only its provider's reports tell.
        record: how right its forecasts were; None before a window was over.
        chart: its course.
    """

    title: str
    measurement: Measurement
    explained: Explanation | None
    record: Record | None
    chart: Markup


@dataclass(frozen=True, slots=True)
class ProviderPage:
    """All that the page shows, the worst of everything first.

    Attributes:
        at: Unix seconds.
        view: the provider.
        rows: its scopes; `more_rows` more are not shown.
        budgets: with charts; `more_budgets` more are not shown.
        consumers, models: what they used within the last hour.
        limits: what it reports of its own limits.
        refusals: (model, why, times) since the start of the process.
        transitions: (scope, state, reason, times) since the start of the process.
        unpriced: (model, requests) whose cost a budget should know and does not, since the start
            of the process.
        configured: it has a budget of its own, and not only windows that it reports.
        similar: a budget that its name was perhaps meant for.
    """

    at: float
    view: ProviderView
    rows: Sequence[ScopeRow]
    more_rows: int
    budgets: Sequence[ShownBudget]
    more_budgets: int
    consumers: Sequence[Spender]
    models: Sequence[Spender]
    limits: Sequence[ReportedLimit]
    refusals: Sequence[tuple[str, Refusal, int]]
    transitions: Sequence[tuple[Scope, State, Reason, int]]
    unpriced: Sequence[tuple[str, int]]
    configured: bool
    similar: str


def provider_page(
    snapshot: Snapshot, name: str, recent: Recent, explained: Sequence[Explained]
) -> ProviderPage:
    """What the page of a known provider shows; `explained` are its budgets, or some."""
    view = snapshot.views[name]
    rows = sorted(rows_of([view]), key=lambda row: row.urgency)
    endangered = sorted(view.measurements, key=lambda one: (-one.probability, -one.used_ratio))
    known = {each.measurement.quota: each for each in explained}
    spending, whole = Spending(recent), Scope(name)
    pool = next((one.budget.pool for one in view.measurements), ())
    consumers = spending.by_consumer(whole, pool)
    return ProviderPage(
        at=snapshot.at,
        view=view,
        rows=rows[:MAX_ROWS],
        more_rows=max(0, len(rows) - MAX_ROWS),
        budgets=[
            _budget(one, known.get(one.quota), snapshot.at) for one in endangered[:MAX_BUDGETS]
        ],
        more_budgets=max(0, len(view.measurements) - MAX_BUDGETS),
        consumers=consumers if any(one.name for one in consumers) else (),
        models=spending.by_model(whole, pool),
        limits=limits_of([view], snapshot.at),
        refusals=sorted(
            (model, why, times)
            for (provider, model, why), times in snapshot.refusals.items()
            if provider == name
        ),
        transitions=sorted(
            (scope, state, reason, times)
            for (scope, state, reason), times in snapshot.transitions.items()
            if scope.provider == name
        ),
        unpriced=sorted(
            (model, times)
            for (provider, model), times in unpriced(snapshot).items()
            if provider == name
        ),
        configured=configured(view.measurements),
        similar=similar(view, snapshot.views),
    )


def meant(snapshot: Snapshot, name: str) -> str:
    """The known provider whose name is most like one that is not known; empty for none."""
    return next(iter(get_close_matches(name, snapshot.views, 1, 0.7)), "")


def _budget(one: Measurement, known: Explained | None, now: float) -> ShownBudget:
    explained, record = (known.explanation, known.record) if known else (None, None)
    scope, budget = one.quota
    period = budget.period.name
    what = {BudgetUnit.USD: f"USD per {period}", BudgetUnit.SHARE: f"its {period} window"}
    parts = [
        what.get(budget.unit, f"{budget.unit.value} per {period}"),
        scope.model,
        scope.consumer,
    ]
    title = ", ".join(part for part in parts if part)
    chart = large(one, course(one, explained, now), now, f"Course of {title}")
    return ShownBudget(title, one, explained, record, chart)
