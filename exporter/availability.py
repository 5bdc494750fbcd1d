"""Who is available, answered from what is known: for routers, which ask on every request.

Nothing is measured because somebody asks. A change of a state or an outlook is taken in when it
happens, what ends by itself at the moment at which it ends, and an answer may be kept until then.
"""

import zlib
from bisect import bisect_left, insort
from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec

from exporter.change_feed import ChangeFeed
from exporter.core.moment import rfc3339
from exporter.core.quota_state import State
from exporter.core.scope import Scope, alternatives
from exporter.core.views import Outlook, ScopeView, combined
from exporter.expiry_queue import ExpiryQueue
from exporter.quota_states import QuotaStates

LIKELY = 0.5
"""Probability from which a scope that will run out is worth mentioning."""

STEP = 0.05
"""By how much a probability has to change to be news."""

_SHIFT = 60.0  # seconds by which an expected moment has to shift to be news

Models = Callable[[str], Collection[str]]
"""The models that a provider is known to be used for."""


class CachedAnswer(NamedTuple):
    """What is said of a scope, or of all.

    Attributes:
        body: JSON.
        etag: changes with the body.
        until: Unix seconds from which it may no longer be true.
    """

    body: bytes
    etag: str
    until: float


class _Published(NamedTuple):
    """What was last published of a scope.

    Attributes:
        news: what makes a difference by itself: reason, and ends.
        pending: whether a success is awaited.
        entries: as routers are told, JSON; empty when it is not worth mentioning.
    """

    news: tuple[object, ...]
    pending: bool
    outlook: Outlook
    entries: tuple[bytes, ...]


_NOTHING = _Published((None, None, None), False, Outlook(), ())


class Availability:
    """Answers kept for routers. Not for concurrent use.

    Attributes:
        feed: what changed of the scopes that are out, throttled or likely out, and of those that
            have just ceased to be.
        outdated: is called with a provider of which something else is to be said than before.
    """

    def __init__(self, states: QuotaStates, models: Models) -> None:
        self.feed = ChangeFeed()
        self.outdated: Callable[[str], None] = lambda provider: None
        self._states = states
        self._models = models
        self._published: dict[Scope, _Published] = {}
        self._mentioned: list[Scope] = []  # in order
        self._ends: ExpiryQueue[Scope] = ExpiryQueue()
        self._all: CachedAnswer | None = None
        self._exhausted: dict[bool, CachedAnswer] = {}

    # -- what changes --

    def update(self, scope: Scope, now: float) -> None:
        """Take notice that something of `scope` may have changed."""
        if self._update(scope, now) and not scope.whole:
            self._update(Scope(scope.provider), now)

    def advance(self, now: float) -> None:
        """Take notice of what has ended by itself."""
        while (scope := self._ends.pop(now)) is not None:
            self.update(scope, now)

    @property
    def next_end(self) -> float:
        """Unix seconds until which `advance` will find nothing, unless something changes."""
        return self._ends.next_end

    def _update(self, scope: Scope, now: float) -> bool:
        """Whether there is something new to be said of `scope`."""
        view = self._view(scope, now)
        self._ends.set(scope, view.until)
        before = self._published.get(scope, _NOTHING)
        if not _differs(before, view):
            if before.pending != view.pending:
                self._published[scope] = before._replace(pending=view.pending)
                self._exhausted.clear()
                self.outdated(scope.provider)
            return False
        mentioned = _mentioned(view)
        encoded: tuple[bytes, ...] = ()
        if mentioned or before.entries:
            encoded = tuple(msgspec.json.encode(one) for one in entries(view))
        published = _Published(
            _news(view), view.pending, view.outlook, encoded if mentioned else ()
        )
        if published == _NOTHING:
            self._published.pop(scope, None)
        else:
            self._published[scope] = published
        self._exhausted.clear()
        if before.entries or published.entries:
            self._mention(scope, bool(before.entries), bool(published.entries))
            for entry in encoded:
                self.feed.add(entry)
        self.outdated(scope.provider)
        return True

    def _mention(self, scope: Scope, before: bool, after: bool) -> None:
        self._all = None
        if before and not after:
            del self._mentioned[bisect_left(self._mentioned, scope)]
        elif after and not before:
            insort(self._mentioned, scope)

    def _view(self, scope: Scope, now: float) -> ScopeView:
        if scope.whole:
            return self._states.whole(scope.provider, self._models, now)
        return self._states.scope(scope, now)

    # -- answers --

    def of(self, asked: Scope, now: float) -> CachedAnswer:
        """The answer to a request for a model by a consumer, each of which may be unknown."""
        view = self.meets(asked, now)
        return tagged(msgspec.json.encode(_entry(asked, view)), view.until)

    def meets(self, asked: Scope, now: float) -> ScopeView:
        """What a request for a model by a consumer meets."""
        if asked.whole:
            return self._view(asked, now)
        return combined(asked, list(self._states.applying(asked, now)))

    def all(self, now: float) -> CachedAnswer:
        """Every scope that is out, throttled or likely out: what the feed's changes lead to."""
        self.advance(now)
        if self._all is None or self._all.until <= now:
            found = (entry for scope in self._mentioned for entry in self._published[scope].entries)
            self._all = tagged(b'{"scopes":[' + b",".join(found) + b"]}", self.next_end)
        return self._all

    def exhausted(self, now: float, *, include_elapsed: bool) -> CachedAnswer:
        """Provider of which nothing can be had -> when to retry; also those whose time has come
        without a success since, on request."""
        self.advance(now)
        kept = self._exhausted.get(include_elapsed)
        if kept is None or kept.until <= now:
            found = self._states.pending(now) if include_elapsed else {}
            for scope in self._mentioned:
                retry_at = self._view(scope, now).view.retry_at if scope.whole else None
                if retry_at is not None:
                    found[scope.provider] = retry_at
            body = msgspec.json.encode({name: rfc3339(at) for name, at in sorted(found.items())})
            kept = self._exhausted[include_elapsed] = tagged(body, self.next_end)
        return kept


def entries(view: ScopeView) -> list[dict[str, object]]:
    """A scope as routers are told of it: an object for each of its alternatives."""
    scope = view.scope
    return [
        _entry(Scope(scope.provider, model, consumer), view)
        for model in alternatives(scope.model)
        for consumer in alternatives(scope.consumer)
    ]


def tagged(body: bytes, until: float) -> CachedAnswer:
    """An answer with its tag."""
    return CachedAnswer(body, f'"{zlib.crc32(body):08x}-{len(body):x}"', until)


def _entry(scope: Scope, view: ScopeView) -> dict[str, object]:
    return {
        **{name: value for name, value in scope._asdict().items() if value},
        "state": view.view.state.value,
        "reason": view.view.reason.value if view.view.reason else None,
        "retry_after": rfc3339(view.view.retry_at),
        "throttled_until": rfc3339(view.throttled_until),
        "probability": round(view.outlook.probability, 3),
        "exhaustion_at": rfc3339(view.outlook.exhaustion_at),
    }


def _mentioned(view: ScopeView) -> bool:
    """Out, throttled or likely out."""
    return (
        view.view.state is not State.AVAILABLE
        or view.throttled_until is not None
        or view.outlook.probability >= LIKELY
    )


def _news(view: ScopeView) -> tuple[object, ...]:
    return (view.view.reason, view.view.retry_at, view.throttled_until)


def _differs(before: _Published, view: ScopeView) -> bool:
    if before.news != _news(view):
        return True
    one, other = before.outlook, view.outlook
    if abs(one.probability - other.probability) >= STEP:
        return True
    if (one.exhaustion_at is None) != (other.exhaustion_at is None):
        return True
    return (
        one.exhaustion_at is not None
        and other.exhaustion_at is not None
        and abs(one.exhaustion_at - other.exhaustion_at) >= _SHIFT
    )
