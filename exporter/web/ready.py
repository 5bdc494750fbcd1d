"""Answers that lie ready until what they are about changes, or their time comes."""

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

MAX_ANSWERS = 20_000
"""Answers that lie ready, of whatever size."""

MAX_BYTES = 32 * 2**20
"""Bytes of all of them."""


class Sized(Protocol):
    """An answer: its bytes, and Unix seconds from which it may no longer be true."""

    @property
    def size(self) -> int: ...

    @property
    def until(self) -> float: ...


Kept = TypeVar("Kept", bound=Sized)


class ReadyAnswers(Generic[Kept]):
    """Answers by what was asked. Not for concurrent use.

    Whoever changes what an answer is about has to say so: an answer itself cannot know.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, Kept] = {}
        self._about: dict[Hashable, set[Hashable]] = {}
        self._bytes = 0

    def get(self, asked: Hashable, now: float) -> Kept | None:
        """The answer to a question, if it lies ready."""
        answer = self._kept.get(asked)
        return answer if answer is not None and now < answer.until else None

    def put(self, asked: Hashable, about: Hashable, answer: Kept) -> None:
        """Keep an answer until `outdate(about)`. When there are too many, all others go: those in
        use are soon back."""
        before = self._kept.get(asked)
        self._bytes += answer.size - (0 if before is None else before.size)
        if self._bytes > MAX_BYTES or len(self._kept) >= MAX_ANSWERS:
            self.clear()
            self._bytes = answer.size
        self._kept[asked] = answer
        self._about.setdefault(about, set()).add(asked)

    def outdate(self, about: Hashable) -> None:
        """What these answers are about is another than it was."""
        for asked in self._about.pop(about, ()):
            answer = self._kept.pop(asked, None)
            if answer is not None:
                self._bytes -= answer.size

    def clear(self) -> None:
        """Everything may be another than it was."""
        self._kept.clear()
        self._about.clear()
        self._bytes = 0
