"""What operators set for a while, as it is stored and shared: amounts of budgets, and silences."""

from collections.abc import Mapping, Sequence

import msgspec

from exporter.core.budget import Budget
from exporter.core.overrides import Amount, BudgetKey, Silence, applied
from exporter.core.scope import Scope

_AMOUNT = "budget/"
_SILENCE = "silence/"

_amount_decoder = msgspec.json.Decoder(Amount)
_silence_decoder = msgspec.json.Decoder(Silence)
_key_decoder = msgspec.json.Decoder(tuple[str, str, str, str, str, str])
_scope_decoder = msgspec.json.Decoder(tuple[str, str, str])
_encode = msgspec.json.encode

Document = tuple[str, bytes]
"""The name of something that is to be stored, and what."""


class Overrides:
    """What holds, and since when it is in force. Not for concurrent use."""

    def __init__(self) -> None:
        self._amounts: dict[BudgetKey, Amount] = {}
        self._silences: dict[Scope, Silence] = {}
        self._in_force: tuple[Mapping[BudgetKey, Amount], Mapping[Scope, Silence]] = ({}, {})

    def read(self, name: str, body: bytes) -> bool:
        """Take up a stored document; False when it is somebody else's.

        Raises:
            msgspec.MsgspecError: it is not a document of this name.
        """
        if name.startswith(_AMOUNT):
            key = BudgetKey(*_key_decoder.decode(name.removeprefix(_AMOUNT)))
            self._amounts[key] = _amount_decoder.decode(body)
        elif name.startswith(_SILENCE):
            scope = Scope(*_scope_decoder.decode(name.removeprefix(_SILENCE)))
            self._silences[scope] = _silence_decoder.decode(body)
        else:
            return False
        return True

    def set_amount(self, key: BudgetKey, amount: Amount) -> Document:
        """Let a budget have another amount, until its time; one in the past ends it."""
        self._amounts[key] = amount
        return _AMOUNT + _encode(key).decode(), _encode(amount)

    def silence(self, scope: Scope, silence: Silence) -> Document:
        """Let predictions about a scope have no effect, until its time; one in the past ends it."""
        self._silences[scope] = silence
        return _SILENCE + _encode(scope).decode(), _encode(silence)

    def hold(self, now: float) -> bool:
        """Whether any does."""
        return any(self._holding(now))

    def outdated(self, now: float) -> bool:
        """Whether something else holds than what was last applied."""
        return self._holding(now) != self._in_force

    def applied(
        self, budgets: Mapping[str, Sequence[Budget]], now: float
    ) -> Mapping[str, Sequence[Budget]]:
        """The budgets as they are to be now."""
        self._in_force = self._holding(now)
        return applied(budgets, *self._in_force)

    def _holding(self, now: float) -> tuple[Mapping[BudgetKey, Amount], Mapping[Scope, Silence]]:
        return (
            {key: one for key, one in self._amounts.items() if one.until > now},
            {scope: one for scope, one in self._silences.items() if one.until > now},
        )
