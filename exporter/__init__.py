"""Prometheus exporter for LLM token budgets.

The library is the quota state machine and the burn-rate tracker; see `exporter.cli` for the
program.
"""

__version__ = "0.1.0"
