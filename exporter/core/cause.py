"""The last word on one of the reasons for which a provider may be exhausted."""

import math
from collections.abc import Mapping
from typing import TypeVar

import msgspec

K = TypeVar("K", bound=str)


class Cause(msgspec.Struct, frozen=True, order=True, omit_defaults=True, gc=False):
    """The last word on one cause; the greater of two causes is the one that counts.

    Attributes:
        at: Unix seconds of that word. A later word of the same process is always greater.
        retry_at: Unix seconds at which the cause ends; 0 when there is none.
        muted_until: Unix seconds before which the cause is not set again: an operator overruled it.
        detail: a few words for the log.
        model: the model whose request was refused, empty when unknown: another one's success
            does not disprove it.
    """

    at: float = 0.0
    retry_at: float = 0.0
    muted_until: float = 0.0
    detail: str = ""
    model: str = ""

    def live(self, now: float) -> bool:
        return self.retry_at > now

    def elapsed(self, now: float) -> bool:
        return 0.0 < self.retry_at <= now

    def followed_by(self, at: float, retry_at: float, detail: str, model: str = "") -> "Cause":
        return Cause(self.after(at), retry_at, self.muted_until, detail, model)

    def dropped(self, at: float, muted_until: float | None = None, detail: str = "") -> "Cause":
        muted = self.muted_until if muted_until is None else muted_until
        return Cause(self.after(at), 0.0, muted, detail)

    def after(self, at: float) -> float:
        """A moment near `at` that is later than this word."""
        # Time can go backwards, and one request can speak twice at the same instant.
        return max(at, math.nextafter(self.at, math.inf))


UNSET = Cause()


def merged_causes(
    ours: Mapping[K, Cause], theirs: Mapping[K, Cause], forgotten: float
) -> dict[K, Cause]:
    """The last word on each cause, of those said after `forgotten` (Unix seconds)."""
    last = {
        reason: max(ours.get(reason, UNSET), theirs.get(reason, UNSET))
        for reason in sorted(ours.keys() | theirs.keys())
    }
    return {reason: cause for reason, cause in last.items() if cause.at > forgotten}
