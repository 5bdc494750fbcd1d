"""The quota state of every scope: what changes it, who hears of it, what is to be stored."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from exporter.core import budget_causes
from exporter.core.budget import Quota
from exporter.core.budget_causes import FreedAt
from exporter.core.clock import stamped_ahead
from exporter.core.measurement import Measurement
from exporter.core.outages import Outages
from exporter.core.quota_state import QuotaState, Reason, State
from exporter.core.scope import Scope, is_pattern
from exporter.core.series import Series
from exporter.core.signal import Refusal, Signal, Verdict
from exporter.core.views import Outlook
from exporter.quota_states.documents import (
    OutagesDocument,
    StateDocument,
    limits_document,
    outages_document,
    read,
    state_document,
)
from exporter.quota_states.known import KnownStates
from exporter.quota_states.transitions import Transitions

MAX_SCOPES = 1000
"""Kept of one provider beside those of budgets: names come from refusals."""

log = logging.getLogger("exporter")

_probability = attrgetter("probability")


class QuotaStates(KnownStates):
    """The state of every scope of which there is more to say than "available".

    Not for concurrent use.

    Attributes:
        changed: documents to be stored, by name.
        outages: when each scope was out.
        noticed: is called with a scope, and the time, when something of it may have changed.
        forgot: is called with a provider that another replica forgot, and what was said up to when.
        transitions: (scope, state, reason) -> how often it came to that.
        refusals: (provider, model, why) -> how many were reported, since the process began.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changed: dict[str, bytes] = {}
        self.outages = Outages()
        self.noticed: Callable[[Scope, float], None] = lambda scope, now: None
        self.forgot: Callable[[str, float], None] = lambda provider, until: None
        self.refusals: Counter[tuple[str, str, Refusal]] = Counter()
        self._successes: dict[str, dict[Series, float]] = {}
        self._noticing = Transitions()
        self.transitions = self._noticing.counts
        self._quiet = False
        self._unknown: set[str] = set()  # reasons that were logged

    # -- as stored --

    def load(self, name: str, body: bytes, now: float) -> bool:
        """Take up a stored document; False when it is somebody else's.

        Raises:
            msgspec.MsgspecError: it is not a document of this name.
        """
        document = read(name, body)
        if document is None:
            return False
        if isinstance(document, StateDocument):
            self._merge(document, now)
        elif isinstance(document, OutagesDocument):
            scope, spans = document
            forgotten = self._forgotten.get(scope.provider, 0.0)
            self.outages.put(scope, tuple(span for span in spans if span[0] > forgotten))
        else:
            forgotten = self._forgotten.get(document.provider, 0.0)
            self.reported.load(document.provider, document.limits, forgotten, now)
        return True

    def _merge(self, document: StateDocument, now: float) -> None:
        scope, state, unknown = document
        for reason in unknown - self._unknown:
            self._unknown.add(reason)
            fields = {"provider": scope.provider, "reason": reason}
            log.warning("stored reason unknown to this version, skipped", extra={"fields": fields})
        if scope.whole and state.forgotten > self._forgotten.get(scope.provider, 0.0):
            self._forget(scope.provider, state.forgotten, now)
            self.forgot(scope.provider, state.forgotten)
        merged = self._state(scope).merged(state)
        if merged.known:
            self._states.setdefault(scope.provider, {})[scope] = merged
        self.noticed(scope, now)

    def remember(self, now: float) -> None:
        """What is known now is no news."""
        for states in self._states.values():
            for scope, state in states.items():
                self._noticing.remember(scope, state.state(now))

    def trial(self, providers: Iterable[str]) -> "QuotaStates":
        """A copy of what is known of some providers, to try out what nobody is to hear of."""
        copy = QuotaStates()
        copy._quiet = True
        copy._forgotten = self._forgotten
        copy.outages = self.outages.copy()
        for provider in providers:
            if provider in self._states:
                copy._states[provider] = self._states[provider].copy()
            copy.reported.copy_from(self.reported, provider)
            if provider in self._successes:
                copy._successes[provider] = self._successes[provider].copy()
        return copy

    # -- what happens --

    def signal(self, signal: Signal, now: float) -> None:
        """Take in what a provider said of its quota."""
        provider, at = signal.provider, min(signal.at, now)
        if signal.limits:
            later = max(at, math.nextafter(self._forgotten.get(provider, 0.0), math.inf))
            reported = self.reported.report(provider, signal.limits, later, now)
            self._store(limits_document(provider, reported))
            self.noticed(Scope(provider), now)
        if signal.refusal is not None and not self._quiet:
            model = signal.request_model or ("" if is_pattern(signal.model) else signal.model)
            self.refusals[provider, model, signal.refusal] += 1
        if signal.verdict is Verdict.SUCCESS:
            self.succeeded(Series(provider, signal.request_model, signal.consumer), at, now)
        elif signal.retry_at is not None:
            scope = Scope(provider, signal.model, signal.consumer)
            state = self._state(scope)
            if not state.known and len(self._states.get(provider, ())) >= MAX_SCOPES:
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
                    if _proves(series, scope) and not stamped_ahead(success, now):
                        state = state.succeeded(success, series.model)
            self._change(scope, state, now)

    def succeeded(self, series: Series, at: float, now: float) -> None:
        """A request of `series` was answered at `at`."""
        successes = self._successes.setdefault(series.provider, {})
        before = successes.get(series, 0.0)
        if before <= at or stamped_ahead(before, now):
            successes[series] = at
        states = self._states.get(series.provider)
        if not states:  # as nearly always: spare the rest
            return
        for scope, state in list(states.items()):
            if _proves(series, scope):
                self._change(scope, state.succeeded(at, series.model, now), now)

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

    def settle(
        self, scope: Scope, measured: Sequence[Measurement], freed_at: FreedAt, now: float
    ) -> None:
        """Hold the state of a scope against the measurements of all its quotas."""
        self._foresee(scope, measured, now)
        self._change(scope, budget_causes.settled(self._state(scope), measured, freed_at, now), now)

    def spend(self, quota: Quota, used: float, until: float, now: float) -> None:
        """A quota has just been spent, until a time at which it will not be any more."""
        for scope in quota.scopes:
            state = budget_causes.spent(self._state(scope), quota, used, until, now)
            self._change(scope, state, now)

    def _foresee(self, scope: Scope, measured: Sequence[Measurement], now: float) -> None:
        outlooks = self._outlooks.setdefault(scope.provider, {})
        before, after = outlooks.pop(scope, None), None
        if measured:
            likeliest = max(measured, key=_probability)
            after = outlooks[scope] = Outlook(likeliest.probability, likeliest.exhaustion_at)
        if after != before:
            self.noticed(scope, now)

    def _change(self, scope: Scope, state: QuotaState, now: float) -> None:
        held = self._states.get(scope.provider, {}).get(scope)
        if held is None and not state.known:
            return
        if state is not held:
            self._states.setdefault(scope.provider, {})[scope] = state
            self._store(state_document(scope, state))
        view = state.state(now)
        if self.outages.note(scope, view.retry_at, now):
            self._store(outages_document(scope, self.outages.of(scope)))
        if not self._quiet:
            self._noticing.notice(scope, view)
        self.noticed(scope, now)

    def _store(self, document: tuple[str, bytes]) -> None:
        name, body = document
        self.changed[name] = body

    def forget(self, provider: str, now: float) -> None:
        """Know nothing of `provider` any more, and let nobody else remember what was said."""
        states = self._states.get(provider, {})
        said = [state.said_at for state in states.values()]
        said += [report.at for report in self.reported.of(provider).values()]
        until = max(now, self._forgotten.get(provider, 0.0), *said)
        nothing = QuotaState(forgotten=until)
        for scope in {Scope(provider), *states}:
            self._store(state_document(scope, nothing))
        for scope in self.outages.all():
            if scope.provider == provider:
                self._store(outages_document(scope, ()))
        self._forget(provider, until, now)

    def _forget(self, provider: str, until: float, now: float) -> None:
        self._forgotten[provider] = until
        foreseen = self._outlooks.pop(provider, {})
        self._successes.pop(provider, None)
        self.outages.forget(provider, until)
        states = self._states.pop(provider, {})
        kept = {scope: state.forgetting(until) for scope, state in states.items()}
        kept = {scope: state for scope, state in kept.items() if state.known}
        if kept:
            self._states[provider] = kept
        self.reported.load(provider, {}, until)
        for scope in states.keys() - kept.keys():
            self._noticing.forget(scope)
        for scope in sorted({Scope(provider), *states, *foreseen}):
            self.noticed(scope, now)


def _proves(series: Series, scope: Scope) -> bool:
    """Whether a success of `series` says something of `scope`."""
    return (
        (not scope.model or bool(series.model))
        and (not scope.consumer or bool(series.consumer))
        and scope.covers(series.model, series.consumer)
    )
