"""The quota state of every scope."""

from exporter.quota_states.documents import merge
from exporter.quota_states.states import QuotaStates

__all__ = ["QuotaStates", "merge"]
