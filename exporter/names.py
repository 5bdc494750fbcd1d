"""Which providers, models and consumers are told apart: within caps, and no longer than in use."""

import logging
import math
import threading
from collections import Counter
from collections.abc import Collection

from exporter.config import Limits
from exporter.core.scope import OTHER
from exporter.core.series import Series

log = logging.getLogger("exporter")

_LastUse = dict[str, float]


class Names:
    """The names in use, each with when it was last used (Unix seconds).

    May be used by several threads.

    Attributes:
        folded: `provider`, `model` or `consumer` -> usages counted under `other` by a cap.
    """

    def __init__(self) -> None:
        self.folded: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._limits = Limits()
        self._configured: frozenset[str] = frozenset()
        self._providers: _LastUse = {}
        self._beside = 0  # of the providers, those that the cap is for
        self._models: dict[str, _LastUse] = {}
        self._consumers: dict[str, _LastUse] = {}
        self._latest: dict[Series, float] = {}  # what `use` has noted of all names of a series

    def configure(self, limits: Limits, providers: Collection[str]) -> None:
        """Take over caps, and the providers that count beside them because they are configured."""
        with self._lock:
            self._limits = limits
            self._configured = frozenset(providers)
            self._beside = len(self._providers.keys() - self._configured - {OTHER})

    def place(self, provider: str, model: str, consumer: str, now: float) -> Series:
        """Where usage is counted: under these names, or beyond a cap under `other`."""
        limits = self._limits
        with self._lock:
            if provider not in self._providers:
                if provider not in self._configured and self._beside >= limits.providers:
                    provider = self._fold("provider", provider)
                self._add(provider, now)
            models = self._models.setdefault(provider, {})
            consumers = self._consumers.setdefault(provider, {})
            if model and model not in models:
                if len(models) >= limits.models_per_provider:
                    model = self._fold("model", model)
                models.setdefault(model, now)
            if consumer and consumer not in consumers:
                if len(consumers) >= limits.consumers_per_provider:
                    consumer = self._fold("consumer", consumer)
                consumers.setdefault(consumer, now)
            return Series(provider, model, consumer)

    def _add(self, provider: str, at: float) -> None:
        if provider not in self._providers:
            self._providers[provider] = at
            self._beside += provider not in self._configured and provider != OTHER

    def _fold(self, what: str, name: str) -> str:
        if not self.folded[what]:
            fields = {"what": what, "first": name}
            log.warning("too many names, folding new ones into 'other'", extra={"fields": fields})
        self.folded[what] += 1
        return OTHER

    def use(self, series: Series, at: float) -> None:
        """A series was used at a time, whatever the caps say: it is counted already."""
        if self._latest.get(series, -1.0) >= at:  # nearly always: times are those of slots
            return
        with self._lock:
            self._latest[series] = at
            self._add(series.provider, at)
            for names, name in (
                (self._providers, series.provider),
                (self._models.setdefault(series.provider, {}), series.model),
                (self._consumers.setdefault(series.provider, {}), series.consumer),
            ):
                if name and names.get(name, -1.0) < at:
                    names[name] = at

    def forget_unused(self, since: float) -> None:
        """Forget the names that were not used since then, to make room for others."""
        with self._lock:
            self._latest.clear()
            for per_provider in (self._models, self._consumers):
                for provider, names in list(per_provider.items()):
                    kept = {name: at for name, at in names.items() if at >= since}
                    per_provider[provider] = kept
            for provider in [name for name, at in self._providers.items() if at < since]:
                self._forget(provider)

    def forget(self, provider: str, until: float = math.inf) -> None:
        """Forget a provider, and its models and consumers, unless it was used after `until`."""
        with self._lock:
            if self._providers.get(provider, 0.0) <= until:
                self._forget(provider)

    def _forget(self, provider: str) -> None:
        self._latest.clear()
        if self._providers.pop(provider, None) is not None:
            self._beside -= provider not in self._configured and provider != OTHER
        self._models.pop(provider, None)
        self._consumers.pop(provider, None)

    def providers(self) -> set[str]:
        """Every provider in use."""
        with self._lock:
            return set(self._providers)

    def knows(self, provider: str) -> bool:
        """Whether a provider is in use."""
        return provider in self._providers

    def models(self, provider: str) -> set[str]:
        """The models in use of a provider."""
        with self._lock:
            return set(self._models.get(provider, ()))

    def used_since(self, provider: str, since: float) -> tuple[set[str], set[str]]:
        """The models and the consumers of a provider that were used since a moment."""
        with self._lock:
            found = (self._models.get(provider, {}), self._consumers.get(provider, {}))
            models, consumers = ({n for n, at in names.items() if at >= since} for names in found)
        return models, consumers

    def consumers(self, provider: str) -> set[str]:
        """The consumers in use of a provider."""
        with self._lock:
            return set(self._consumers.get(provider, ()))
