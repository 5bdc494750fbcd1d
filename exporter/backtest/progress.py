"""A progress bar for a person who waits."""

from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_WIDTH = 40
_PAUSE = 0.2  # seconds between two drawings


class Progress:
    """Draws on a terminal, and nowhere else."""

    def __init__(self, steps: int, stream: TextIO, clock: Callable[[], float]) -> None:
        self._steps = steps
        self._stream = stream
        self._clock = clock
        self._shown = stream.isatty()
        self._began = self._drawn = clock()

    def __enter__(self) -> "Progress":
        return self

    def __call__(self, done: int) -> None:
        """Show that `done` steps are."""
        now = self._clock()
        if self._shown and now - self._drawn >= _PAUSE:
            self._drawn = now
            share = done / self._steps
            bar = ("#" * int(share * _WIDTH)).ljust(_WIDTH, ".")
            left = (now - self._began) * (1 - share) / share
            self._stream.write(f"\r{bar} {share:4.0%}, {left:.0f} s left ")
            self._stream.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._stream.write("\r\033[K")
