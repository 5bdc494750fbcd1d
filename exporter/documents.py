"""What is stored by name beside usage: quota states, and small values."""

import logging
from collections.abc import Callable, Mapping

import msgspec

log = logging.getLogger("exporter")

Reader = Callable[[str, bytes], bool]
"""Takes in a document of this name; False where it is not for this reader.

Raises:
    ValueError: it is, and cannot be understood.
"""


class Documents:
    """Gives stored documents to those who understand them.

    Attributes:
        notes: what no reader is there for, by name: who put it there asks for it when needed.
    """

    def __init__(self, *readers: Reader) -> None:
        self.notes: dict[str, bytes] = {}
        self._readers = readers
        self._skipped: set[str] = set()  # were logged

    def apply(self, documents: Mapping[str, bytes]) -> None:
        """Take in documents. One that is not understood is logged and skipped: another version
        may have written it, and what else is stored counts all the same."""
        for name, body in documents.items():
            try:
                if not any(reader(name, body) for reader in self._readers):
                    self.notes[name] = body
            except (msgspec.MsgspecError, ValueError) as error:
                self.skip(name, error)

    def skip(self, name: str, error: Exception) -> None:
        """Log, once, that a document is not understood."""
        if name not in self._skipped:
            self._skipped.add(name)
            fields = {"name": name, "error": str(error)}
            log.error("stored document not understood, skipped", extra={"fields": fields})
