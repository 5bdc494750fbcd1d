"""Prometheus exporter for LLM token budgets."""

__version__ = "0.1.0"
