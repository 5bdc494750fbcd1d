"""Several replicas, one truth: Redis or Valkey, which counts by itself in a Lua script.

A commit group is one call of `commit.lua` in one round trip; in a cluster, one call per provider.
The keys of a provider share a hash tag, `llmq:{openai}…`:

    :<tier>:<number>:<kind>  a block's tokens per bin, 64-bit big-endian integers
    :totals                  hash `<kind>:<model>` -> count since the store began
    :seen:<period>           set of the identities claimed in one deduplication period
    :level:<digest>          a cumulative counter's start and highest values
    :version, :changed       how often it changed, and which key last in which version

Answers by Idempotency-Key are under `llmq:{*keys}` (in a cluster each provider has its share of
them), documents under `llmq:{*documents}`. Needs Redis 6.2 or any Valkey.

What was acknowledged stays only if Redis runs with `appendonly yes`, `appendfsync always` and
`maxmemory-policy noeviction`; `RedisStore.warnings` says what is amiss. A failover loses what the
new primary had not received: `?replicas=2` in the URL makes every commit wait for two replicas,
and with as many as there are nothing is lost.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np

from exporter.core.slots import (
    COARSE,
    FINE,
    FINE_HORIZON_SECONDS,
    TIERS,
    WIDTH,
    Block,
    Cell,
    Counts,
    Increments,
    Tier,
    merge,
)
from exporter.storage.contract import Answer, Batch, Changes, Committed, DedupEntries, DedupEntry
from exporter.storage.redis_link import Command, Link, Script

GRACE_SECONDS = 3600.0  # expiry waits for the slowest replica's clock
PROVIDERS_AT_ONCE = 32  # histories that are asked for in one round trip
CATCH_UP = 200  # providers read anew at a time, so that commits need not wait for thousands

_PROVIDERS, _CREATED = "llmq:providers", "llmq:created"
# Quoted provider names have no asterisk.
_KEYS, _DOCUMENTS = "llmq:{*keys}", "llmq:{*documents}"
_NO_CONTENTS = "+inf"

_TIERS = {tier.name: tier for tier in TIERS}
_encode = msgspec.msgpack.encode


class _Outcome(NamedTuple):
    """What `commit.lua` returns for a batch."""

    repeated: bool
    accepted: int
    duplicates: int
    baselines: int
    rejected: str
    novel: str
    rises: list[Counts]


_outcomes = msgspec.msgpack.Decoder(list[_Outcome])


_COMMIT, _READ, _PRUNE = Script("commit.lua"), Script("read.lua"), Script("prune.lua")


class RedisStore:
    """`Store` in a Redis or Valkey that any number of replicas share.

    `redis://`, `rediss://` (TLS) and `redis+cluster://` are understood. A connection that broke is
    made anew at the next call. When an answer got lost, nobody knows whether the group was
    counted: that is a `StorageError`, and a retry counts once by its identities.
    """

    shared = True

    def __init__(self, url: str, *, retention: float, deduplication: float, now: float) -> None:
        self._retention = retention
        self._deduplication = deduplication
        self._providers: dict[str, str] = {}  # by prefix
        self._marks: dict[str, int] = {}  # by prefix: the version up to which all was read
        # A new connection may be to another server, or to one that came back with less.
        self._link = Link(url, connected=self._marks.clear)
        with self._link.errors("open"):
            client = self._link.client
            client.set(_CREATED, now, nx=True)
            self.created = float(client.get(_CREATED))
            self.warnings = self._link.warnings()

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        """See `Store.commit`."""
        plain = Batch()
        shares: list[tuple[str, int, Batch]] = []
        for index, batch in enumerate(batches):
            if batch.key or batch.claims or batch.reports or batch.documents:
                shares += ((home, index, share) for home, share in self._shares(batch))
            else:
                merge(plain.increments, batch.increments)
        if plain.increments:
            shares += ((home, -1, share) for home, share in self._shares(plain))
        calls: dict[str, list[Batch]] = {}
        for home, _, share in shares:
            calls.setdefault(home, []).append(share)
        with self._link.errors("store"):
            self._introduce(share for _, _, share in shares)
            replies = self._link.run([self._call(home, some, now) for home, some in calls.items()])
            outcomes = {
                home: iter(_outcomes.decode(reply))
                for home, reply in zip(calls, replies, strict=True)
            }
            self._link.await_replicas()
        told: dict[int, list[tuple[Batch, _Outcome]]] = {}
        for home, index, share in shares:
            told.setdefault(index, []).append((share, next(outcomes[home])))
        return [_committed(batch, told.get(index)) for index, batch in enumerate(batches)]

    def _shares(self, batch: Batch) -> Iterable[tuple[str, Batch]]:
        """What of a batch can be counted together, and under which prefix its answer is kept."""
        if not self._link.cluster:
            return [(_KEYS, batch)]
        shares: dict[str, Batch] = {}

        def of(prefix: str) -> Batch:
            # Only the first holds the events that were summed already: nobody knows whose they are.
            events = 0 if shares else batch.events
            return shares.setdefault(
                prefix, Batch(events=events, key=batch.key, rejected=batch.rejected)
            )

        for cell, counts in batch.increments.items():
            of(_prefix(cell[0])).increments[cell] = counts
        claims: dict[str, list[DedupEntry]] = {}
        for claim in batch.claims:
            claims.setdefault(_prefix(claim.cell[0]), []).append(claim)
        for prefix, some in claims.items():
            of(prefix).claims = DedupEntries.of(some)
        for report in batch.reports:
            of(_prefix(report.cell[0])).reports.append(report)
        if batch.documents:
            of(_DOCUMENTS).documents = batch.documents
        return shares.items() if shares or not batch.key else [(_KEYS, batch)]

    def _introduce(self, batches: Iterable[Batch]) -> None:
        """Make new providers known to every replica, before anything of theirs is counted."""
        known = self._providers.values()
        new = set().union(*map(_names, batches)).difference(known)
        if new:
            self._link.client.sadd(_PROVIDERS, *new)
            self._providers.update((_prefix(name), name) for name in new)

    def _call(self, home: str, batches: Sequence[Batch], now: float) -> Command:
        period = int(now // self._deduplication)
        remembering = (period, int((period + 2) * self._deduplication + GRACE_SECONDS))
        reports = (max(self.created, now - self._retention), int(now + self._retention))
        tiers = [
            (tier.name, tier.slots_per_bin, tier.bins, oldest, tier.block_seconds, kept)
            for tier, oldest, kept in self._kept(now)
        ]
        settings = (remembering, reports, tiers, WIDTH)
        names = sorted(set().union(*map(_names, batches)))
        places = {name: place for place, name in enumerate(names, 2)}
        keys = [home, *map(_prefix, names), _DOCUMENTS]
        if not any(batch.documents for batch in batches):
            keys.pop()  # in a cluster it lies elsewhere
        entries = [_entry(batch, places, len(keys)) for batch in batches]
        digests = b"".join(
            digest
            for batch in batches
            for digest in (
                batch.key,
                *batch.claims.digests,
                *[report.digest for report in batch.reports],
            )
        )
        bodies = [body for batch in batches for body in batch.documents.values()]
        return _COMMIT.call(keys, _encode(settings), _encode(entries), digests, *bodies)

    def _kept(self, now: float) -> Iterable[tuple[Tier, int, int]]:
        """Each tier with its oldest block, and for how many seconds blocks are kept."""
        for tier, horizon in ((FINE, FINE_HORIZON_SECONDS), (COARSE, self._retention)):
            yield tier, int(now - horizon) // tier.block_seconds, int(horizon + GRACE_SECONDS)

    def tidy(self, now: float) -> bool:
        """See `Store.tidy`: the server keeps its sums as they are read."""
        return False

    def load(self, now: float) -> Changes:
        """See `Store.load`."""
        with self._link.errors("read"):
            self._marks.clear()
            self._discover()
            heads = dict.fromkeys(self._providers, _NO_CONTENTS)
            changes = self._gather({_DOCUMENTS: "0", **heads}, now)
        return Changes(self._history(now), changes.totals, changes.documents)

    def _history(self, now: float) -> Iterator[Block]:
        with self._link.errors("read"):
            for prefix, (_, _, contents) in self._read(dict.fromkeys(self._providers, "0")):
                yield from self._blocks(prefix, contents, now)

    def changes(self, now: float) -> Changes | None:
        """See `Store.changes`.

        After a new connection everything is read again, some providers at each call.
        """
        with self._link.errors("read"):
            self._discover()
            prefixes = [_DOCUMENTS, *self._providers]
            mget = (
                self._link.client.mget_nonatomic if self._link.cluster else self._link.client.mget
            )
            found = mget([f"{prefix}:version" for prefix in prefixes])
            known, unknown = {}, {}
            for prefix, version in zip(
                prefixes, map(int, (raw or 0 for raw in found)), strict=True
            ):
                mark = self._marks.get(prefix, 0)
                if version > mark > 0:
                    known[prefix] = str(mark)
                elif version != mark:
                    unknown[prefix] = "0"
            return self._gather(known | dict(islice(unknown.items(), CATCH_UP)), now)

    def _discover(self) -> None:
        if self._link.client.scard(_PROVIDERS) != len(self._providers):
            names = (name.decode() for name in self._link.client.smembers(_PROVIDERS))
            self._providers = {_prefix(name): name for name in names}

    def _read(self, since: Mapping[str, str]) -> Iterator[tuple[str, list[Any]]]:
        """Each prefix with the reply of `read.lua`, fetched a few at a time."""
        prefixes = list(since)
        for start in range(0, len(prefixes), PROVIDERS_AT_ONCE):
            some = prefixes[start : start + PROVIDERS_AT_ONCE]
            replies = self._link.run([_READ.call([prefix], since[prefix]) for prefix in some])
            yield from zip(some, replies, strict=True)

    def _gather(self, since: Mapping[str, str], now: float) -> Changes:
        blocks: list[Block] = []
        totals: dict[tuple[str, str], Counts] = {}
        documents: dict[str, bytes] = {}
        marks: dict[str, int] = {}
        for prefix, (version, sums, contents) in self._read(since):
            marks[prefix] = version
            if prefix == _DOCUMENTS:
                documents.update((name[2:].decode(), body) for name, body in _pairs(contents))
            else:
                blocks += self._blocks(prefix, contents, now)
                for field, total in _pairs(sums):
                    kind, _, model = field.decode().partition(":")
                    owner = (self._providers[prefix], model)
                    totals.setdefault(owner, [0] * WIDTH)[int(kind)] = int(total)
        self._marks.update(marks)
        return Changes(blocks, totals, documents)

    def _blocks(self, prefix: str, contents: Sequence[bytes], now: float) -> Iterable[Block]:
        oldest = {tier.name: number for tier, number, _ in self._kept(now)}
        blocks: dict[tuple[str, int], Block] = {}
        for member, body in _pairs(contents):
            name, number, kind = member.decode().split(":")
            if int(number) >= oldest[name]:
                tier = _TIERS[name]
                block = Block(self._providers[prefix], tier, int(number), {})
                block = blocks.setdefault((name, block.number), block)
                tokens = np.zeros(tier.bins, np.int64)
                tokens[: len(body) // 8] = np.frombuffer(body, ">i8")
                block.counts[int(kind)] = tokens
        return blocks.values()

    def prune(self, now: float) -> None:
        """See `Store.prune`; identities and counters expire by themselves."""
        oldest = [word for tier, number, _ in self._kept(now) for word in (tier.name, number)]
        with self._link.errors("prune"):
            self._discover()
            self._link.run([_PRUNE.call([prefix], *oldest) for prefix in self._providers])

    def close(self) -> None:
        """See `Store.close`."""
        with self._link.errors("close"):
            self._link.client.close()


def _prefix(provider: str) -> str:
    # Quoted: a brace in a name would end the hash tag.
    return f"llmq:{{{quote(provider, safe='')}}}"


def _names(batch: Batch) -> set[str]:
    """The providers for which a batch holds something."""
    names = {provider for provider, _, _ in batch.increments}
    names.update(report.cell[0] for report in batch.reports)
    return names


def _entry(batch: Batch, places: Mapping[str, int], documents: int) -> tuple[object, ...]:
    """A batch as `commit.lua` takes it; places are indices into its keys."""
    cells: list[tuple[int, str, int, Counts]] = []
    indices: dict[Cell, int] = {}  # from 1, as Lua counts

    def index(cell: Cell, counts: Counts) -> int:
        provider, model, slot = cell
        cells.append((places[provider], model, slot, counts))
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
        (report.started, indices.get(report.cell) or index(report.cell, nothing), report.counts)
        for report in batch.reports
    ]
    names = (documents, list(batch.documents))
    rejected = batch.rejected.decode()
    return bool(batch.key), batch.events, rejected, cells, claims, reports, names


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _committed(batch: Batch, told: Sequence[tuple[Batch, _Outcome]] | None) -> Committed:
    """Add up what was told about the shares of a batch; None when it held nothing to decide."""
    if told is None:
        return Committed(Answer(batch.events, rejected=batch.rejected), batch.increments)
    added: Increments = {}
    for share, outcome in told:
        if not outcome.repeated:
            repeated = [at for at, novel in enumerate(outcome.novel) if novel == "0"]
            merge(added, share.without(repeated) if repeated else share.increments)
            for report, rise in zip(share.reports, outcome.rises, strict=True):
                if rise:
                    merge(added, {report.cell: rise})
    outcomes = [outcome for _, outcome in told]
    answer = Answer(
        accepted=sum(outcome.accepted for outcome in outcomes),
        duplicates=sum(outcome.duplicates for outcome in outcomes),
        baselines=sum(outcome.baselines for outcome in outcomes),
        rejected=outcomes[0].rejected.encode(),
        repeated=all(outcome.repeated for outcome in outcomes),
    )
    return Committed(answer, added)
