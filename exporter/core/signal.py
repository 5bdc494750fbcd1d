"""What a provider itself said about its limits, in one vocabulary."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """What a response says about the quota behind it."""

    SUCCESS = "success"  # the provider did the work
    THROTTLED = "throttled"  # a short rate limit: slow down, the quota is not spent
    EXHAUSTED = "exhausted"  # a quota is really spent until `retry_at`
    UNKNOWN = "unknown"  # says nothing about the quota (a 400, a 500, …)


class Limit(msgspec.Struct, frozen=True, gc=False):
    """One limit as the provider reports it; None where it does not say.

    Attributes:
        name: the provider's window or unit, in snake case: `requests`, `tokens`,
            `input_tokens`, `5h`, `7d`, `tokens_month`, …
        limit: the whole, in the limit's own unit (tokens or requests).
        remaining: what is left of it.
        utilization: share used, 0 to 1 (may exceed 1 in overage).
        reset_at: Unix seconds at which it is whole again.
    """

    name: str
    limit: float | None = None
    remaining: float | None = None
    utilization: float | None = None
    reset_at: float | None = None


class Signal(msgspec.Struct, frozen=True):
    """What one response said.

    Attributes:
        provider: name of whatever has the quota.
        at: Unix seconds of the response.
        verdict: see `Verdict`.
        retry_at: Unix seconds, only with THROTTLED and EXHAUSTED; bounded to a sane future.
        limits: the limits it reported.
        detail: a few words for the log (`anthropic 7d rejected`), never a payload.
    """

    provider: str
    at: float
    verdict: Verdict
    retry_at: float | None = None
    limits: tuple[Limit, ...] = ()
    detail: str = ""
