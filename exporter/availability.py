"""Who is available, answered from what is known: for routers, which ask on every request.

Nothing is worked out because somebody asks: an answer is kept until something changes, or until
the moment at which something in it ends.
"""

import zlib
from collections.abc import Callable, Collection
from math import inf
from typing import NamedTuple

import msgspec

from exporter.core.moment import rfc3339
from exporter.core.quota_state import State
from exporter.core.scope import Scope, alternatives
from exporter.core.views import Outlook, ScopeView, combined
from exporter.quota_states import QuotaStates

MAX_ANSWERS = 20_000
"""Answers kept at a time, by what was asked."""

LIKELY = 0.5
"""Probability from which a scope that will run out is worth mentioning."""

STEP = 0.05
"""By how much a probability has to change to be news."""

_SHIFT = 60.0  # seconds by which an expected moment has to shift to be news

Models = Callable[[str], Collection[str]]
"""The models that a provider is known to be used for."""


class Answer(NamedTuple):
    """What is said of a scope, or of all.

    Attributes:
        body: JSON.
        etag: changes with the body.
        until: Unix seconds from which it may no longer be true.
    """

    body: bytes
    etag: str
    until: float


class _Said(NamedTuple):
    """What was last said of a scope: what makes news, and whether it is worth mentioning."""

    news: tuple[object, ...]
    outlook: Outlook
    mentioned: bool


_NOTHING = _Said((None, None, None), Outlook(), False)


class Availability:
    """Answers kept for routers. Not for concurrent use."""

    def __init__(self, states: QuotaStates, models: Models) -> None:
        self._states = states
        self._models = models
        self._said: dict[Scope, _Said] = {}
        self._versions: dict[str, int] = {}
        self._answers: dict[Scope, tuple[int, Answer]] = {}
        self._all: Answer | None = None
        states.noticed = self.update

    def update(self, scope: Scope, now: float) -> None:
        """Take notice that something of `scope` may have changed."""
        if self._update(scope, now) and not scope.whole:
            self._update(Scope(scope.provider), now)

    def _update(self, scope: Scope, now: float) -> bool:
        view = self._view(scope, now)
        before = self._said.get(scope, _NOTHING)
        said = _Said(_news(view), view.outlook, _mentioned(view))
        if not _differs(before, said):
            return False
        self._said[scope] = said
        self._versions[scope.provider] = self._versions.get(scope.provider, 0) + 1
        if before.mentioned or said.mentioned:
            self._all = None
        return True

    def _view(self, scope: Scope, now: float) -> ScopeView:
        if scope.whole:
            return self._states.whole(scope.provider, self._models(scope.provider), now)
        return self._states.scope(scope, now)

    def of(self, asked: Scope, now: float) -> Answer:
        """The answer to a request for a model by a consumer, each of which may be unknown."""
        version = self._versions.get(asked.provider, 0)
        kept = self._answers.get(asked)
        if kept is not None and kept[0] == version and now < kept[1].until:
            return kept[1]
        views = self._applying(asked, now)
        view = combined(asked, views)
        until = min(map(_ends, views), default=inf)
        answer = _answer(msgspec.json.encode(_entry(asked, view)), until)
        if len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
        self._answers[asked] = (version, answer)
        return answer

    def meets(self, asked: Scope, now: float) -> ScopeView:
        """What a request for a model by a consumer meets."""
        return combined(asked, self._applying(asked, now))

    def _applying(self, asked: Scope, now: float) -> list[ScopeView]:
        return [self._view(asked, now)] if asked.whole else list(self._states.applying(asked, now))

    def all(self, now: float) -> Answer:
        """Every scope that is out, throttled or likely out."""
        if self._all is None or now >= self._all.until:
            views = [self._view(scope, now) for scope in sorted(self._said)]
            views = [view for view in views if _mentioned(view)]
            found = [entry for view in views for entry in entries(view)]
            until = min(map(_ends, views), default=inf)
            self._all = _answer(msgspec.json.encode({"scopes": found}), until)
        return self._all


def entries(view: ScopeView) -> list[dict[str, object]]:
    """A scope as routers are told of it: an object for each of its alternatives."""
    scope = view.scope
    return [
        _entry(Scope(scope.provider, model, consumer), view)
        for model in alternatives(scope.model)
        for consumer in alternatives(scope.consumer)
    ]


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


def _answer(body: bytes, until: float) -> Answer:
    return Answer(body, f'"{zlib.crc32(body):08x}-{len(body):x}"', until)


def _mentioned(view: ScopeView) -> bool:
    """Out, throttled or likely out."""
    return (
        view.view.state is not State.AVAILABLE
        or view.throttled_until is not None
        or view.outlook.probability >= LIKELY
    )


def _news(view: ScopeView) -> tuple[object, ...]:
    return (view.view.reason, view.view.retry_at, view.throttled_until)


def _differs(before: _Said, after: _Said) -> bool:
    if before.news != after.news:
        return True
    one, other = before.outlook, after.outlook
    if abs(one.probability - other.probability) >= STEP:
        return True
    if (one.exhaustion_at is None) != (other.exhaustion_at is None):
        return True
    return (
        one.exhaustion_at is not None
        and other.exhaustion_at is not None
        and abs(one.exhaustion_at - other.exhaustion_at) >= _SHIFT
    )


def _ends(view: ScopeView) -> float:
    """Unix seconds at which something said of a scope ends by itself."""
    ends = [at for at in (view.view.retry_at, view.throttled_until) if at is not None]
    return min(ends, default=inf)
