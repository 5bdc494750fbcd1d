"""What a budget or a quota state is about: a provider, models of it, consumers of it."""

from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

OTHER = "other"
"""The provider, model or consumer that everything beyond a cap is folded into."""

ALTERNATIVE = "|"
"""Stands between patterns of which any may match, as in `gpt-5*|o3`; no pattern holds it."""


class Scope(NamedTuple):
    """Part of what a provider gives; an empty field is all of it.

    Attributes:
        provider: canonical name, or that of a pool of several.
        model: a name, a shell pattern, or several with `|` between them.
        consumer: the same for who asked.
    """

    provider: str
    model: str = ""
    consumer: str = ""

    @property
    def whole(self) -> bool:
        """The scope is all of its provider."""
        return not self.model and not self.consumer

    def covers(self, model: str, consumer: str) -> bool:
        """Whether a request for `model` by `consumer` (each may be unknown: "") falls into it."""
        return matches(self.model, model) and matches(self.consumer, consumer)


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is one that `pattern` means; an empty pattern means every name.

    A name that is unknown ("") is meant by no pattern but `*`: nobody can say that it is another.
    """
    return not pattern or name == pattern or (is_pattern(pattern) and _matches(pattern, name))


def is_pattern(text: str) -> bool:
    """Whether `text` can mean other names than itself."""
    return not _PATTERN_CHARACTERS.isdisjoint(text)


def alternatives(pattern: str) -> list[str]:
    """The patterns of which `pattern` is made; of an empty one that one."""
    return pattern.split(ALTERNATIVE)


_PATTERN_CHARACTERS = frozenset("*?[" + ALTERNATIVE)


@lru_cache(maxsize=65_536)
def _matches(pattern: str, name: str) -> bool:
    return any(fnmatchcase(name, one) for one in alternatives(pattern))
