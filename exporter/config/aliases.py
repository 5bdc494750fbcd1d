"""Names of providers in the configuration, and their other names."""

from collections.abc import Callable, Mapping
from functools import partial

from exporter.config import readers as read
from exporter.config.document import T, Value
from exporter.config.problems import Invalid

_SHOWN_CHAIN = 8  # names


def aliases(longest: int) -> Callable[[Value], Mapping[str, str]]:
    """Reported name -> the name it counts under, at the end of a chain."""

    def read_alias(alias: str, value: Value) -> str:
        read.check_name(alias, longest)
        return read.name(longest)(value)

    def read_aliases(value: Value) -> Mapping[str, str]:
        entries = value.entries()
        targets = {
            alias: entry.read(partial(read_alias, alias), "") for alias, entry in entries.items()
        }
        resolved: dict[str, str] = {}
        for alias, entry in entries.items():
            chain = {alias: None}
            end = targets[alias]
            while end in targets and end not in resolved and end not in chain:
                chain[end] = None
                end = targets[end]
            end = resolved.get(end, end)
            resolved.update(dict.fromkeys(chain, end))
            if end in targets:  # as no name is at which a chain ends
                entry.note(f"expected another name in the end, got {_chain(alias, targets)}")
        return resolved

    return read_aliases


def _chain(alias: str, targets: Mapping[str, str]) -> str:
    """The names that an alias leads to, up to one that comes again."""
    shown = [alias]
    while len(shown) <= _SHOWN_CHAIN and shown[-1] not in shown[:-1]:
        shown.append(targets[shown[-1]])
    if shown[-1] not in shown[:-1]:
        shown[-1] = "…"
    return " -> ".join(shown)


def by_provider(
    reader: Callable[[Value], T], longest: int, aliases: Mapping[str, str]
) -> Callable[[Value], Mapping[str, T]]:
    """A value for each provider; they are called by their names, not by aliases."""

    def read_one(provider: str, value: Value) -> T:
        read.check_name(provider, longest)
        if provider in aliases:
            raise Invalid(f"expected the name {aliases[provider]}", f"its alias {provider}")
        return reader(value)

    def read_providers(value: Value) -> Mapping[str, T]:
        found = {
            provider: entry.read(partial(read_one, provider), None)
            for provider, entry in value.entries().items()
        }
        return {provider: one for provider, one in found.items() if one is not None}

    return read_providers
