"""Every provider's quota state: what changes it, who hears of it, what is to be stored."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from exporter.config import PredictionSettings
from exporter.core.drift import drift
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
from exporter.core.signal import Limit, Signal, Verdict

_STANDING = "standing/"
_LIMITS = "limits/"

MAX_LIMITS = 64
"""Shown of one provider: names come from headers, and every one is a series."""

Reported = tuple[Limit, float]
"""A limit as the provider reported it, and when (Unix seconds)."""

FreedAt = Callable[[Measurement, float], float]
"""When a spent budget is no longer spent, seen from a moment."""


class _StoredState(msgspec.Struct):
    """A `QuotaState` as stored, perhaps by a version that knows further reasons."""

    causes: dict[str, Cause] = msgspec.field(default_factory=dict, name="marks")
    throttle: Cause = Cause()


_state_decoder = msgspec.json.Decoder(_StoredState)
_limits_decoder = msgspec.json.Decoder(dict[str, Reported])
_encode = msgspec.json.encode
_REASONS = frozenset(Reason)
_NOTHING = QuotaState()  # of most providers, nearly always

log = logging.getLogger("exporter")


class ProviderView(msgspec.Struct, frozen=True, gc=False):
    """One provider at one moment.

    Attributes:
        name: canonical provider name.
        view: its state, why, and until when.
        pending: the time to retry has come, and no success was seen since.
        throttled_until: Unix seconds at which a short rate limit ends, if one is on.
        measurements: its budgets, measured.
        limits: what the provider reports of its own limits, by name.
        drift: what the provider counted beyond our own count, as a share of the limit, by name.
    """

    name: str
    view: View
    pending: bool
    throttled_until: float | None
    measurements: tuple[Measurement, ...]
    limits: Mapping[str, Reported]
    drift: Mapping[str, float]


class QuotaStates:
    """The state of every provider of which there is more to say than "available".

    Attributes:
        transitions: (provider, state, reason) -> times, since the start of the process.
        changed: documents to be stored, by name; whoever stores them takes them out.
    """

    def __init__(self) -> None:
        self.transitions: Counter[tuple[str, State, Reason]] = Counter()
        self.changed: dict[str, bytes] = {}
        self._states: dict[str, QuotaState] = {}
        self._seen: dict[str, View] = {}
        self._limits: dict[str, dict[str, Reported]] = {}
        self._successes: dict[str, float] = {}
        self._quiet = False
        self._unknown: set[str] = set()  # reasons that were logged

    # -- as stored --

    def take(self, name: str, body: bytes) -> bool:
        """Take up a stored document; False when it is somebody else's.

        Raises:
            msgspec.MsgspecError: it is not a document of this name.
        """
        if name.startswith(_STANDING):
            provider = name.removeprefix(_STANDING)
            state = self._decoded(provider, body)
            held = self._states.get(provider)
            self._states[provider] = held.merged(state) if held else state
        elif name.startswith(_LIMITS):
            self._limits[name.removeprefix(_LIMITS)] = _limits_decoder.decode(body)
        else:
            return False
        return True

    def _decoded(self, provider: str, body: bytes) -> QuotaState:
        stored = _state_decoder.decode(body)
        for reason in stored.causes.keys() - _REASONS - self._unknown:
            self._unknown.add(reason)
            fields = {"provider": provider, "reason": reason}
            log.warning("stored reason unknown to this version, skipped", extra={"fields": fields})
        known = {Reason(name): one for name, one in stored.causes.items() if name in _REASONS}
        return QuotaState(known, stored.throttle)

    def remember(self, now: float) -> None:
        """What is known now is no news."""
        for provider, state in self._states.items():
            self._seen[provider] = state.state(now)

    def trial(self, providers: Iterable[str]) -> "QuotaStates":
        """A copy of what is known of some providers, to try out what nobody is to hear of."""
        copy = QuotaStates()
        copy._quiet = True
        for provider in providers:
            if provider in self._states:
                copy._states[provider] = self._states[provider]
            if provider in self._limits:
                copy._limits[provider] = self._limits[provider].copy()
            if provider in self._successes:
                copy._successes[provider] = self._successes[provider]
        return copy

    # -- what happens --

    def signal(self, signal: Signal, now: float) -> None:
        """Take in what a provider said of its quota."""
        provider, at = signal.provider, min(signal.at, now)
        if signal.limits:
            reported = self._limits.setdefault(provider, {})
            for limit in signal.limits:
                if limit.name not in reported or reported[limit.name][1] <= at:
                    reported[limit.name] = (limit, at)
            while len(reported) > MAX_LIMITS:
                del reported[min(reported, key=lambda name: reported[name][1])]
            self.changed[_LIMITS + provider] = _encode(reported)
        if signal.verdict is Verdict.SUCCESS:
            self.succeeded(provider, at, now)
        elif signal.retry_at is not None:
            state = self._states.get(provider, _NOTHING)
            if signal.verdict is Verdict.THROTTLED:
                state = state.throttled(signal.retry_at, at, signal.detail)
            else:
                state = state.marked(Reason.PROVIDER, signal.retry_at, at, signal.detail)
                # A refusal may arrive after a success that came later.
                state = state.succeeded(self._successes.get(provider, 0.0))
            self._change(provider, state, now)

    def succeeded(self, provider: str, at: float, now: float) -> None:
        """A request to `provider` was answered at `at`."""
        self._successes[provider] = max(at, self._successes.get(provider, 0.0))
        state = self._states.get(provider)
        if state is not None:
            self._change(provider, state.succeeded(at), now)

    def overrule(self, provider: str, retry_at: float | None, now: float) -> None:
        """An operator says that `provider` is exhausted until `retry_at`, or available."""
        state = self._states.get(provider, _NOTHING)
        if retry_at is None:
            state = state.available(now)
        else:
            state = state.marked(Reason.OPERATOR, retry_at, now, "set by an operator")
        self._change(provider, state, now)

    def settle(
        self,
        provider: str,
        measured: Sequence[Measurement],
        prediction: PredictionSettings,
        freed_at: FreedAt,
        now: float,
    ) -> None:
        """Hold a state against the measurements of the provider's budgets."""
        before = self._states.get(provider)
        spent = [one for one in measured if one.exceeded]
        if before is None and not spent and not _alarming(measured, prediction):
            return  # as nearly always: spare the rest
        until = max((freed_at(one, now) for one in spent), default=None)
        detail = ", ".join(
            f"{one.used:.0f} of {one.budget.tokens} per {one.budget.period.name}" for one in spent
        )
        state = (before or _NOTHING).with_budget(until, now, detail)
        state = _predicted(state, measured, prediction, now)
        if before is not None or state is not _NOTHING:
            self._change(provider, state, now)

    def _change(self, provider: str, state: QuotaState, now: float) -> None:
        if state is not self._states.get(provider):
            self._states[provider] = state
            self.changed[_STANDING + provider] = _encode(state)
        self._notice(provider, now)

    def _notice(self, provider: str, now: float) -> None:
        """Count and log a transition, if `provider` is in another state than it was seen in."""
        if self._quiet:
            return
        before = self._seen.get(provider, AVAILABLE)
        after = self._seen[provider] = self._states[provider].state(now)
        changed = transition(before, after)
        if changed is None:
            return
        state, reason = changed
        self.transitions[provider, state, reason] += 1
        fields = {
            "provider": provider,
            "state": state.value,
            "reason": reason.value,
            "retry_after": rfc3339(after.retry_at),
            "because": after.detail,
        }
        log.info("state changed", extra={"fields": fields})

    # -- what is known --

    def providers(self) -> Iterable[str]:
        """Everybody of whom something is known."""
        return self._states.keys() | self._limits.keys()

    def view(self, provider: str, measured: Sequence[Measurement], now: float) -> ProviderView:
        """One provider at one moment."""
        state = self._states.get(provider, _NOTHING)
        limits = dict(self._limits.get(provider, {}))
        return ProviderView(
            provider,
            state.state(now),
            state.pending_since(now) is not None,
            state.throttled_until(now),
            tuple(measured),
            limits,
            drift(limits, measured, now),
        )

    def pending(self, now: float) -> dict[str, float]:
        """Providers that wait for a success, and since when (Unix seconds)."""
        times = {name: one.pending_since(now) for name, one in self._states.items()}
        return {name: since for name, since in times.items() if since is not None}

    def exhausted(self, now: float, *, include_elapsed: bool) -> dict[str, float]:
        """Provider -> Unix seconds to retry at; also those whose time has come, on request."""
        live = {name: one.state(now).retry_at for name, one in self._states.items()}
        found = {name: retry_at for name, retry_at in live.items() if retry_at is not None}
        return {**self.pending(now), **found} if include_elapsed else found


def _alarming(measured: Sequence[Measurement], prediction: PredictionSettings) -> bool:
    enough = prediction.exhausted_at
    return enough is not None and any(one.probability >= enough for one in measured)


def _predicted(
    state: QuotaState,
    measured: Sequence[Measurement],
    prediction: PredictionSettings,
    now: float,
) -> QuotaState:
    """Hold a state against the likeliest exhaustion that has not come yet."""
    ahead = [one for one in measured if not one.exceeded]
    if prediction.exhausted_at is None or not ahead:
        return state.with_prediction(None, None, now)
    worst = max(ahead, key=lambda one: one.probability)
    mark = state.causes.get(Reason.PREDICTED)
    if not worst.budget.period.rolling:
        until = worst.window.end
    elif mark is not None and mark.live(now):
        until = mark.retry_at  # a rolling window has no end of its own: keep to the first
    else:
        until = now + (worst.window.end - worst.window.start)
    detail = (
        f"probability {worst.probability:.3f}, projected {worst.median:.0f} of "
        f"{worst.budget.tokens} per {worst.budget.period.name}"
    )
    return state.with_prediction(
        worst.probability,
        until,
        now,
        enter=prediction.exhausted_at,
        leave=prediction.release_below,
        detail=detail,
    )
