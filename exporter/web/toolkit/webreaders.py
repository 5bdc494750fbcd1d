"""Readers for what the web configuration's format has and ours does not."""

from collections.abc import Callable, Mapping

from exporter.config.document import T, Table, Value
from exporter.config.problems import Invalid


def text(value: Value) -> str:
    """Any scalar as written: the format's own `X-XSS-Protection: 0` is a number in YAML."""
    if value.is_mapping or value.is_list or value.tagged("null"):
        raise Invalid("expected a text")
    return value.raw


def boolean(value: Value) -> bool:
    return choice({"true": True, "false": False})(value)


def choice(choices: Mapping[str, T]) -> Callable[[Value], T]:
    def read(value: Value) -> T:
        if value.raw not in choices:
            raise Invalid(f"expected one of {', '.join(choices)}")
        return choices[value.raw]

    return read


def each(reader: Callable[[Value], T]) -> Callable[[Value], list[T]]:
    def read_all(value: Value) -> list[T]:
        found = [item.read(reader, None) for item in value.items()]
        return [one for one in found if one is not None]

    return read_all


def filled_in(table: Table) -> Table:
    """Without the keys left blank, which the format treats as absent."""
    given = {
        key: value for key, value in table.entries.items() if not value.tagged("null") and value.raw
    }
    return Table(table.value, given)
