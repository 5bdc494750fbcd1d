"""Which quotas there are, and which of them the usage of a series counts in."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from exporter.core.budget import DEFAULT_PREDICTION, Budget, Per, Quota
from exporter.core.scope import OTHER, Scope, matches
from exporter.core.series import Series
from exporter.core.slots import Counts

Terms = tuple[tuple[int, float], ...]
"""Which counts add to a row, and how much one of each adds."""


class QuotaIndex:
    """The quotas of budgets as they stand, and of each model or consumer as it is seen.

    A row sums the use of a scope in one unit; quotas that count the same share one. Not for
    concurrent writers; a reader beside the writer goes by `Ledger.ready`.

    Attributes:
        budgets: what is counted, by the name at which it stands.
        quotas: in the order in which they came up; only ever added to.
        rows: the row of each quota.
        row_count: how many rows there are.
        members: series that was met -> the rows that its usage adds to, and how.
    """

    def __init__(self, budgets: Mapping[str, Sequence[Budget]]) -> None:
        self._use(budgets, {})

    def with_budgets(self, budgets: Mapping[str, Sequence[Budget]]) -> "QuotaIndex":
        """The same rows under budgets that it serves; the one before is no longer to be used."""
        index = QuotaIndex.__new__(QuotaIndex)
        index._use(budgets, self._row_of)
        for series in self.members:
            index.meet(series)
        return index

    def _use(
        self,
        budgets: Mapping[str, Sequence[Budget]],
        row_of: dict[tuple[Scope, tuple[str, ...], Terms], int],
    ) -> None:
        self.budgets = budgets
        self.quotas: list[Quota] = []
        self.rows: list[int] = []
        self.members: dict[Series, tuple[tuple[int, Terms], ...]] = {}
        self._row_of = row_of
        self._known: dict[Quota, int] = {}
        self._on_row: dict[int, list[Quota]] = {}
        self._targets: dict[str, list[tuple[str, Budget, Terms]]] = {}
        self._sharing: dict[str, set[str]] = {}  # pools and their providers, both ways
        for name, those in budgets.items():
            for budget in those:
                terms = _terms(budget)
                for provider in budget.pool or (name,):
                    self._targets.setdefault(provider, []).append((name, budget, terms))
                    if budget.pool:
                        self._sharing.setdefault(name, set()).add(provider)
                        self._sharing.setdefault(provider, set()).add(name)
                if not budget.per:
                    self._add(Scope(name, budget.model, budget.consumer), budget, terms)

    @property
    def row_count(self) -> int:
        return len(self._row_of)

    def _add(self, scope: Scope, budget: Budget, terms: Terms) -> int:
        """Know a quota; its row."""
        row = self._row_of.setdefault((scope, budget.pool, terms), len(self._row_of))
        quota = Quota(scope, budget)
        if quota not in self._known:
            self._known[quota] = len(self.quotas)
            self._on_row.setdefault(row, []).append(quota)
            self.rows.append(row)
            self.quotas.append(quota)
        return row

    def knows(self, quota: Quota) -> bool:
        """Whether a quota has come up."""
        return quota in self._known

    def row(self, quota: Quota) -> int:
        """The row of a quota."""
        return self.rows[self._known[quota]]

    def quotas_on(self, row: int) -> list[Quota]:
        """The quotas that a row is for."""
        return self._on_row[row]

    def pooled(self, providers: Collection[str]) -> set[str]:
        """`providers`, and all with which they share a budget."""
        found: set[str] = set()
        rest = set(providers)
        if not self._sharing:
            return rest
        while rest:
            name = rest.pop()
            found.add(name)
            rest |= self._sharing.get(name, set()) - found
        return found

    # -- which budgets it can serve --

    def serves(self, budgets: Mapping[str, Sequence[Budget]]) -> bool:
        """Whether all that `budgets` count is counted already."""
        return all(self._serves(name, one) for name, those in budgets.items() for one in those)

    def served(self, budgets: Mapping[str, Sequence[Budget]]) -> Mapping[str, tuple[Budget, ...]]:
        """Those of `budgets` of which all is counted already."""
        return {
            name: tuple(budget for budget in those if self._serves(name, budget))
            for name, those in budgets.items()
        }

    def _serves(self, name: str, budget: Budget) -> bool:
        if budget.per:
            return _counting(budget) in map(_counting, self.budgets.get(name, ()))
        scope = Scope(name, budget.model, budget.consumer)
        return (scope, budget.pool, _terms(budget)) in self._row_of

    # -- in what a series counts --

    def meet(self, series: Series) -> tuple[tuple[int, Terms], ...]:
        """The rows that usage of a series adds to that is seen for the first time."""
        found = self.members[series] = tuple(self._rows_of(series))
        return found

    def _rows_of(self, series: Series) -> Iterator[tuple[int, Terms]]:
        rows = set()
        for name, budget, terms in self._targets.get(series.provider, ()):
            scope = self._scope(name, budget, series)
            if scope is not None:
                row = self._add(scope, budget, terms)
                if row not in rows:
                    rows.add(row)
                    yield row, terms

    def _scope(self, name: str, budget: Budget, series: Series) -> Scope | None:
        """The scope under which `budget` counts `series`, if it does."""
        if not Scope(name, budget.model, budget.consumer).covers(series.model, series.consumer):
            return None
        model, consumer = budget.model, budget.consumer
        if Per.MODEL in budget.per:
            model = series.model
            if model in ("", OTHER) or self._named(name, budget, model, ""):
                return None
        if Per.CONSUMER in budget.per:
            consumer = series.consumer
            if consumer in ("", OTHER) or self._named(name, budget, "", consumer):
                return None
        return Scope(name, model, consumer)

    def _named(self, name: str, budget: Budget, model: str, consumer: str) -> bool:
        """Whether another budget of the same unit and period is for this model, or consumer."""
        return any(
            not other.per
            and (other.unit, other.period.name) == (budget.unit, budget.period.name)
            and (
                bool(other.model) and matches(other.model, model)
                if model
                else bool(other.consumer) and matches(other.consumer, consumer)
            )
            for other in self.budgets[name]
        )


def amount_of(counts: Counts, terms: Terms) -> float:
    """What counts add to a row of these terms."""
    return sum([each * counts[column] for column, each in terms])


def _counting(budget: Budget) -> Budget:
    """What is counted for a budget: not how much that may be, and what is made of it."""
    return replace(
        budget,
        amount=1,
        reserve=0.0,
        prediction=DEFAULT_PREDICTION,
        labels={},
        override=None,
        silenced_until=None,
    )


def _terms(budget: Budget) -> Terms:
    return tuple((at, each) for at, each in enumerate(budget.columns) if each)
