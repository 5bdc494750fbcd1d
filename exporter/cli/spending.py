"""`status --by`: who used what, from the exporter's counters."""

from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families
from rich.console import RenderableType
from rich.text import Text

from exporter.cli.words import short
from exporter.terminal import table

LABELS = ("consumer", "model")

_PREFIX = {"consumer": "llm_quota_consumer_", "model": "llm_quota_"}
_TOKENS, _REQUESTS, _COST = COUNTERS = ("tokens", "requests", "cost_usd")

Who = tuple[str, str]
"""A provider, and a consumer or a model of it."""


class _Seen(NamedTuple):
    at: float
    tokens: dict[Who, float]


class Spending:
    """Reads counters, and tells how fast they rise since it first read them.

    Args:
        by: `consumer` or `model`; None is never asked for a table.
        provider: the only one to show; None shows all.
    """

    def __init__(self, by: str | None, provider: str | None) -> None:
        self._by = by or LABELS[0]
        self._provider = provider
        self._first: _Seen | None = None

    def table(self, metrics: str, now: float) -> RenderableType:
        """A table of an exposition that was read at `now` (steady seconds)."""
        used = self._read(metrics)
        tokens = used[_TOKENS]
        if not any(used.values()):
            return Text(f"no usage of a {self._by} yet")
        first = self._first = self._first or _Seen(now, tokens)
        minutes = (now - first.at) / 60
        rate = ["TOKENS/MIN"] if minutes > 0 else []
        numbers = ("TOKENS", "%", "REQUESTS", "USD", *rate)
        shown = table("PROVIDER", self._by.upper(), *numbers, right=numbers)
        total = sum(tokens.values())

        def speed(who: Who) -> float:
            return (tokens.get(who, 0) - first.tokens.get(who, 0)) / minutes if minutes > 0 else 0.0

        everybody = {who for counted in used.values() for who in counted}
        for who in sorted(everybody, key=lambda who: (-speed(who), -tokens.get(who, 0), who)):
            many = tokens.get(who, 0)
            cells = [*who, short(many), f"{many / total:.0%}" if total else ""]
            cells += [short(used[_REQUESTS].get(who, 0)), f"{used[_COST].get(who, 0):,.2f}"]
            cells += [short(speed(who))] if rate else []
            shown.add_row(*map(Text, cells))
        return shown

    def _read(self, metrics: str) -> dict[str, dict[Who, float]]:
        wanted = {f"{_PREFIX[self._by]}{name}_total": name for name in COUNTERS}
        used: dict[str, dict[Who, float]] = {name: {} for name in COUNTERS}
        for family in text_string_to_metric_families(metrics):
            for sample in family.samples:
                counter = wanted.get(sample.name)
                if counter is None or self._provider not in (None, sample.labels["provider"]):
                    continue
                who = sample.labels["provider"], sample.labels.get(self._by, "")
                used[counter][who] = used[counter].get(who, 0.0) + sample.value
        return used
