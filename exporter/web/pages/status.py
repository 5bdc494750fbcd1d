"""The status page: which scopes, in which order, as a person asked."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from urllib.parse import urlencode

from exporter.core.budget import Quota
from exporter.core.reports import is_quota
from exporter.core.views import ProviderView
from exporter.snapshot import Snapshot
from exporter.web.pages.condition import Condition, ScopeRow, configured, rows_of
from exporter.web.pages.limits import ReportedLimit, limits_of
from exporter.web.pages.spenders import SHOWN, Recent, Spender, Spending

PER_PAGE = 50
"""Scopes on one page: each has curves to draw."""

MAX_SEARCH = 200
"""Characters of a search."""

MAX_PAGE = 9_999_999

WORST = "worst"
"""The order without a wish."""

SORTS: Mapping[str, tuple[str, Callable[[ScopeRow], object]]] = {
    WORST: ("worst first", lambda row: row.urgency),
    "name": ("name", lambda row: row.scope),
    "used": ("most used", lambda row: (-row.used_ratio, row.scope)),
    "resets": ("resets soonest", lambda row: (row.resets_at, row.scope)),
    "probability": ("likeliest to run out", lambda row: (-row.probability, row.urgency)),
}
"""Orders by name, with what people read."""


@dataclass(frozen=True, slots=True)
class Query:
    """What a person asked for.

    Attributes:
        search: words that all have to occur in a scope's row.
        show: only scopes in this condition; None for all.
        sort: one of `SORTS`.
        page: from 1.
    """

    search: str = ""
    show: Condition | None = None
    sort: str = WORST
    page: int = 1

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> "Query":
        """Read the parameters of a request; others than its own are none of its business.

        Raises:
            ValueError: one is not what it may be.
        """
        search, show = given.get("q", "").strip(), given.get("show", "")
        sort, page = given.get("sort", WORST), given.get("page", "1")
        if len(search) > MAX_SEARCH:
            raise ValueError(f"q: expected at most {MAX_SEARCH} characters, got {len(search)}")
        if show and show not in list(Condition):
            raise ValueError(f"show: expected one of {', '.join(Condition)}, got {show[:64]!r}")
        if sort not in SORTS:
            raise ValueError(f"sort: expected one of {', '.join(SORTS)}, got {sort[:64]!r}")
        if not re.fullmatch("0*[1-9][0-9]{0,6}", page):
            raise ValueError(f"page: expected 1 to {MAX_PAGE}, got {page[:64]!r}")
        return cls(search, Condition(show) if show else None, sort, int(page))

    def link(self, **changed: object) -> str:
        """The address of this page with some of it changed, relative to the landing page."""
        other = replace(self, **{"page": 1, **changed})  # type: ignore[arg-type] # of its fields
        asked = {
            "q": other.search,
            "show": other.show or "",
            "sort": "" if other.sort == WORST else other.sort,
            "page": "" if other.page == 1 else str(other.page),
        }
        return "?" + urlencode({name: value for name, value in asked.items() if value})


@dataclass(frozen=True, slots=True)
class ShownScope:
    """A scope on the page.

    Attributes:
        row: what it is.
        view: its provider.
        spenders: the top spenders of the last hour, with what they are: `consumer` or `model`.
        similar: budgets with a name so much like its own that one is perhaps misspelt.
    """

    row: ScopeRow
    view: ProviderView
    spenders: Sequence[Spender]
    spender_kind: str
    similar: str


@dataclass(frozen=True, slots=True)
class StatusPage:
    """All that the page shows.

    Attributes:
        at: Unix seconds.
        query: what was asked for.
        counts: how many scopes of those found are in a condition, whichever are shown.
        total: how many scopes there are.
        found: how many were found and have the condition asked for.
        scopes: those of this page.
        pages: how many pages there are.
        limits: what the providers on this page report of their rate limits, least left first.
    """

    at: float
    query: Query
    counts: Mapping[Condition, int]
    total: int
    found: int
    scopes: Sequence[ShownScope]
    pages: int
    limits: Sequence[ReportedLimit]

    @property
    def quotas(self) -> list[Quota]:
        """The budgets whose curves are to be drawn."""
        return [one.quota for shown in self.scopes for one in shown.row.budgets]


def status_page(snapshot: Snapshot, recent: Recent, query: Query) -> StatusPage:
    """What a person who asked for `query` gets to see."""
    every = rows_of(snapshot.views.values())
    words = query.search.casefold().split()
    matching = [row for row in every if _matches(row, words)] if words else every
    counts = Counter(row.condition for row in matching)
    if query.show is not None:
        matching = [row for row in matching if row.condition is query.show]
    _, order = SORTS[query.sort]
    matching.sort(key=order)  # type: ignore[arg-type] # all keys of one order compare
    pages = max(1, -(-len(matching) // PER_PAGE))
    query = replace(query, page=min(query.page, pages))
    first = (query.page - 1) * PER_PAGE
    spending = Spending(recent)
    scopes = [_shown(row, snapshot.views, spending) for row in matching[first : first + PER_PAGE]]
    names = dict.fromkeys(row.scope.provider for row in matching[first : first + PER_PAGE])
    limits = limits_of((snapshot.views[name] for name in names), snapshot.at)
    return StatusPage(
        snapshot.at,
        query,
        {condition: counts[condition] for condition in Condition if counts[condition]},
        len(every),
        len(matching),
        scopes,
        pages,
        # Those that are quotas have a row of their own.
        [one for one in limits if not is_quota(one.limit)],
    )


def _shown(row: ScopeRow, views: Mapping[str, ProviderView], spending: Spending) -> ShownScope:
    view = views[row.scope.provider]
    kind, spenders = top_spenders(row, spending)
    return ShownScope(row, view, spenders[:SHOWN], kind, similar(view, views))


def top_spenders(row: ScopeRow, spending: Spending) -> tuple[str, Sequence[Spender]]:
    """Who spends a scope: its consumers where any are known, else its models."""
    pool = next((one.budget.pool for one in row.budgets), ())
    units = [one.budget.unit for one in row.budgets]
    consumers = spending.by_consumer(row.scope, pool, *units[:1])
    if any(one.name for one in consumers) and not row.scope.consumer:
        return "consumer", consumers
    models = spending.by_model(row.scope, pool, *units[:1])
    return "model", models if any(one.name for one in models) else ()


def similar(view: ProviderView, views: Mapping[str, ProviderView]) -> str:
    """The provider that another was perhaps meant to be: one with a budget for one without, and
    any other for a budget that was never used. Empty when no name is like it."""
    own = configured(view.measurements)
    if view.measurements and (view.history_days is not None or not own):
        return ""
    others = [
        name
        for name, other in views.items()
        if name != view.name and (own or configured(other.measurements))
    ]
    return next(iter(get_close_matches(view.name, others, 1, 0.8)), "")


def _matches(row: ScopeRow, words: Sequence[str]) -> bool:
    reason = row.view.view.reason if row.view is not None else None
    detail = row.view.view.detail if row.view is not None else ""
    texts = [*row.scope, row.condition.words, reason or "", detail]
    for one in row.budgets:
        texts += [one.budget.period.name, one.budget.unit, *one.budget.labels.values()]
    text = " ".join(texts).casefold()
    return all(word in text for word in words)
