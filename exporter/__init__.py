"""Prometheus exporter for LLM token budgets.

As a library: the quota state machine and the burn-rate tracker. The program is `exporter.cli`.
"""

from exporter.quota.burn_rate import BurnRateTracker, observe_token_usage
from exporter.quota.state_store import State, StateStore

__version__ = "0.1.0"

__all__ = ["BurnRateTracker", "State", "StateStore", "observe_token_usage"]
