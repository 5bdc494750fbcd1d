"""Daily token budgets as a library: who will spend more than a day's worth by midnight, UTC."""

from datetime import UTC, date, datetime, time, timedelta
from threading import Lock

from exporter.quota.state_store import StateStore, in_utc, named

KEPT_DAYS = 8
"""Days with usage that are remembered per provider: today, and a week for late reports."""

_DAY = timedelta(days=1)
_TICK = timedelta.resolution


class BurnRateTracker:
    """What each provider used in a UTC day, against a daily budget. Safe for concurrent use.

    Usage counts in the day of its own `now`. Time can go backwards (late reports, stepped
    clocks), hence earlier days are remembered too: the newest `KEPT_DAYS` of each provider.
    Usage older than all of those counts nowhere.

    Naive datetimes, empty provider names, and tokens that are negative or no integer raise
    ValueError and change nothing.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._budgets: dict[str, int] = {}
        self._used: dict[str, dict[date, int]] = {}

    def set_budget(self, provider: str, tokens: int) -> None:
        """Set or replace the tokens per day; not a positive number turns prediction off."""
        provider, tokens = named(provider), _integer(tokens)
        with self._lock:
            if tokens > 0:
                self._budgets[provider] = tokens
            else:
                self._budgets.pop(provider, None)

    def budget(self, provider: str) -> int:
        """Return the tokens per day, 0 when there is no budget."""
        provider = named(provider)
        with self._lock:
            return self._budgets.get(provider, 0)

    def record(self, provider: str, tokens: int, now: datetime) -> tuple[bool, datetime | None]:
        """Add `tokens` used at `now`; return whether the day's budget is exhausted, until when.

        It is when it is spent, or when the day so far, continued in a straight line, ends above
        it. It then is until the end of the day of `now`. Otherwise the answer is (False, None),
        as it always is without a budget.
        """
        provider, tokens, now = named(provider), _integer(tokens), in_utc("now", now)
        if tokens < 0:
            raise ValueError(f"tokens: expected 0 or more, got {tokens}")
        start = datetime.combine(now.date(), time(), UTC)
        end = start + _DAY
        with self._lock:
            used = self._add(provider, tokens, now.date())
            budget = self._budgets.get(provider, 0)
        exhausted = budget > 0 and _exhausted(used, budget, now - start)
        return exhausted, end if exhausted else None

    def used(self, provider: str, now: datetime) -> int:
        """Return the tokens used in the day of `now`."""
        provider, now = named(provider), in_utc("now", now)
        with self._lock:
            return self._used.get(provider, {}).get(now.date(), 0)

    def reset(self) -> None:
        """Forget all usage; budgets stay."""
        with self._lock:
            self._used.clear()

    def _add(self, provider: str, tokens: int, day: date) -> int:
        """Return the day's new total. Expects the lock held."""
        days = self._used.setdefault(provider, {})
        used = days[day] = days.get(day, 0) + tokens
        if len(days) > KEPT_DAYS:
            del days[min(days)]
        return used


def observe_token_usage(
    burn: BurnRateTracker, store: StateStore, provider: str, tokens: int, now: datetime
) -> None:
    """Record usage, and mark the provider in `store` when that exhausts its day's budget.

    The mark replaces an earlier one, be it longer or shorter. Nothing here marks a provider
    available: it becomes so when the day is over.
    """
    exhausted, retry_after = burn.record(provider, tokens, now)
    if exhausted:
        store.mark_quota_exhausted(provider, retry_after)


def _exhausted(used: int, budget: int, elapsed: timedelta) -> bool:
    # Integers throughout: no rounding may decide at the limit.
    return used >= budget or used * (_DAY // _TICK) > budget * (elapsed // _TICK)


def _integer(tokens: int) -> int:
    if not isinstance(tokens, int) or isinstance(tokens, bool):
        raise ValueError(f"tokens: expected an integer, got {tokens!r}")  # noqa: TRY004 - promised
    return tokens
