"""What a provider itself said about its limits, in one vocabulary."""

from enum import StrEnum

import msgspec

from exporter.core.scope import is_pattern


class Verdict(StrEnum):
    """What a response says about the quota behind it."""

    SUCCESS = "success"  # the provider did the work
    THROTTLED = "throttled"  # asked to slow down: the quota is not spent
    EXHAUSTED = "exhausted"  # a quota is really spent until `retry_at`
    UNKNOWN = "unknown"  # says nothing about the quota (a 400, a 500, …)


class Refusal(StrEnum):
    """Why a provider refused a request."""

    QUOTA = "quota"  # an amount per hour or longer, or of a plan, is spent
    RATE = "rate"  # too much at once, or within a minute
    BILLING = "billing"  # money: a balance is empty, a spend limit is reached
    OVERLOAD = "overload"  # the provider has no capacity left, whoever asks


class Limit(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One limit as the provider reports it; None or empty where it does not say.

    Attributes:
        name: the provider's window or unit, in snake case: `requests`, `tokens`,
            `input_tokens`, `5h`, `7d`, `tokens_month`, …
        limit: the whole, in the limit's own unit.
        remaining: what is left of it.
        utilization: share used, 0 to 1 (may exceed 1 in overage).
        reset_at: Unix seconds at which it is whole again.
        unit: `tokens`, `requests`, `usd`, or `share` where only the utilization is known.
        model: name, or shell pattern, of the models it is about; empty: all of the provider.
        window: seconds that it is for (604800: a week); None when unknown, or when it never
            starts over, as credits do.
        refills: it comes back all the time, and `reset_at` is when all of it has.
    """

    name: str
    limit: float | None = None
    remaining: float | None = None
    utilization: float | None = None
    reset_at: float | None = None
    unit: str = ""
    model: str = ""
    window: float | None = None
    refills: bool = False

    @property
    def key(self) -> str:
        """What tells it from the other limits of its provider: its name, and where that is the
        same for several models, the model's."""
        named = self.model and not is_pattern(self.model)
        return f"{self.name}/{self.model}" if named else self.name


class Signal(msgspec.Struct, frozen=True):
    """What one response said.

    Attributes:
        provider: name of whatever has the quota.
        at: Unix seconds of the response.
        verdict: see `Verdict`.
        retry_at: Unix seconds, only with THROTTLED and EXHAUSTED; bounded to a sane future.
        limits: the limits it reported.
        detail: a few words for the log (`anthropic 7d rejected`), never a payload.
        model: name, or shell pattern, of the models that a refusal is about; empty: all of the
            provider.
        consumer: whom a refusal is about, where the provider limits each of them by itself (a
            project of OpenAI); empty: everybody.
        request_model: the model that was asked for, where the signal says so; empty: unknown.
        refusal: why the provider refused; None when it did not, or for no such reason.
    """

    provider: str
    at: float
    verdict: Verdict
    retry_at: float | None = None
    limits: tuple[Limit, ...] = ()
    detail: str = ""
    model: str = ""
    consumer: str = ""
    request_model: str = ""
    refusal: Refusal | None = None
