"""One call told of by a tool and by the gateway that it goes through, or by any two reporters.

Both name something of the call: the id of the response or of the request, or the session together
with what was used. Whoever told of it first counts.
"""

from collections.abc import Iterable

import msgspec

from exporter.core.usage import Usage

MAX_CALLS = 50_000
"""Remembered: some minutes of a busy gateway, which sends its batches every few seconds."""

REPEATED = "repeated_by_another_reporter"
"""Why a call is not counted that somebody else told of."""


class _Told(msgspec.Struct, eq=False):
    """Attributes:
    reporter: who told of a call.
    names: what it named of it.
    repeats: whether somebody else had told of it before.
    matched: whether somebody else told of it, before or after.
    """

    reporter: str
    names: tuple[str, ...]
    repeats: bool = False
    matched: bool = False


class Repeats:
    """The calls of the last minutes, by what their reporters named of them.

    Not for use by several threads at once.
    """

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], _Told] = {}
        self._by_name: dict[str, list[_Told]] = {}

    def counted(self, usages: Iterable[Usage]) -> list[Usage]:
        """Those that nobody else has told of; asking again about one gives the same answer."""
        return [usage for usage in usages if not self._is_repeated(usage)]

    def _is_repeated(self, usage: Usage) -> bool:
        call = usage.call
        if call is None or not call.names or not usage.id:
            return False
        key = (call.reporter, usage.provider, usage.id)
        known = self._told.get(key)
        if known is not None:
            return known.repeats
        told = _Told(call.reporter, call.names)
        others = (other for name in call.names for other in self._by_name.get(name, ()))
        twin = next(
            (one for one in others if not one.matched and one.reporter != told.reporter), None
        )
        if twin is not None:
            twin.matched = told.matched = told.repeats = True
        self._remember(key, told)
        return told.repeats

    def _remember(self, key: tuple[str, str, str], told: _Told) -> None:
        self._told[key] = told
        for name in told.names:
            self._by_name.setdefault(name, []).append(told)
        if len(self._told) > MAX_CALLS:
            oldest = self._told.pop(next(iter(self._told)))
            for name in oldest.names:
                left = [one for one in self._by_name.pop(name, ()) if one is not oldest]
                if left:
                    self._by_name[name] = left
