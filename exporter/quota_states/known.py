"""What is known of every scope, at one moment."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from math import inf

import msgspec

from exporter.core.cause import UNSET
from exporter.core.measurement import Measurement
from exporter.core.quota_state import AVAILABLE, QuotaState, State
from exporter.core.reports import Report
from exporter.core.scope import Scope
from exporter.core.views import Outlook, ScopeView, nothing_left
from exporter.quota_states.limits import ReportedLimits

_NOTHING = QuotaState()  # of most scopes, nearly always
_NO_OUTLOOK = Outlook()


class KnownStates:
    """The state of every scope of which there is more to say than "available", to be asked.

    Attributes:
        reported: what providers report of their own limits.
    """

    def __init__(self) -> None:
        self._states: dict[str, dict[Scope, QuotaState]] = {}
        self._forgotten: dict[str, float] = {}  # provider -> what was said up to then
        self._outlooks: dict[str, dict[Scope, Outlook]] = {}
        self.reported = ReportedLimits()

    def _state(self, scope: Scope) -> QuotaState:
        held = self._states.get(scope.provider, {}).get(scope)
        if held is not None:
            return held
        forgotten = self._forgotten.get(scope.provider)
        return QuotaState(forgotten=forgotten) if forgotten else _NOTHING

    def quotas_of(
        self, providers: Iterable[str], measured: Iterable[Measurement]
    ) -> dict[Scope, list[Measurement]]:
        """Every scope of `providers` that has a state or a quota, with its quotas as measured."""
        by_scope: dict[Scope, list[Measurement]] = {}
        for name in providers:
            known = (*self._states.get(name, ()), *self._outlooks.get(name, ()))
            by_scope.update((scope, []) for scope in known)
        for one in measured:
            for scope in one.quota.scopes:
                by_scope.setdefault(scope, []).append(one)
        return by_scope

    def providers(self) -> Iterable[str]:
        """Everybody of whom something is known."""
        return {name for name in (*self._states, *self.reported.providers()) if self.knows(name)}

    def foreseen(self) -> set[str]:
        """Everybody of whom a quota was foreseen when it was last measured."""
        return {name for name, outlooks in self._outlooks.items() if outlooks}

    def knows(self, provider: str) -> bool:
        """Whether something is known of `provider`."""
        states = self._states.get(provider, {}).values()
        return any(state.known for state in states) or bool(self.reported.of(provider))

    def scope(self, scope: Scope, now: float) -> ScopeView:
        """One scope at one moment, by its own causes."""
        state = self._state(scope)
        outlook = self._outlooks.get(scope.provider, {}).get(scope, _NO_OUTLOOK)
        if not state.causes and state.throttle is UNSET:  # as nearly always: spare the rest
            return ScopeView(scope, AVAILABLE, False, None, None, outlook)
        return ScopeView(
            scope,
            state.state(now),
            state.pending_since(now) is not None,
            state.throttled_until(now),
            state.override(now),
            outlook,
            state.next_end(now),
        )

    def parts(self, provider: str, now: float) -> list[ScopeView]:
        """The models and consumers of a provider that have a state or a quota of their own."""
        known = {*self._states.get(provider, ()), *self._outlooks.get(provider, ())}
        return [self.scope(scope, now) for scope in sorted(known) if not scope.whole]

    def whole(
        self, provider: str, models: Callable[[str], Collection[str]], now: float
    ) -> ScopeView:
        """A provider as a whole: out when nothing of it can be had.

        Args:
            models: those that a provider is known to be used for.
        """
        whole = self.scope(Scope(provider), now)
        if whole.view.state is State.AVAILABLE and len(self._states.get(provider, ())) > 1:
            view = nothing_left(self.parts(provider, now), models(provider))
            until = min(whole.until, inf if view.retry_at is None else view.retry_at)
            whole = msgspec.structs.replace(whole, view=view, until=until)
        return whole

    def limits(self, provider: str) -> Mapping[str, Report]:
        """What a provider last reported of its limits, by key."""
        return self.reported.of(provider)

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
