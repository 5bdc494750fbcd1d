"""The sections about what providers may use: budgets, weights and predictions."""

import re
from collections.abc import Callable, Mapping
from zoneinfo import ZoneInfo

from exporter.config import readers as read
from exporter.config.document import Table, Value
from exporter.config.problems import Invalid
from exporter.core.budget import (
    Budget,
    BudgetUnit,
    Method,
    Per,
    PredictionSettings,
    Weights,
)
from exporter.core.scope import ALTERNATIVE, is_pattern
from exporter.core.usage import KINDS
from exporter.core.windows import Calendar, Period, Unit, parse_period

_UTC = ZoneInfo("UTC")
_DAILY = Calendar(Unit.DAY, _UTC)
_UNITS = (BudgetUnit.TOKENS, BudgetUnit.REQUESTS, BudgetUnit.USD)
_KEYS = (
    *_UNITS,
    *("period", "timezone", "weights", "model", "consumer", "per", "providers", "reserve"),
    *("prediction", "labels"),
)
_RELEASE = (
    "set from_used instead: a scope then stays out until the time that was announced, and a "
    "prediction waits until that share of the budget is used"
)
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
_TAKEN = frozenset({"provider", "period", "model", "consumer", "unit", "window", "reason", "state"})


def weights(base: Weights) -> Callable[[Value], Weights]:
    """What a token of each kind counts; a kind that is not named counts as in `base`."""

    def read_weights(value: Value) -> Weights:
        table = value.table(*KINDS)
        return tuple(
            table.read(kind, read.number(0, 1000), weight)
            for kind, weight in zip(KINDS, base, strict=True)
        )

    return read_weights


def budgets(
    base: Weights, prediction: PredictionSettings, longest: int
) -> Callable[[Value], tuple[Budget, ...]]:
    """The budgets of one provider: tokens per UTC day, a mapping, or a list of them."""

    def read_budget(value: Value) -> Budget:
        if not value.is_mapping:
            return Budget(read.tokens(value), _DAILY, base, prediction=prediction)
        table = value.table(*_KEYS)
        unit, amount = _amount(table)
        zone = table.read("timezone", read.zone, _UTC)
        period = table.read("period", _period(zone), Calendar(Unit.DAY, zone))
        if period.rolling and "timezone" in table.entries:
            given = table.entries["timezone"]
            given.note(f"expected no time zone with a rolling period, got {given.shown}")
        if unit is not BudgetUnit.TOKENS and "weights" in table.entries:
            table.entries["weights"].note("expected weights with tokens only, got a mapping")
        per = table.read("per", _per, frozenset[Per]())
        for each in per:
            if each.value in table.entries and not is_pattern(table.entries[each.value].raw):
                given = table.entries[each.value]
                given.note(f"expected a pattern beside per: {each.value}, got {given.shown}")
        return Budget(
            amount=amount,
            period=period,
            weights=table.read("weights", weights(base), base),
            unit=unit,
            model=table.read("model", _patterns(longest), ""),
            consumer=table.read("consumer", _patterns(longest), ""),
            per=per,
            pool=table.read("providers", _pool(longest), ()),
            reserve=table.read("reserve", _reserve, 0.0),
            prediction=table.read("prediction", predictions(prediction), prediction),
            labels=table.read("labels", _labels, {}),
        )

    def read_budgets(value: Value) -> tuple[Budget, ...]:
        items = value.items() if value.is_list else [value]
        if not items:
            raise Invalid("expected at least one budget", "an empty list")
        found: dict[tuple[object, ...], Budget] = {}
        for item in items:
            budget = item.read(read_budget, None)
            if budget is None:
                continue
            key = (budget.period.name, budget.unit, budget.model, budget.consumer, budget.per)
            if key in found:
                item.note(f"expected another period or scope, got a second budget {_shown(budget)}")
            else:
                found[key] = budget
        return tuple(found.values())

    return read_budgets


def predictions(default: PredictionSettings) -> Callable[[Value], PredictionSettings]:
    """What is done about the future; what is not said is as in `default`."""

    def read_prediction(value: Value) -> PredictionSettings:
        table = value.table("method", "exhausted_at", "from_used", "release_below")
        enter = table.read("exhausted_at", _exhausted_at, default.exhausted_at)
        near, leave = default.from_used, default.release_below
        if "release_below" in table.entries:
            near, leave = 0.0, table.read("release_below", read.number(0, 1), leave)
            table.entries["release_below"].deprecate(_RELEASE)
            if "from_used" in table.entries:
                table.value.note("expected one of from_used and release_below, got both")
        if "from_used" in table.entries:
            near, leave = table.read("from_used", read.number(0, 1), near), None
        if enter is not None and leave is not None and leave >= enter:
            table.value.note(
                f"expected release_below to be less than exhausted_at ({enter:g}), got {leave:g}"
            )
        method = table.read("method", read.choice(Method), default.method)
        return PredictionSettings(method, enter, near, leave)

    return read_prediction


def _exhausted_at(value: Value) -> float | None:
    if value.tagged("bool", "str") and value.raw.lower() in ("off", "false", "no"):
        return None
    try:
        return read.number(0.5, 1)(value)
    except Invalid as exc:
        raise Invalid(f"{exc}, or off") from None


def _amount(table: Table) -> tuple[BudgetUnit, int]:
    given = [unit for unit in _UNITS if unit.value in table.entries]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        table.value.note(f"expected exactly one of {', '.join(_UNITS)}, got {found}")
        if not given:
            return BudgetUnit.TOKENS, 1
    unit = given[0]
    reader = read.dollars if unit is BudgetUnit.USD else read.tokens
    return unit, table.read(unit.value, reader, 1)


def _patterns(longest: int) -> Callable[[Value], str]:
    """A name, a pattern, or a list of them."""

    def read_one(value: Value) -> str:
        text = value.text("expected a name, a pattern, or a list of them")
        if ALTERNATIVE in text:
            raise Invalid(f"expected a list instead of {ALTERNATIVE}")
        if not 1 <= len(text) <= longest:
            raise Invalid(f"expected a name or pattern of 1 to {longest} characters")
        if not text.isprintable() or text != text.strip():
            raise Invalid("expected printable characters without space around them", repr(text))
        return text

    def read_patterns(value: Value) -> str:
        items = value.items() if value.is_list else [value]
        if not items:
            raise Invalid("expected at least one name or pattern", "an empty list")
        found = [item.read(read_one, "") for item in items]
        return ALTERNATIVE.join(sorted(set(found)))

    return read_patterns


def _per(value: Value) -> frozenset[Per]:
    return frozenset([read.choice(Per)(value)])


def _pool(longest: int) -> Callable[[Value], tuple[str, ...]]:
    def read_pool(value: Value) -> tuple[str, ...]:
        names = [item.read(read.name(longest), "") for item in value.items()]
        if not names:
            raise Invalid("expected the providers that share the budget", "an empty list")
        return tuple(dict.fromkeys(names))

    return read_pool


def _reserve(value: Value) -> float:
    expected = "expected a share such as 10%, from 0% to 90%"
    text = value.raw if value.tagged("str", "int", "float") else ""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise Invalid(expected) from None
    if not 0 <= share <= 0.9:
        raise Invalid(expected)
    return share


def _labels(value: Value) -> Mapping[str, str]:
    entries = value.entries()
    for name, entry in entries.items():
        if not _LABEL.fullmatch(name) or name in _TAKEN or name.startswith("__"):
            entry.note(f"expected a label name that is not used already, got {name!r}")
    return {name: entry.read(_label, "") for name, entry in entries.items()}


def _label(value: Value) -> str:
    return value.text("expected a quoted text")


def _shown(budget: Budget) -> str:
    whose = "".join(f" for {part}" for part in (budget.model, budget.consumer) if part)
    per = "".join(f" per {one}" for one in sorted(budget.per))
    return f"of {budget.unit} per {budget.period.name}{whose}{per}"


def _period(zone: ZoneInfo) -> Callable[[Value], Period]:
    def read_period(value: Value) -> Period:
        text = value.word("expected a period such as day or 5h")
        try:
            return parse_period(text, zone)
        except ValueError as exc:
            raise Invalid(str(exc)) from None

    return read_period
