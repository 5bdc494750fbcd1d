"""What a store promises, and the values that cross the boundary."""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from exporter.core.series import Series
from exporter.core.slots import Block, Cell, Counts, Increments

DIGEST_BYTES = 16
"""Length of an identity: a hash, whose bits are as good as random."""


Merge = Callable[[str, bytes, bytes], bytes]
"""From the name of a document, a new body and the stored one, what is stored instead. Of two
replicas neither knows what the other is about to store, so order must not matter."""


def replace(name: str, ours: bytes, theirs: bytes) -> bytes:
    """Store the new body, whatever was stored."""
    return ours


class StorageError(Exception):
    """The store cannot do what it promises right now; see `Store.commit` for what was kept."""


class CorruptStorage(StorageError):
    """The stored data is damaged; the message says what an operator can do."""


class NoBackup(StorageError):
    """The store is backed up by other means; the message says by which."""


class DedupEntry(NamedTuple):
    """Usage that must be counted once however often it is sent.

    Attributes:
        digest: identifies the event; the same one always with the same provider.
        cell: where it is counted.
        counts: what it adds.
    """

    digest: bytes
    cell: Cell
    counts: Counts


class DedupEntries(msgspec.Struct):
    """Many claims, in columns.

    Attributes:
        digests: identifies each.
        cells: where each is counted.
        counts_of: what the one at a position adds; seldom asked, so it may be worked out then.
    """

    digests: list[bytes] = msgspec.field(default_factory=list)
    cells: list[Cell] = msgspec.field(default_factory=list)
    counts_of: Callable[[int], Counts] = list[Counts]().__getitem__

    @classmethod
    def of(cls, claims: Sequence[DedupEntry]) -> "DedupEntries":
        """These claims."""
        counts = [claim.counts for claim in claims]
        digests, cells = [claim.digest for claim in claims], [claim.cell for claim in claims]
        return cls(digests, cells, counts.__getitem__)

    def __len__(self) -> int:
        return len(self.digests)

    def __iter__(self) -> Iterator[DedupEntry]:
        return map(DedupEntry, self.digests, self.cells, map(self.counts_of, range(len(self))))


class CumulativeReport(msgspec.Struct, frozen=True, gc=False):
    """The present value of a cumulative counter; what it rose by is counted.

    Attributes:
        digest: identifies the counter; the same one always with the same provider.
        started: Unix seconds at which it was zero; with `sampled`, at which it had this value.
        cell: where the rise is counted.
        counts: its value, by kind, and the requests behind it.
        sampled: nobody knows when it was zero. Its first report is a baseline, one that is not
            later than the last counts nothing, and a later one that is lower began anew.
    """

    digest: bytes
    started: float
    cell: Cell
    counts: Counts
    sampled: bool = False


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What became of a batch.

    Attributes:
        accepted: events counted.
        duplicates: events that had been counted before.
        baselines: counters seen for the first time whose past lies before this store.
        rejected: the rejections as JSON, exactly as first answered.
        repeated: this very batch had been answered before; nothing was counted again.
    """

    accepted: int
    duplicates: int = 0
    baselines: int = 0
    rejected: bytes = b"[]"
    repeated: bool = False


class Batch(msgspec.Struct):
    """What one request wants kept.

    Attributes:
        increments: all usage but that of `reports`, already summed, up to `MAX_SUM`. What a claim
            or a report counts is at most 2**53.
        events: how many events in it carry no identity.
        claims: the events in it that carry one, to be taken out if they were counted before.
        reports: cumulative counters.
        key: 16 bytes that identify the whole request, or empty.
        rejected: the request's rejections as JSON, kept for an answer to be repeated.
        rejected_count: how many rejections those are.
        documents: small values by name, each to be merged with what is stored under its name.
    """

    increments: Increments = msgspec.field(default_factory=dict)
    events: int = 0
    claims: DedupEntries = msgspec.field(default_factory=DedupEntries)
    reports: list[CumulativeReport] = msgspec.field(default_factory=list)
    key: bytes = b""
    rejected: bytes = b"[]"
    rejected_count: int = 0
    documents: dict[str, bytes] = msgspec.field(default_factory=dict)

    def without(self, repeated: Iterable[int]) -> Increments:
        """A copy of the increments, less the claims at these positions."""
        left = {cell: counts.copy() for cell, counts in self.increments.items()}
        for at in repeated:
            held = left[self.claims.cells[at]]
            lessened = map(operator.sub, held, self.claims.counts_of(at))
            held[:] = [max(count, 0) for count in lessened]  # a sum that stays put is too small
        return {cell: counts for cell, counts in left.items() if any(counts)}


class Committed(msgspec.Struct, frozen=True):
    """A batch after it became durable: its answer, and what was really added."""

    answer: Answer
    increments: Increments


class Loaded(msgspec.Struct, frozen=True):
    """State as stored.

    Attributes:
        blocks: history within the retention, each block of a series once, read as it is asked for.
        totals: what every series counted since the store began.
        documents: small values by name.
    """

    blocks: Iterable[Block]
    totals: Mapping[Series, Counts]
    documents: Mapping[str, bytes]


class Changes(msgspec.Struct, frozen=True):
    """What was committed since a reader last asked, by anybody.

    Attributes:
        increments: what was added.
        documents: those that changed, by name.
        complete: nothing is missing; otherwise the reader has to load everything again.
    """

    increments: Increments = msgspec.field(default_factory=dict)
    documents: Mapping[str, bytes] = msgspec.field(default_factory=dict)
    complete: bool = True


class Store(Protocol):
    """Durable sums of usage, identities seen, and small documents.

    All calls but `backup` come from one thread at a time. Returned values belong to the caller.
    Every method raises `StorageError` when the promise cannot be kept.

    Attributes:
        shared: other processes write to the same store. A reader then takes its state from
            `changes` alone, because its own commits are in there with everybody else's.
        created: Unix seconds at which the store began.
        warnings: what in its surroundings endangers what was acknowledged, for the operator.
    """

    shared: bool
    created: float
    warnings: tuple[str, ...]

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        """Make the batches durable together, in order, each identity counted once.

        Sums stay put at `MAX_SUM`. Any other exception than `StorageError` is due to a batch, and
        nothing was changed. After a `StorageError`

        - SQLite has changed nothing;
        - one Redis has counted all of the group or nothing: which, is unknown where the answer was
          lost or `?replicas=` did not confirm;
        - a Redis Cluster has, of every provider by itself, counted all or nothing; and replaced
          the documents, or not.

        So the batches are to be sent again. What has an identity, or came under a key, counts once
        then, in every case and on any replica, and documents are merged. Usage with neither counts
        twice where it had been counted: only its sender could tell it from more of the same.
        """
        ...

    def tidy(self, now: float, *, thoroughly: bool = False) -> bool:
        """Do a little of the work that can wait, for a few milliseconds; whether more is left.

        Args:
            thoroughly: also what is not due yet, and `load` would have to do.
        """
        ...

    def load(self, now: float) -> Loaded:
        """Everything within the retention, and the mark from which `changes` continues.

        There may be commits while the blocks are read, which are not in them, but no `tidy`.
        """
        ...

    def changes(self, now: float) -> Changes | None:
        """What changed since the last `load` or `changes`; None when nobody else writes."""
        ...

    def set_retention(self, retention: float) -> None:
        """Keep history for so many seconds from now on; what is gone stays gone."""
        ...

    def check(self, now: float) -> float | None:
        """Raise `StorageError` when what is committed would not be there after a restart.

        Args:
            now: Unix seconds at this very moment.

        Returns:
            Seconds by which that is ahead of the store's own clock; None where it has none.
        """
        ...

    def on_commit(self, notify: Callable[[], None]) -> None:
        """Call `notify` soon after somebody committed, in any thread, until `close`.

        A hint that may be missed, or come for nothing: `changes` tells what there is. Called again,
        it is the last `notify` that hears of it.
        """
        ...

    def prune(self, now: float) -> None:
        """Drop history past the retention and identities past their time."""
        ...

    def backup(self) -> Path:
        """Write a copy as of one moment to a file of its own, which the caller is to remove.

        It may run in another thread beside all other calls, but not beside itself.

        Raises:
            NoBackup: that is done by other means.
        """
        ...

    def close(self) -> None:
        """Finish; everything committed stays."""
        ...
