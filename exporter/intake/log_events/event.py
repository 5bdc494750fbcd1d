"""What a tool's events are: how they are called, and what each says."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from exporter.intake.spans.convention import Attributes, Call
from exporter.intake.usage_object import count


class Refused(NamedTuple):
    """A request that was refused, or failed.

    Attributes:
        provider: as reported; empty where the event names none.
        status: HTTP status.
        model: what was asked for, empty when unknown.
        body: of the response, or what is known of it.
    """

    provider: str
    status: int
    model: str
    body: str | Mapping[str, Any] | None


Read = Callable[[Attributes], Call | Refused | str | None]
"""What an event says: a call, a refusal, why it does not count, or None where it is about neither.
Raises ValueError, with the name of the attribute, where a value is none."""


class Tool(NamedTuple):
    """A tool; all there is to know of its events.

    Attributes:
        events: name of an event -> how it is read.
        attributes: all that is looked at of them.
        scope: prefix of the name of its instrumentation scope, where it calls its events by the
            last part of their names alone.
        prefix: what is before that part.
        general: whether it is no tool's own but what any may log beside spans and metrics.
    """

    events: Mapping[str, Read]
    attributes: frozenset[str]
    scope: str = ""
    prefix: str = ""
    general: bool = False


def number(found: Attributes, name: str) -> int:
    """A number of tokens, as a number or as text: some tools send them so; 0 without.

    Raises:
        ValueError: it is none.
    """
    value = found.get(name)
    text = isinstance(value, str) and value.isdecimal() and len(value) < 17
    return count(int(value) if text else value, name)  # type: ignore[arg-type]  # it is decimal


def status(found: Attributes, *names: str) -> int:
    """An HTTP status by the first of several names in use, as a number or as text; 0 without."""
    for name in names:
        value = found.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
            return value
    return 0
