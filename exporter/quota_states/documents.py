"""Quota states and reported limits as documents of a store, and what two replicas' ones make."""

import logging
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

import msgspec

from exporter.core.cause import UNSET, Cause, merged_causes
from exporter.core.outages import Span, revised
from exporter.core.quota_state import QuotaState, Reason
from exporter.core.reports import Report
from exporter.core.scope import Scope

MAX_LIMITS = 64
"""Kept of one provider: names come from headers, and every one is a series."""

_WHOLE = "standing/"
_PART = "scope/"
_LIMITS = "limits/"
_OUTAGES = "outages/"

Limits = dict[str, Report]
"""What a provider last reported of its limits, by key."""


class _StoredState(msgspec.Struct, omit_defaults=True):
    """A `QuotaState` as stored, perhaps by a version that knows further reasons."""

    causes: dict[str, Cause] = msgspec.field(default_factory=dict, name="marks")
    throttle: Cause = UNSET
    forgotten: float = 0.0


class StateDocument(NamedTuple):
    """The state of a scope, and those stored reasons that this version does not know."""

    scope: Scope
    state: QuotaState
    unknown: frozenset[str]


class LimitsDocument(NamedTuple):
    """What a provider reported of its limits."""

    provider: str
    limits: Limits


_state_decoder = msgspec.json.Decoder(_StoredState)


class OutagesDocument(NamedTuple):
    """When a scope was out."""

    scope: Scope
    spans: tuple[Span, ...]


_outages_decoder = msgspec.json.Decoder(tuple[Span, ...])
_limits_decoder = msgspec.json.Decoder(Limits)
_scope_decoder = msgspec.json.Decoder(tuple[str, str, str])
_encode = msgspec.json.encode
_REASONS = frozenset(Reason)

log = logging.getLogger("exporter")


def state_document(scope: Scope, state: QuotaState) -> tuple[str, bytes]:
    """Name and body of the document that keeps the state of a scope."""
    name = _WHOLE + scope.provider if scope.whole else _PART + _encode(scope).decode()
    return name, _encode(state)


def limits_document(provider: str, limits: Limits) -> tuple[str, bytes]:
    """Name and body of the document that keeps what a provider reported."""
    return _LIMITS + provider, _encode(limits)


def outages_document(scope: Scope, spans: tuple[Span, ...]) -> tuple[str, bytes]:
    """Name and body of the document that keeps when a scope was out."""
    return _OUTAGES + _encode(scope).decode(), _encode(spans)


def read(name: str, body: bytes) -> StateDocument | LimitsDocument | OutagesDocument | None:
    """What a document says; None when it is somebody else's.

    Raises:
        msgspec.MsgspecError: it is not a document of this name.
    """
    if name.startswith(_WHOLE):
        return _state(Scope(name.removeprefix(_WHOLE)), body)
    if name.startswith(_PART):
        return _state(Scope(*_scope_decoder.decode(name.removeprefix(_PART))), body)
    if name.startswith(_LIMITS):
        return LimitsDocument(name.removeprefix(_LIMITS), _limits(body))
    if name.startswith(_OUTAGES):
        scope = Scope(*_scope_decoder.decode(name.removeprefix(_OUTAGES)))
        return OutagesDocument(scope, _outages_decoder.decode(body))
    return None


def _state(scope: Scope, body: bytes) -> StateDocument:
    stored = _state_decoder.decode(body)
    unknown = stored.causes.keys() - _REASONS
    known = {Reason(name): one for name, one in stored.causes.items() if name in _REASONS}
    state = QuotaState(known, stored.throttle, stored.forgotten)
    return StateDocument(scope, state, frozenset(unknown))


def _limits(body: bytes) -> Limits:
    # Earlier versions had one limit of a name.
    return {report.limit.key: report for report in _limits_decoder.decode(body).values()}


def merge(name: str, ours: bytes, theirs: bytes, now: float = inf) -> bytes:
    """What two versions of a document say together, neither of which knew of the other: states
    cause by cause, limits by name, outages by time; of any other document ours.

    What a clock stamped that was ahead of `now` is not the later word on a limit.
    Order and repetition do not matter, but to outages, whose ends nobody need know exactly. What
    cannot be read any more is replaced by ours.
    """
    try:
        if name.startswith((_WHOLE, _PART)):
            one, other = _state_decoder.decode(ours), _state_decoder.decode(theirs)
            forgotten = max(one.forgotten, other.forgotten)
            causes = merged_causes(one.causes, other.causes, forgotten)
            throttle = max(one.throttle, other.throttle)
            throttle = throttle if throttle.at > forgotten else UNSET
            return _encode(_StoredState(causes, throttle, forgotten))
        if name.startswith(_LIMITS):
            return _encode(merged_limits(_limits(ours), _limits(theirs), now))
        if name.startswith(_OUTAGES):
            return _encode(revised(_outages_decoder.decode(ours), _outages_decoder.decode(theirs)))
    except msgspec.MsgspecError:
        pass
    return ours


def merged_limits(
    ours: Mapping[str, Report], theirs: Mapping[str, Report], now: float = inf
) -> Limits:
    """What was reported last, key by key."""
    known = dict(theirs)
    for key, report in ours.items():
        known[key] = report.merged(known[key], now) if key in known else report
    newest = sorted(known, key=lambda key: (known[key].at, key), reverse=True)[:MAX_LIMITS]
    return {key: known[key] for key in sorted(newest)}
