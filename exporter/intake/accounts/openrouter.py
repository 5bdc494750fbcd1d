"""OpenRouter's own word on a key (https://openrouter.ai/docs/api/api-reference/api-keys/get-current-key).

Its days, weeks (from Monday) and months are those of UTC. It tells the use of the running day only.
"""

from collections.abc import Iterator
from zoneinfo import ZoneInfo

from exporter.core.daily_use import DAY_SECONDS
from exporter.core.provider_count import DayCount
from exporter.core.signal import Limit
from exporter.core.windows import Calendar, Unit
from exporter.intake.accounts.reading import AccountError, Page, Question, amount, as_object, body
from exporter.intake.signals.values import number

URL = "https://openrouter.ai"

FREE_MODELS = "*:free"
"""Their names, by which alone the daily limit on requests goes
(https://openrouter.ai/docs/api-reference/limits)."""

_RESETS = {"daily": Unit.DAY, "weekly": Unit.WEEK, "monthly": Unit.MONTH}
_UTC = ZoneInfo("UTC")


def questions(project: str, now: float) -> tuple[Question, ...]:
    """One: about the key that asks."""
    return (Question("/api/v1/key", (), _key),)


def _key(data: bytes, now: float) -> Page:
    found = as_object(body(data).get("data"))
    if "limit" not in found:
        raise AccountError("expected a limit, or null")
    # What it charges, as `usage.cost` of its responses; what a provider charges to a key of one's
    # own (`byok_usage_daily`) is neither in this nor in that.
    usd = amount(found, "usage_daily")
    today = DayCount(int(now // DAY_SECONDS), usd=usd, running=True)
    return Page(tuple(_limits(found, now)), (today,))


def _limits(found: dict[str, object], now: float) -> Iterator[Limit]:
    # The rest allows for `include_byok_in_limit`.
    whole, left = number(found["limit"]), number(found.get("limit_remaining"))
    if whole is not None and left is not None:
        reset = found.get("limit_reset")
        unit = _RESETS.get(reset) if isinstance(reset, str) else None
        if unit is None:
            yield Limit("key_credits", whole, left, unit="usd")
        else:
            window = Calendar(unit, _UTC).window(now)
            length = window.end - window.start
            yield Limit(f"key_{unit}", whole, left, reset_at=window.end, unit="usd", window=length)
    free = found.get("free_model_daily_requests")
    if isinstance(free, dict):
        whole, left = number(free.get("limit")), number(free.get("remaining"))
        if whole is not None and left is not None:
            end = (now // DAY_SECONDS + 1) * DAY_SECONDS
            yield Limit(
                "free_requests_day",
                whole,
                left,
                reset_at=end,
                unit="requests",
                model=FREE_MODELS,
                window=DAY_SECONDS,
            )
