"""The bytes that all connections together have in hand: one bound for all of them."""

from collections.abc import Callable


class Outstanding:
    """Bytes of requests that are read or wait to be, and of answers that are not taken yet.

    Attributes:
        limit: bytes that all may hold together; one alone may hold more, as its own limits allow.
        held: bytes that are held.
        reclaim: called when there is no room, to make some for those who come later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.reclaim: Callable[[], None] = lambda: None

    def hold(self, size: int, mine: int = 0) -> bool:
        """Hold `size` bytes more for somebody who holds `mine`; False when others hold too many."""
        if self.held > mine and self.held + size > self.limit:
            self.reclaim()
            return False
        self.held += size
        return True

    def release(self, size: int) -> None:
        """Give back what was held."""
        self.held -= size
