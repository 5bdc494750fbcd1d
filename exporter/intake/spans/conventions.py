"""The conventions there are; a new one is a file with a `CONVENTION`, and a line here.

A span that follows several is read by the first of them: those of one library stand before the
general ones, which it speaks as well.
"""

from collections.abc import Iterable

from exporter.intake.spans import (
    codex,
    gen_ai,
    langfuse,
    litellm,
    openinference,
    openlit,
    pydantic_ai,
    traceloop,
    vercel,
)
from exporter.intake.spans.convention import LIBRARY, Attributes, Convention

CONVENTIONS: tuple[Convention, ...] = (
    traceloop.CONVENTION,
    codex.CONVENTION,
    vercel.CONVENTION,
    litellm.CONVENTION,
    langfuse.CONVENTION,
    openinference.CONVENTION,
    openlit.CONVENTION,
    pydantic_ai.CONVENTION,
    gen_ai.CONVENTION,
)

ATTRIBUTES = frozenset[str]().union(*(one.marks | one.attributes for one in CONVENTIONS))
"""All that is looked at of a span; the rest, prompts among it, is not touched."""

_USAGE_WORDS = ("usage", "token_count", "tokens")
_LIMITS = ("max", "limit", "budget", "remaining")


def of(found: Attributes) -> Convention | None:
    """The convention that a span with these attributes follows."""
    library = str(found.get(LIBRARY, ""))
    return next(
        (
            one
            for one in CONVENTIONS
            if library.startswith(one.library) and not one.marks.isdisjoint(found)
        ),
        None,
    )


def looks_like_usage(names: Iterable[str]) -> bool:
    """Whether a span that follows no convention may tell of usage all the same."""
    return any(
        any(word in name for word in _USAGE_WORDS) and not any(word in name for word in _LIMITS)
        for name in map(str.lower, names)
    )
