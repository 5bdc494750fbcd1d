"""Amounts and moments as people read them."""

from datetime import UTC, datetime

from exporter.core.budget import Budget, BudgetUnit
from exporter.core.measurement import Measurement
from exporter.core.windows import DAY, HOUR, MINUTE
from exporter.plot.ticks import short

_NARROW = "\N{NARROW NO-BREAK SPACE}"
_SPACE = "\N{NO-BREAK SPACE}"


def amount(value: float, unit: BudgetUnit) -> str:
    """A few characters, without the unit where the budget beside it says it: `1.6M`, `$12.50`."""
    if unit is BudgetUnit.USD:
        dollars = value / unit.scale
        return f"${short(dollars)}" if dollars >= 10_000 else f"${dollars:,.2f}"
    return percent(value) if unit is BudgetUnit.SHARE else short(value)


def used_of_budget(one: Measurement) -> str:
    """To the last token: `1,601,933 of 2,000,000 tokens`."""
    unit = one.budget.unit
    if unit is BudgetUnit.SHARE:
        return "as the provider reports it"
    if unit is BudgetUnit.USD:
        return f"${one.used / unit.scale:,.2f} of ${one.budget.amount / unit.scale:,.2f}"
    return f"{one.used:,.0f} of {one.budget.amount:,}{_SPACE}{unit.value}"


def allowed(budget: Budget) -> str:
    """A budget in a few characters: `2M tokens`."""
    text = amount(budget.amount, budget.unit)
    return text if budget.unit is BudgetUnit.USD else f"{text}{_SPACE}{budget.unit.value}"


def configured(budget: Budget) -> str:
    """What a budget is by the configuration while an operator changed it."""
    return amount(budget.override.configured if budget.override else budget.amount, budget.unit)


def percent(share: float) -> str:
    """A share in whole percent; of what is neither nothing nor everything never 0 or 100 %."""
    whole = round(share * 100)
    if whole == 0 and share > 0:
        return f"<1{_NARROW}%"
    if whole == 100 and share < 1:
        return f">99{_NARROW}%"
    return f"{whole}{_NARROW}%"


def duration(seconds: float) -> str:
    """In its two largest units: `3 h 20 min`."""
    left = max(0, round(seconds))
    if left >= MINUTE:
        left = round(left / MINUTE) * MINUTE
    parts = []
    for size, unit in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{_SPACE}{unit}")
        if len(parts) == 2:
            break
    return _SPACE.join(parts) or f"0{_SPACE}s"


def days(count: float) -> str:
    """How long something was seen: `3 days`."""
    whole = round(count)
    return "less than a day" if count < 1 else "1 day" if whole == 1 else f"{whole} days"


def relative(at: float, now: float) -> str:
    """`in 3 h 20 min`, or `12 min ago`."""
    if abs(at - now) < 1:
        return "now"
    if at > now:
        return f"in{_SPACE}{duration(at - now)}"
    return f"{duration(now - at)}{_SPACE}ago"


def clock(at: float, now: float) -> str:
    """A moment in UTC, with its date unless it is today's."""
    moment, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    if moment.date() == today.date():
        return f"{moment:%H:%M}{_SPACE}UTC"
    form = "%a %d %b %H:%M" if abs(at - now) < 180 * DAY else "%d %b %Y %H:%M"
    return f"{moment.strftime(form)} UTC".replace(" ", _SPACE)


def iso(at: float) -> str:
    """A moment for the attribute of a `<time>`, to the second."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
