"""The sections about providers and what they may use."""

from collections.abc import Callable, Mapping
from functools import partial
from zoneinfo import ZoneInfo

from exporter.config import readers as read
from exporter.config.document import Invalid, T, Value
from exporter.core.budget import Budget, Weights
from exporter.core.usage import KINDS
from exporter.core.windows import Calendar, Period, Unit, parse_period

_UTC = ZoneInfo("UTC")
_DAILY = Calendar(Unit.DAY, _UTC)


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
        resolved = {}
        for alias, entry in entries.items():
            chain = [alias]
            while chain[-1] in targets and chain[-1] not in chain[:-1]:
                chain.append(targets[chain[-1]])
            if chain[-1] in chain[:-1]:
                entry.note(f"expected another name in the end, got {' -> '.join(chain)}")
            resolved[alias] = chain[-1]
        return resolved

    return read_aliases


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


def weights(base: Weights) -> Callable[[Value], Weights]:
    """What a token of each kind counts; a kind that is not named counts as in `base`."""

    def read_weights(value: Value) -> Weights:
        table = value.table(*KINDS)
        return tuple(
            table.read(kind, read.number(0, 1000), weight)
            for kind, weight in zip(KINDS, base, strict=True)
        )

    return read_weights


def budgets(base: Weights) -> Callable[[Value], tuple[Budget, ...]]:
    """The budgets of one provider: tokens per UTC day, a mapping, or a list of them."""

    def read_budget(value: Value) -> Budget:
        if not value.is_mapping:
            return Budget(read.tokens(value), _DAILY, base)
        table = value.table("tokens", "period", "timezone", "weights")
        zone = table.read("timezone", read.zone, _UTC)
        period = table.read("period", _period(zone), Calendar(Unit.DAY, zone))
        if period.rolling and "timezone" in table.entries:
            given = table.entries["timezone"]
            given.note(f"expected no time zone with a rolling period, got {given.shown}")
        return Budget(
            tokens=table.need("tokens", read.tokens, 1),
            period=period,
            weights=table.read("weights", weights(base), base),
        )

    def read_budgets(value: Value) -> tuple[Budget, ...]:
        items = value.items() if value.is_list else [value]
        if not items:
            raise Invalid("expected at least one budget", "an empty list")
        found: dict[str, Budget] = {}
        for item in items:
            budget = item.read(read_budget, None)
            if budget is not None and budget.period.name in found:
                item.note(f"expected another period, got a second budget per {budget.period.name}")
            elif budget is not None:
                found[budget.period.name] = budget
        return tuple(found.values())

    return read_budgets


def _period(zone: ZoneInfo) -> Callable[[Value], Period]:
    def read_period(value: Value) -> Period:
        text = value.word("expected a period such as day or 5h")
        try:
            return parse_period(text, zone)
        except ValueError as exc:
            raise Invalid(str(exc)) from None

    return read_period
