"""The quota state of every scope: what changes it, who hears of it, what is to be stored."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from exporter.core.budget import PredictionSettings, Quota
from exporter.core.measure import Measurement
from exporter.core.moment import rfc3339
from exporter.core.quota_state import (
    AVAILABLE,
    Cause,
    QuotaState,
    Reason,
    State,
    View,
    transition,
)
from exporter.core.scope import Scope, is_pattern
from exporter.core.series import Series
from exporter.core.signal import Limit, Refusal, Signal, Verdict
from exporter.core.views import (
    Outlook,
    Reported,
    ScopeView,
    allowed,
    nothing_left,
    shown,
)

_WHOLE = "standing/"
_PART = "scope/"
_LIMITS = "limits/"

MAX_LIMITS = 64
"""Shown of one provider: names come from headers, and every one is a series."""

MAX_SCOPES = 1000
"""Kept of one provider beside those of budgets: names come from refusals."""

FreedAt = Callable[[Measurement, float], float]
"""When a spent budget is no longer spent, seen from a moment."""


class _StoredState(msgspec.Struct):
    """A `QuotaState` as stored, perhaps by a version that knows further reasons."""

    causes: dict[str, Cause] = msgspec.field(default_factory=dict, name="marks")
    throttle: Cause = Cause()


_state_decoder = msgspec.json.Decoder(_StoredState)
_limits_decoder = msgspec.json.Decoder(dict[str, Reported])
_scope_decoder = msgspec.json.Decoder(tuple[str, str, str])
_encode = msgspec.json.encode
_REASONS = frozenset(Reason)
_NOTHING = QuotaState()  # of most scopes, nearly always

log = logging.getLogger("exporter")


class QuotaStates:
    """The state of every scope of which there is more to say than "available".

    Not for concurrent use.

    Attributes:
        changed: documents to be stored, by name.
        noticed: is called with a scope, and the time, when something of it may have changed.
        transitions: (scope, state, reason) -> how often it came to that.
        refusals: (provider, model, why) -> how many were reported, since the process began.
    """

    def __init__(self) -> None:
        self.changed: dict[str, bytes] = {}
        self.noticed: Callable[[Scope, float], None] = lambda scope, now: None
        self.transitions: Counter[tuple[Scope, State, Reason]] = Counter()
        self.refusals: Counter[tuple[str, str, Refusal]] = Counter()
        self._states: dict[str, dict[Scope, QuotaState]] = {}
        self._seen: dict[Scope, View] = {}
        self._outlooks: dict[str, dict[Scope, Outlook]] = {}
        self._limits: dict[str, dict[str, Reported]] = {}
        self._successes: dict[str, dict[Series, float]] = {}
        self._quiet = False
        self._unknown: set[str] = set()  # reasons that were logged

    # -- as stored --

    def take(self, name: str, body: bytes, now: float) -> bool:
        """Take up a stored document; False when it is somebody else's.

        Raises:
            msgspec.MsgspecError: it is not a document of this name.
        """
        if name.startswith(_WHOLE):
            self._merge(Scope(name.removeprefix(_WHOLE)), body, now)
        elif name.startswith(_PART):
            self._merge(Scope(*_scope_decoder.decode(name.removeprefix(_PART))), body, now)
        elif name.startswith(_LIMITS):
            self._limits[name.removeprefix(_LIMITS)] = _limits_decoder.decode(body)
        else:
            return False
        return True

    def _merge(self, scope: Scope, body: bytes, now: float) -> None:
        state = self._decoded(scope, body)
        held = self._states.setdefault(scope.provider, {})
        held[scope] = held[scope].merged(state) if scope in held else state
        self.noticed(scope, now)

    def _decoded(self, scope: Scope, body: bytes) -> QuotaState:
        stored = _state_decoder.decode(body)
        for reason in stored.causes.keys() - _REASONS - self._unknown:
            self._unknown.add(reason)
            fields = {"provider": scope.provider, "reason": reason}
            log.warning("stored reason unknown to this version, skipped", extra={"fields": fields})
        known = {Reason(name): one for name, one in stored.causes.items() if name in _REASONS}
        return QuotaState(known, stored.throttle)

    def remember(self, now: float) -> None:
        """What is known now is no news."""
        for states in self._states.values():
            for scope, state in states.items():
                self._seen[scope] = state.state(now)

    def trial(self, providers: Iterable[str]) -> "QuotaStates":
        """A copy of what is known of some providers, to try out what nobody is to hear of."""
        copy = QuotaStates()
        copy._quiet = True
        for provider in providers:
            if provider in self._states:
                copy._states[provider] = self._states[provider].copy()
            if provider in self._limits:
                copy._limits[provider] = self._limits[provider].copy()
            if provider in self._successes:
                copy._successes[provider] = self._successes[provider].copy()
        return copy

    # -- what happens --

    def signal(self, signal: Signal, now: float) -> None:
        """Take in what a provider said of its quota."""
        provider, at = signal.provider, min(signal.at, now)
        if signal.limits:
            self._report(provider, signal.limits, at)
        if signal.refusal is not None and not self._quiet:
            model = signal.request_model or ("" if is_pattern(signal.model) else signal.model)
            self.refusals[provider, model, signal.refusal] += 1
        if signal.verdict is Verdict.SUCCESS:
            self.succeeded(Series(provider, signal.request_model, signal.consumer), at, now)
        elif signal.retry_at is not None:
            scope = Scope(provider, signal.model, signal.consumer)
            state = self._state(scope)
            if state is _NOTHING and len(self._states.get(provider, ())) >= MAX_SCOPES:
                scope = Scope(provider)  # rather too much than not at all
                state = self._state(scope)
            if signal.verdict is Verdict.THROTTLED:
                state = state.throttled(signal.retry_at, at, signal.detail)
            else:
                state = state.marked(
                    Reason.PROVIDER, signal.retry_at, at, signal.detail, signal.request_model
                )
                # A refusal may arrive after a success that came later.
                for series, success in self._successes.get(provider, {}).items():
                    if _proves(series, scope):
                        state = state.succeeded(success, series.model)
            self._change(scope, state, now)

    def _report(self, provider: str, limits: Iterable[Limit], at: float) -> None:
        reported = self._limits.setdefault(provider, {})
        for limit in limits:
            if limit.name not in reported or reported[limit.name][1] <= at:
                reported[limit.name] = (limit, at)
        while len(reported) > MAX_LIMITS:
            del reported[min(reported, key=lambda name: reported[name][1])]
        self.changed[_LIMITS + provider] = _encode(reported)

    def succeeded(self, series: Series, at: float, now: float) -> None:
        """A request of `series` was answered at `at`."""
        successes = self._successes.setdefault(series.provider, {})
        successes[series] = max(at, successes.get(series, 0.0))
        for scope, state in list(self._states.get(series.provider, {}).items()):
            if _proves(series, scope):
                self._change(scope, state.succeeded(at, series.model), now)

    def overrule(
        self, scope: Scope, state: State | None, retry_at: float, now: float, detail: str = ""
    ) -> None:
        """An operator says that `scope` is exhausted until `retry_at`, or available; None takes
        the last word back. What is said of a whole provider's availability holds for its parts.
        """
        if state is State.QUOTA_EXHAUSTED:
            held = self._state(scope)
            said = held.marked(Reason.OPERATOR, retry_at, now, detail or "set by an operator")
            self._change(scope, said, now)
            return
        parts = list(self._states.get(scope.provider, ())) if scope.whole else [scope]
        for one in dict.fromkeys([scope, *parts]):
            held = self._state(one)
            changed = held.automatic(now) if state is None else held.available(now, detail)
            self._change(one, changed, now)

    def quotas_of(
        self, providers: Iterable[str], measured: Iterable[Measurement]
    ) -> dict[Scope, list[Measurement]]:
        """Every scope of `providers` that has a state or a quota, with its quotas as measured."""
        by_scope: dict[Scope, list[Measurement]] = {}
        for name in providers:
            by_scope.update((scope, []) for scope in self._states.get(name, ()))
        for one in measured:
            for scope in one.quota.scopes:
                by_scope.setdefault(scope, []).append(one)
        return by_scope

    def settle(
        self, scope: Scope, measured: Sequence[Measurement], freed_at: FreedAt, now: float
    ) -> None:
        """Hold the state of a scope against the measurements of all its quotas."""
        self._foresee(scope, measured, now)
        before = self._state(scope)
        spent = [one for one in measured if one.exceeded]
        if before is _NOTHING and not spent and not any(map(_alarming, measured)):
            return  # as nearly always: spare the rest
        until = max((freed_at(one, now) for one in spent), default=None)
        detail = ", ".join(
            f"{shown(one.budget, one.used)} of {allowed(one.quota)}" for one in spent
        )
        state = before.with_budget(until, now, detail)
        self._change(scope, _predicted(state, measured, now), now)

    def spend(self, quota: Quota, used: float, until: float, now: float) -> None:
        """A quota has just been spent, until a time at which it will not be any more."""
        for scope in quota.scopes:
            state = self._state(scope)
            held = state.causes.get(Reason.BUDGET)
            ends = until if held is None else max(until, held.retry_at)
            detail = f"{shown(quota.budget, used)} of {allowed(quota)}"
            self._change(scope, state.with_budget(ends, now, detail), now)

    def _foresee(self, scope: Scope, measured: Sequence[Measurement], now: float) -> None:
        outlooks = self._outlooks.setdefault(scope.provider, {})
        if measured:
            likeliest = max(measured, key=lambda one: one.probability)
            outlooks[scope] = Outlook(likeliest.probability, likeliest.exhaustion_at)
        else:
            outlooks.pop(scope, None)
        self.noticed(scope, now)

    def _state(self, scope: Scope) -> QuotaState:
        return self._states.get(scope.provider, {}).get(scope, _NOTHING)

    def _change(self, scope: Scope, state: QuotaState, now: float) -> None:
        held = self._states.get(scope.provider, {}).get(scope)
        if held is None and state is _NOTHING:
            return
        if state is not held:
            self._states.setdefault(scope.provider, {})[scope] = state
            self.changed[_document(scope)] = _encode(state)
        self._notice(scope, state, now)
        self.noticed(scope, now)

    def _notice(self, scope: Scope, held: QuotaState, now: float) -> None:
        """Count and log a transition, if `scope` is in another state than it was seen in."""
        if self._quiet:
            return
        before = self._seen.get(scope, AVAILABLE)
        after = self._seen[scope] = held.state(now)
        changed = transition(before, after)
        if changed is None:
            return
        state, reason = changed
        self.transitions[scope, state, reason] += 1
        fields = {name: value for name, value in scope._asdict().items() if value}
        fields |= {"state": state.value, "reason": reason.value}
        if after.retry_at is not None:
            fields["retry_after"] = rfc3339(after.retry_at)
        if after.detail:
            fields["because"] = after.detail
        log.info("state changed", extra={"fields": fields})

    def forget(self, provider: str, now: float) -> None:
        """Know nothing of `provider` any more."""
        self._outlooks.pop(provider, None)
        for scope in self._states.pop(provider, {}):
            self._seen.pop(scope, None)
            self.changed[_document(scope)] = _encode(_NOTHING)
            self.noticed(scope, now)
        self._successes.pop(provider, None)
        if self._limits.pop(provider, None) is not None:
            self.changed[_LIMITS + provider] = _encode({})

    # -- what is known --

    def providers(self) -> Iterable[str]:
        """Everybody of whom something is known."""
        return {name for name in (*self._states, *self._limits) if self.knows(name)}

    def knows(self, provider: str) -> bool:
        """Whether something is known of `provider`."""
        states = self._states.get(provider, {}).values()
        return any(state != _NOTHING for state in states) or bool(self._limits.get(provider))

    def scope(self, scope: Scope, now: float) -> ScopeView:
        """One scope at one moment, by its own causes."""
        state = self._state(scope)
        return ScopeView(
            scope,
            state.state(now),
            state.pending_since(now) is not None,
            state.throttled_until(now),
            state.override(now),
            self._outlooks.get(scope.provider, {}).get(scope, Outlook()),
        )

    def parts(self, provider: str, now: float) -> list[ScopeView]:
        """The models and consumers of a provider that have a state or a quota of their own."""
        known = {**self._states.get(provider, {}), **self._outlooks.get(provider, {})}
        return [self.scope(scope, now) for scope in sorted(known) if not scope.whole]

    def whole(self, provider: str, models: Collection[str], now: float) -> ScopeView:
        """A provider as a whole: out when nothing of it can be had.

        Args:
            models: those that it is known to be used for.
        """
        whole = self.scope(Scope(provider), now)
        if whole.view.state is State.AVAILABLE and len(self._states.get(provider, ())) > 1:
            view = nothing_left(self.parts(provider, now), models)
            whole = msgspec.structs.replace(whole, view=view)
        return whole

    def limits(self, provider: str) -> Mapping[str, Reported]:
        """What a provider last reported of its limits, by name."""
        return self._limits.get(provider, {}).copy()

    def applying(self, asked: Scope, now: float) -> Iterator[ScopeView]:
        """Every scope that a request for a model by a consumer falls into."""
        provider, model, consumer = asked
        for one in {**self._states.get(provider, {}), **self._outlooks.get(provider, {})}:
            if one.covers(model, consumer):
                yield self.scope(one, now)

    def pending(self, now: float) -> dict[str, float]:
        """Providers that wait for a success as a whole, and since when (Unix seconds)."""
        times = {
            name: states[Scope(name)].pending_since(now)
            for name, states in self._states.items()
            if Scope(name) in states
        }
        return {name: since for name, since in times.items() if since is not None}


def _document(scope: Scope) -> str:
    """The name under which the state of a scope is stored."""
    return _WHOLE + scope.provider if scope.whole else _PART + _encode(scope).decode()


def _proves(series: Series, scope: Scope) -> bool:
    """Whether a success of `series` says something of `scope`."""
    return (
        (not scope.model or bool(series.model))
        and (not scope.consumer or bool(series.consumer))
        and scope.covers(series.model, series.consumer)
    )


def _alarming(one: Measurement) -> bool:
    enough = one.budget.prediction.exhausted_at
    return enough is not None and one.probability >= enough


def _predicted(state: QuotaState, measured: Sequence[Measurement], now: float) -> QuotaState:
    """Hold a state against the likeliest exhaustion that has not come yet."""
    held = state.causes.get(Reason.PREDICTED)
    live = held is not None and held.live(now)

    def excess(one: Measurement) -> float:
        """By how much a forecast is beyond the threshold that is set for it."""
        settings = one.budget.prediction
        enter = settings.exhausted_at or 0.0
        return one.probability - (settings.release_below if live else enter)

    ahead = [
        one
        for one in measured
        if not one.exceeded and one.budget.prediction.exhausted_at is not None
    ]
    if not ahead:
        return state.with_prediction(None, None, now)
    worst = max(ahead, key=lambda one: (excess(one), one.probability))
    if not worst.budget.period.rolling:
        until = worst.window.end
    elif held is not None and live:
        until = held.retry_at  # a rolling window has no end of its own: keep to the first
    else:
        until = now + (worst.window.end - worst.window.start)
    detail = (
        f"probability {worst.probability:.3f}, projected {shown(worst.budget, worst.median)} of "
        f"{allowed(worst.quota)}"
    )
    settings: PredictionSettings = worst.budget.prediction
    return state.with_prediction(
        worst.probability,
        until,
        now,
        enter=settings.exhausted_at or 1.0,
        leave=settings.release_below,
        detail=detail,
    )
