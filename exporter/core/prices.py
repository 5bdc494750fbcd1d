"""What tokens cost, where a report does not say."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.core.scope import is_pattern, matches
from exporter.core.usage import KINDS, Tokens

PRICED = (*KINDS, "cache_write_1h")
"""What can have a price: the kinds, and cache writes that are kept for an hour."""

_MILLION = 10**6
_CACHE_WRITE, _CACHE_WRITE_1H = KINDS.index("cache_write"), len(KINDS)
_REMEMBERED = 10_000  # names looked up, before that memory starts anew

Price = tuple[int | None, ...]
"""Nano-dollars for a million tokens, in the order of `PRICED`; None where there is no price."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model.

    Attributes:
        configured: name or pattern of a model -> price; a name wins over patterns, of those the
            first that matches.
        listed: `model` or `provider/model` -> price, for what is not configured.
    """

    configured: Mapping[str, Price] = field(default_factory=dict)
    listed: Mapping[str, Price] = field(default_factory=dict)
    _found: dict[tuple[str, str], Price | None] = field(
        default_factory=dict, compare=False, repr=False
    )

    def cost(
        self, provider: str, model: str, tokens: Tokens, cache_write_1h: int = 0
    ) -> int | None:
        """Nano-dollars of tokens, of whose cache writes so many are kept for an hour.

        None when a price is missing for any of them. Halves of a nano-dollar are rounded up.
        """
        price = self._price(provider, model)
        if price is None:
            return None
        counts = [*tokens, cache_write_1h]
        counts[_CACHE_WRITE] -= cache_write_1h
        total = 0
        for count, each in zip(counts, price, strict=True):
            if count:
                if each is None:
                    return None
                total += count * each
        return (total + _MILLION // 2) // _MILLION

    def _price(self, provider: str, model: str) -> Price | None:
        key = (provider, model)
        if key not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[key] = self._look_up(provider, model)
        return self._found[key]

    def _look_up(self, provider: str, model: str) -> Price | None:
        if model in self.configured:
            return self.configured[model]
        for pattern, price in self.configured.items():
            if is_pattern(pattern) and matches(pattern, model):
                return price
        return self.listed.get(f"{provider}/{model}", self.listed.get(model))


def price(dollars: Mapping[str, int]) -> Price:
    """A price from nano-dollars per million tokens by kind, some of which stand for others.

    Reasoning costs what output does, reading and writing a cache what input does, and an hour in
    it what five minutes do, unless they are named.
    """
    filled = dict(dollars)
    for kind, other in (
        ("reasoning", "output"),
        ("cache_read", "input"),
        ("cache_write", "input"),
        ("cache_write_1h", "cache_write"),
    ):
        if kind not in filled and other in filled:
            filled[kind] = filled[other]
    return tuple(filled.get(kind) for kind in PRICED)
