"""What providers last reported of their own limits."""

import math
from collections.abc import Iterable

from exporter.core.signal import Limit
from exporter.quota_states.documents import MAX_LIMITS, Limits, merged_limits


class ReportedLimits:
    """The limits of every provider that reported any. Not for concurrent use."""

    def __init__(self) -> None:
        self._limits: dict[str, Limits] = {}

    def report(self, provider: str, limits: Iterable[Limit], at: float) -> Limits:
        """Take in what a provider reported at `at` (Unix seconds); all that is known now."""
        held = self._limits.setdefault(provider, {})
        for limit in limits:
            before = held.get(limit.name)
            if before is None or before[1] <= at:
                # One provider can speak twice at the same instant.
                later = at if before is None else max(at, math.nextafter(before[1], math.inf))
                held[limit.name] = (limit, later)
        while len(held) > MAX_LIMITS:
            del held[min(held, key=lambda name: held[name][1])]
        return held

    def take(self, provider: str, limits: Limits, forgotten: float) -> None:
        """Take up what was stored, of what was reported after `forgotten` (Unix seconds)."""
        known = merged_limits(self._limits.get(provider, {}), limits)
        self._limits[provider] = {
            name: reported for name, reported in known.items() if reported[1] > forgotten
        }

    def copy_from(self, other: "ReportedLimits", provider: str) -> None:
        """Know of one provider what another one knows."""
        self._limits[provider] = other.of(provider)

    def of(self, provider: str) -> Limits:
        """What a provider last reported, by name."""
        return self._limits.get(provider, {}).copy()

    def providers(self) -> set[str]:
        """Everybody who reported something."""
        return {provider for provider, limits in self._limits.items() if limits}
