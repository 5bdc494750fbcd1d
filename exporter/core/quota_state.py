"""Whether a provider may be used now, and why not: one provider's quota state, causes kept apart.

Every cause lives and ends on its own, so that a guess can neither hide nor shorten what a
provider said. Nothing has to run when a cause ends: it is compared with `now` when read.
"""

from enum import StrEnum
from math import inf
from typing import NamedTuple

import msgspec

from exporter.core.cause import UNSET, Cause, merged_causes
from exporter.core.clock import stamped_ahead

IN_FLIGHT = 5.0
"""Seconds after a refusal within which a success may belong to a request that was already under
way. A longer stream can still clear a cause early; the next refusal then sets it again."""


class State(StrEnum):
    AVAILABLE = "available"
    QUOTA_EXHAUSTED = "quota_exhausted"


class Reason(StrEnum):
    """Why a provider is exhausted, the strongest evidence first."""

    OPERATOR = "operator"  # a person said so
    PROVIDER = "provider"  # the provider refused and named its quota
    BUDGET = "budget"  # our own count reached a configured budget
    PREDICTED = "predicted"  # the forecast says that a budget will be reached


class View(NamedTuple):
    """What a router is told.

    `reason`, `retry_at` (Unix seconds) and `detail` belong to the exhausted state only.
    """

    state: State
    reason: Reason | None = None
    retry_at: float | None = None
    detail: str = ""


AVAILABLE = View(State.AVAILABLE)


class Override(NamedTuple):
    """What an operator said, while it holds.

    Attributes:
        state: what was said.
        until: Unix seconds at which it ends: of "available", when the causes it silenced do.
        detail: why, in the operator's words.
    """

    state: State
    until: float
    detail: str


class QuotaState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything known of one provider's quota; methods return the changed value, or itself.

    A method that changes nothing returns `self`, so that `after is before` saves a write.

    Attributes:
        causes: the last word on each cause, to be stored and merged cause by cause. Not mutated.
        throttle: the provider's last short rate limit, which does not exhaust its quota.
        forgotten: Unix seconds; nothing said up to then counts, whoever still remembers it.
    """

    causes: dict[Reason, Cause] = msgspec.field(default_factory=dict, name="marks")
    throttle: Cause = UNSET
    forgotten: float = 0.0

    # -- what it means --

    def state(self, now: float) -> View:
        """Exhausted while any cause lives; the strongest one is the reason.

        `retry_at` is the latest end among the live causes, since the provider is not available
        before: except that a prediction never lengthens what stronger evidence says.
        """
        if not self.causes:
            return AVAILABLE
        live = [reason for reason in Reason if self._cause(reason).live(now)]
        if not live:
            return AVAILABLE
        ends = [self.causes[reason].retry_at for reason in live if reason is not Reason.PREDICTED]
        strongest = self.causes[live[0]]
        return View(
            State.QUOTA_EXHAUSTED, live[0], max(ends, default=strongest.retry_at), strongest.detail
        )

    def pending_since(self, now: float) -> float | None:
        """Unix seconds at which the last cause ended, while no success was seen since.

        None when recovery is not pending: a cause still lives, or there is nothing to recover from.
        """
        if any(cause.live(now) for cause in self.causes.values()):
            return None
        ends = (cause.retry_at for cause in self.causes.values() if cause.elapsed(now))
        return max(ends, default=None)

    @property
    def known(self) -> bool:
        """Something was said that is not forgotten."""
        return bool(self.causes) or self.throttle != UNSET

    @property
    def said_at(self) -> float:
        """Unix seconds of the last word; 0 when there was none."""
        return max((cause.at for cause in (*self.causes.values(), self.throttle)), default=0.0)

    def throttled_until(self, now: float) -> float | None:
        """Unix seconds at which the provider's short rate limit ends; None when there is none."""
        return self.throttle.retry_at if self.throttle.live(now) else None

    def next_end(self, now: float) -> float:
        """Unix seconds at which something of it ends by itself; infinite when nothing does."""
        times = [self.throttle.retry_at]
        for cause in self.causes.values():
            times += (cause.retry_at, cause.muted_until)
        return min((at for at in times if at > now), default=inf)

    # -- what happens to it --

    def marked(
        self, reason: Reason, retry_at: float, now: float, detail: str = "", model: str = ""
    ) -> "QuotaState":
        """`reason` exhausts the scope until `retry_at`; `now` is when that was said, and `model`
        what was refused.

        Of several refusals by the provider the latest end counts; an operator's last word does.
        """
        before = self._cause(reason)
        if reason is Reason.PROVIDER and before.live(now):
            retry_at = max(retry_at, before.retry_at)
        elif retry_at == before.retry_at:
            return self
        return self._with(reason, before.followed_by(now, retry_at, detail, model))

    def throttled(self, retry_at: float, now: float, detail: str = "") -> "QuotaState":
        """The provider asks to wait until `retry_at`, its quota is not spent."""
        if retry_at <= max(now, self.throttle.retry_at):
            return self
        throttle = max(self.throttle, self._unset).followed_by(now, retry_at, detail)
        return msgspec.structs.replace(self, throttle=throttle)

    def succeeded(self, at: float, model: str = "", now: float = inf) -> "QuotaState":
        """A request for `model` ("": unknown) was answered at `at`: drops what that disproves.

        These are the causes that had ended by then, and a refusal by the provider made before
        then. It says nothing about our own budget, a prediction or an operator's word. Harmless
        to repeat: after a late refusal, repeat it with the last success known. A refusal that a
        clock stamped that was ahead of `now` was made before.
        """
        changed = self
        for reason, cause in self.causes.items():
            alike = cause.model in ("", model)
            later = at >= cause.at + IN_FLIGHT or stamped_ahead(cause.at, now)
            overtaken = reason is Reason.PROVIDER and alike and later
            if cause.retry_at and (overtaken or cause.elapsed(at)):
                changed = changed._with(reason, cause.dropped(at))
        return changed

    def available(self, now: float, detail: str = "") -> "QuotaState":
        """An operator says that it is available: drops every cause.

        Our own count and forecast stay silent until the cause they had would have ended; a new
        refusal by the provider sets one again.
        """
        changed = self
        overruled = 0.0
        for reason in Reason:
            cause = self._cause(reason)
            muted_until = None
            if reason in (Reason.BUDGET, Reason.PREDICTED):
                # A spent budget also is a certain forecast: overruling it overrules both.
                overruled = max(overruled, cause.retry_at, cause.muted_until)
                muted_until = overruled
            if cause.retry_at or (muted_until or 0.0) > cause.muted_until:
                changed = changed._with(reason, cause.dropped(now, muted_until))
        operator = changed._cause(Reason.OPERATOR)
        if overruled > now and operator.detail != detail:
            changed = changed._with(Reason.OPERATOR, operator.dropped(now, detail=detail))
        return changed

    def automatic(self, now: float) -> "QuotaState":
        """An operator takes the last word back: what we count and foresee is heard again."""
        changed = self
        for reason, cause in self.causes.items():
            if cause.muted_until > now or (reason is Reason.OPERATOR and cause.retry_at):
                retry_at = 0.0 if reason is Reason.OPERATOR else cause.retry_at
                changed = changed._with(reason, Cause(cause.after(now), retry_at))
        return changed

    def override(self, now: float) -> Override | None:
        """What an operator said, while it holds."""
        operator = self._cause(Reason.OPERATOR)
        if operator.live(now):
            return Override(State.QUOTA_EXHAUSTED, operator.retry_at, operator.detail)
        until = max((cause.muted_until for cause in self.causes.values()), default=0.0)
        return Override(State.AVAILABLE, until, operator.detail) if until > now else None

    def with_budget(
        self, exceeded_until: float | None, now: float, detail: str = ""
    ) -> "QuotaState":
        """Our own count says that budgets are spent until `exceeded_until` (None: none is).

        A budget that is no longer exceeded before its time (raised, or usage corrected) leaves no
        trace; one whose time is over stays until a success.
        """
        return self._recomputed(Reason.BUDGET, exceeded_until, now, detail)

    def is_predicted(self, now: float) -> bool:
        """A forecast says that a budget will be spent."""
        return self._cause(Reason.PREDICTED).live(now)

    def with_prediction(self, retry_at: float, now: float, detail: str = "") -> "QuotaState":
        """The forecast says that a budget will be spent, and is free again at `retry_at`."""
        return self._recomputed(Reason.PREDICTED, retry_at, now, detail)

    def without_prediction(self, now: float) -> "QuotaState":
        """No prediction is wanted, or what was predicted is off; leaves no trace."""
        return self._recomputed(Reason.PREDICTED, None, now, "")

    def merged(self, other: "QuotaState") -> "QuotaState":
        """What two replicas know together; order and repetition do not matter."""
        forgotten = max(self.forgotten, other.forgotten)
        causes = merged_causes(self.causes, other.causes, forgotten)
        throttle = max(self.throttle, other.throttle)
        return QuotaState(causes, throttle if throttle.at > forgotten else UNSET, forgotten)

    def forgetting(self, until: float) -> "QuotaState":
        """Nothing that was said up to `until` (Unix seconds) counts any more."""
        return self.merged(QuotaState(forgotten=until)) if until > self.forgotten else self

    # -- how --

    def _recomputed(
        self, reason: Reason, until: float | None, now: float, detail: str
    ) -> "QuotaState":
        cause = self._cause(reason)
        if until is None or until <= now:
            return self._with(reason, cause.dropped(now)) if cause.live(now) else self
        return self if cause.muted_until > now else self.marked(reason, until, now, detail)

    def _cause(self, reason: Reason) -> Cause:
        return self.causes.get(reason) or self._unset

    @property
    def _unset(self) -> Cause:
        """What the next word follows: it is later than what is forgotten, whatever the clock."""
        return Cause(self.forgotten) if self.forgotten else UNSET

    def _with(self, reason: Reason, cause: Cause) -> "QuotaState":
        return msgspec.structs.replace(self, causes={**self.causes, reason: cause})


def transition(before: View, after: View) -> tuple[State, Reason] | None:
    """What to count when a provider was seen as `before` and is seen as `after`, if anything.

    The reason of becoming available is the one that held it back.
    """
    if (before.state, before.reason) == (after.state, after.reason):
        return None
    reason = after.reason or before.reason
    return (after.state, reason) if reason else None
