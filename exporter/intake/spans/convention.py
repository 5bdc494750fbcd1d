"""What a convention of spans is: how it is recognised, and what a span of it says of one call."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from exporter.core.usage import ReportedCall, Tokens
from exporter.intake.usage_object import MAX_DOLLARS, count, nano_usd

NOT_INFERENCE = "not_inference"
"""Why a span is not counted that stands around calls (of an agent, a chain, a tool)."""

CACHE_HIT = "cache_hit"
"""Why a call is not counted that a gateway answered out of its own cache."""

LIBRARY = "otel.scope.name"
"""The attribute with the name of the instrumentation scope."""

Attributes = Mapping[str, Any]
"""Attributes of a span with plain values, by name, `LIBRARY` among them."""


class Call(NamedTuple):
    """One call of a model.

    Attributes:
        provider: as reported; empty where the span names none.
        model: what was asked for; empty where that is not said.
        tokens: by disjoint kind.
        answered: the name of the model that answered, where that is said.
        identity: of the response, empty when unknown.
        cost_nano_usd: what it cost in whole nano-US-dollars; None when not said.
        attributes: what rules and consumers may look at: `team`, `key_alias`, `key_hash`,
            `end_user`.
        session: that it belongs to, empty when unknown.
        reason: why it does not count, although it is a call; empty: it does.
    """

    provider: str
    model: str
    tokens: Tokens
    answered: str = ""
    identity: str = ""
    cost_nano_usd: int | None = None
    attributes: Mapping[str, str] = MappingProxyType({})
    session: str = ""
    reason: str = ""

    def reported_by(self, reporter: str) -> ReportedCall:
        """What of it others may name, too."""
        return reported(reporter, self.identity, self.session, self.tokens)


def reported(
    reporter: str, identity: str, session: str, tokens: Tokens, *others: str
) -> ReportedCall:
    """A call by its ids, and by its session together with what it used."""
    together = f"{session}/{'/'.join(map(str, tokens))}" if session else ""
    return ReportedCall(reporter, tuple(filter(None, (identity, *others, together))))


class Convention(NamedTuple):
    """A convention; all there is to know of it.

    Attributes:
        name: what people call it.
        marks: attributes of which one is enough to tell that a span follows it.
        attributes: what else `read` looks at.
        read: the call that a span tells of, why it is not counted, or None where it tells of no
            usage. Raises ValueError, with the name of the attribute, where a value is none.
        library: beginning of the names of the instrumentation scopes that follow it; where it is
            given, a span needs it beside a mark.
    """

    name: str
    marks: frozenset[str]
    attributes: frozenset[str]
    read: Callable[[Attributes], Call | str | None]
    library: str = ""


def text(found: Attributes, *names: str) -> str:
    """The first of several names for one text that is in use, or an empty one."""
    return next((str(found[name]) for name in names if found.get(name)), "")


def largest(found: Attributes, names: tuple[str, ...]) -> int:
    """The largest of several names for one number of tokens: those not in use are absent or 0.

    Raises:
        ValueError: one is not a number of tokens.
    """
    return max(count(found.get(name), name) for name in names)


def dollars(found: Attributes, *names: str) -> int | None:
    """A cost in whole nano-US-dollars, by the first name in use; None where there is none, or 0:
    libraries say that of models they have no price for."""
    for name in names:
        value = found.get(name)
        if isinstance(value, int | float) and 0 < value <= MAX_DOLLARS:
            return nano_usd(value, name)
    return None
