"""What the exporter says of scopes, and what follows for one request. No I/O, no clock."""

from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase
from typing import NamedTuple

import msgspec

MAX_SCOPES = 200_000
"""Scopes kept at most; an exporter that reports more is not believed."""

MAX_ANSWERS = 10_000
"""Answers remembered at most, one for each (provider, model, consumer) asked about."""

_EXHAUSTED = "quota_exhausted"
_NEVER, _FOREVER = float("-inf"), float("inf")
_SEPARATORS = str.maketrans(".- ", "___")

Key = tuple[str, str]


class Entry(msgspec.Struct, frozen=True):
    """A scope as `/v1/availability` and `/v1/watch` report it.

    Attributes:
        model: name or shell pattern; none is every model.
        consumer: the same for who asks.
        probability: of exhaustion within the window, 0 to 1.
    """

    provider: str
    state: str
    model: str | None = None
    consumer: str | None = None
    reason: str | None = None
    retry_after: datetime | None = None
    throttled_until: datetime | None = None
    probability: float | None = None

    @property
    def key(self) -> Key:
        return self.model or "", self.consumer or ""

    @property
    def says_something(self) -> bool:
        """Whether it says more than that the scope is available."""
        return self.state == _EXHAUSTED or bool(self.throttled_until or self.probability)

    def applies_to(self, model: str, consumer: str) -> bool:
        """Whether every field that the scope has matches."""
        return _matches(self.model, model) and _matches(self.consumer, consumer)


class WholeState(msgspec.Struct):
    """Everything there is to say.

    Attributes:
        scopes: those that are out, throttled or likely out.
        names: another name of a provider -> the names under which scopes may speak of it.
    """

    scopes: list[Entry]
    names: dict[str, list[str]] = {}


class Outlook(NamedTuple):
    """What applies to requests of one (provider, model, consumer).

    Attributes:
        out_until: Unix seconds until which such a request is refused; -inf when it is not.
        throttled_until: Unix seconds at which a short rate limit ends; -inf without one.
        probability: of exhaustion, 0 to 1.
    """

    out_until: float
    throttled_until: float
    probability: float


decode_whole = msgspec.json.Decoder(WholeState).decode
decode_entry = msgspec.json.Decoder(Entry).decode


class ScopeTable:
    """All scopes at one moment, and the answers worked out from them so far.

    Its scopes never change: an answer that one thread works out while another takes in a change is
    remembered where it belongs.

    Attributes:
        answers: (provider, model, consumer) -> what applies, as far as it was asked for.

    Raises:
        ValueError: more scopes than `MAX_SCOPES`.
    """

    def __init__(self, state: WholeState | None = None) -> None:
        whole = state or WholeState([])
        self.answers: dict[tuple[str, str, str], Outlook] = {}
        self._names = whole.names
        self._by_provider: dict[str, dict[Key, Entry]] = {}
        self._put(whole.scopes)

    def with_changes(self, entries: Iterable[Entry]) -> "ScopeTable":
        """The table after `entries`, in their order; answers about other providers stay."""
        changed = list(entries)
        touched = {one.provider for one in changed}
        table = ScopeTable(WholeState([], self._names))
        table._by_provider = {
            name: dict(scopes) if name in touched else scopes
            for name, scopes in self._by_provider.items()
        }
        table._put(changed)
        known = self.answers.copy()  # other threads add to it
        stale = {
            asked
            for asked in {provider for provider, _, _ in known}
            if not touched.isdisjoint(self._names_of(asked))
        }
        table.answers = {key: answer for key, answer in known.items() if key[0] not in stale}
        return table

    def outlook(self, provider: str, model: str, consumer: str) -> Outlook:
        """What applies to a request, remembered."""
        if len(self.answers) >= MAX_ANSWERS:
            self.answers.clear()
        applying = [
            entry
            for name in self._names_of(provider)
            for entry in self._by_provider.get(name, {}).values()
            if entry.applies_to(model, consumer)
        ]
        answer = self.answers[provider, model, consumer] = _strongest(applying)
        return answer

    def _put(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            scopes = self._by_provider.setdefault(entry.provider, {})
            scopes.pop(entry.key, None)
            if entry.says_something:
                scopes[entry.key] = entry
            elif not scopes:
                del self._by_provider[entry.provider]
        if sum(map(len, self._by_provider.values())) > MAX_SCOPES:
            raise ValueError(f"more than {MAX_SCOPES} scopes")

    def _names_of(self, provider: str) -> list[str]:
        names = self._names.get(provider) or self._names.get(_fold(provider))
        return names or [provider]


def _strongest(entries: list[Entry]) -> Outlook:
    """The longest refusal, and of what is available the worst that lies ahead."""
    return Outlook(
        max((_end(one) for one in entries if one.state == _EXHAUSTED), default=_NEVER),
        max(
            (one.throttled_until.timestamp() for one in entries if one.throttled_until),
            default=_NEVER,
        ),
        max((one.probability or 0.0 for one in entries if one.state != _EXHAUSTED), default=0.0),
    )


def _end(entry: Entry) -> float:
    return _FOREVER if entry.retry_after is None else entry.retry_after.timestamp()


def _matches(pattern: str | None, name: str) -> bool:
    return not pattern or fnmatchcase(name, pattern)


def _fold(name: str) -> str:
    return name.lower().translate(_SEPARATORS)
