"""Documents that several replicas write: merged with what is stored before they are.

Each is sent with the digest of the body that it was merged with. Where another one is stored by
then, `commit.lua` changes nothing and answers with what is; it is merged with that and sent again.
What is stored whatever was before is not held against anything.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import sha1
from typing import NamedTuple

from exporter.storage.contract import Batch, Merge

MAX_MERGES = 500
"""Attempts to store documents that others store all the time, each at once with what was found, as
a wait would make that older; then the next one is for good, and may undo what another replica
stored since the last. Each attempt that is lost is one that another replica won."""

ANY = "*"


class Document(NamedTuple):
    """A document to be stored.

    Attributes:
        name: its name.
        base: digest of the stored body that it was merged with, empty for none; or `ANY`.
        body: what is to be stored.
    """

    name: str
    base: str
    body: bytes


class Documents:
    """What is stored under every name, as far as is known here.

    Attributes:
        bodies: as last read or written, by name.
    """

    def __init__(self, merge: Merge) -> None:
        self._merge = merge
        self.bodies: dict[str, bytes] = {}

    def merged(
        self,
        batches: Sequence[Batch],
        found: Mapping[int, bytes | None],
        forced: Collection[int] = (),
    ) -> Iterator[list[Document]]:
        """The documents of each batch, merged with what is stored.

        Args:
            batches: committed in this order.
            found: what was stored where it was not what was thought; by position in all
                documents of the batches, from 0.
            forced: positions of those to be stored whatever is stored by then.
        """
        before: dict[str, bytes] = {}
        position = 0
        for batch in batches:
            documents = []
            for name, body in batch.documents.items():
                held = found.get(position, before.get(name, self.bodies.get(name)))
                merged = body if held is None else self._merge(name, body, held)
                anyhow = position in forced or (held is not None and merged is body)
                documents.append(Document(name, ANY if anyhow else _digest(held), merged))
                before[name] = merged
                position += 1
            yield documents


def _digest(body: bytes | None) -> str:
    """As Redis works it out."""
    return "" if body is None else sha1(body).hexdigest()  # noqa: S324 - tells bodies apart, no secret
