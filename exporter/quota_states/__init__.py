"""The quota state of every scope."""

from exporter.quota_states.documents import merge
from exporter.quota_states.limits import budgets_in
from exporter.quota_states.states import QuotaStates

__all__ = ["QuotaStates", "budgets_in", "merge"]
