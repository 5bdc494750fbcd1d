"""A commit group on its way to `commit.lua`, and what came back."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from exporter.core.series import encode
from exporter.core.slots import WIDTH, Cell, Counts, Increments, merge
from exporter.storage.contract import Answer, Batch, Committed, DedupEntries, DedupEntry
from exporter.storage.redis_documents import Document
from exporter.storage.redis_keys import DOCUMENTS, KEYS, prefix_of


class Outcome(NamedTuple):
    """What `commit.lua` returns for a batch."""

    repeated: bool
    accepted: int
    duplicates: int
    baselines: int
    rejected: str
    novel: str
    rises: list[Counts]


outcomes = msgspec.msgpack.Decoder(list[Outcome])


def entry(
    batch: Batch, places: Mapping[str, int], at: int, documents: Sequence[Document]
) -> tuple[object, ...]:
    """A batch and its documents as `commit.lua` takes them; `places` of providers, and `at` of
    documents, are indices into its keys.
    """
    cells: list[tuple[int, str, int, Counts]] = []
    indices: dict[Cell, int] = {}  # from 1, as Lua counts

    def index(cell: Cell, counts: Counts) -> int:
        series, slot = cell
        cells.append((places[series.provider], encode(series), slot, counts))
        indices[cell] = len(cells)
        return len(cells)

    for cell, counts in batch.increments.items():
        index(cell, counts)
    nothing = [0] * WIDTH
    claims: list[int] = []
    for claim in batch.claims:
        claims.append(indices[claim.cell])
        claims += claim.counts
    reports = [
        (
            report.started,
            indices.get(report.cell) or index(report.cell, nothing),
            report.counts,
            report.sampled,
        )
        for report in batch.reports
    ]
    names = (at, [text for one in documents for text in (one.name, one.base)])
    rejected = batch.rejected.decode()
    return bool(batch.key), batch.events, rejected, cells, claims, reports, names


def digests(batch: Batch) -> Sequence[bytes]:
    """The identities in a batch, in the order in which `commit.lua` takes them."""
    return (batch.key, *batch.claims.digests, *[report.digest for report in batch.reports])


def providers(batch: Batch) -> set[str]:
    """The providers for which a batch holds something."""
    names = {series.provider for series, _ in batch.increments}
    names.update(report.cell[0].provider for report in batch.reports)
    return names


def shares_of(batch: Batch) -> Iterable[tuple[str, Batch]]:
    """What of a batch belongs to each provider, and apart from that its documents, as a cluster
    keeps them; each with the home under which its answer is kept."""
    shares: dict[str, Batch] = {}

    def of(prefix: str) -> Batch:
        # Only the first holds the events that were summed already: nobody knows whose they are.
        events = 0 if shares else batch.events
        return shares.setdefault(
            prefix, Batch(events=events, key=batch.key, rejected=batch.rejected)
        )

    for cell, counts in batch.increments.items():
        of(prefix_of(cell[0].provider)).increments[cell] = counts
    claims: dict[str, list[DedupEntry]] = {}
    for claim in batch.claims:
        claims.setdefault(prefix_of(claim.cell[0].provider), []).append(claim)
    for prefix, some in claims.items():
        of(prefix).claims = DedupEntries.of(some)
    for report in batch.reports:
        of(prefix_of(report.cell[0].provider)).reports.append(report)
    if batch.documents:
        shares[DOCUMENTS] = Batch(
            events=0 if shares else batch.events,
            key=batch.key,
            rejected=batch.rejected,
            documents=batch.documents,
        )
    return shares.items() if shares or not batch.key else [(KEYS, batch)]


def committed(batch: Batch, shares: Sequence[tuple[Batch, Outcome]] | None) -> Committed:
    """Add up what became of the shares of a batch; None when it held nothing to decide."""
    if shares is None:
        return Committed(Answer(batch.events, rejected=batch.rejected), batch.increments)
    added: Increments = {}
    for share, outcome in shares:
        if not outcome.repeated:
            repeated = [at for at, novel in enumerate(outcome.novel) if novel == "0"]
            merge(added, share.without(repeated) if repeated else share.increments)
            for report, rise in zip(share.reports, outcome.rises, strict=True):
                if rise:
                    merge(added, {report.cell: rise})
    found = [outcome for _, outcome in shares]
    answer = Answer(
        accepted=sum(outcome.accepted for outcome in found),
        duplicates=sum(outcome.duplicates for outcome in found),
        baselines=sum(outcome.baselines for outcome in found),
        rejected=found[0].rejected.encode(),
        repeated=all(outcome.repeated for outcome in found),
    )
    return Committed(answer, added)
