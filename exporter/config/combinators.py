"""Readers made of other readers."""

from collections.abc import Callable

from exporter.config.document import T, Value
from exporter.config.problems import Invalid


def every(reader: Callable[[Value], T]) -> Callable[[Value], tuple[T, ...]]:
    """The same reader for every item of a list."""

    def read_all(value: Value) -> tuple[T, ...]:
        found = [item.read(reader, None) for item in value.items()]
        return tuple(one for one in found if one is not None)

    return read_all


def discreet(reader: Callable[[Value], T]) -> Callable[[Value], T]:
    """The same reader for a place where a secret may stand, which no message may show."""

    def read(value: Value) -> T:
        try:
            return reader(value)
        except Invalid as exc:
            raise Invalid(str(exc), "something else") from None

    return read
