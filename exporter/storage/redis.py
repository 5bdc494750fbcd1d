"""Several replicas, one truth: Redis or Valkey, which counts by itself in a Lua script.

A commit group is one call of `commit.lua` in one round trip; in a cluster, one call per provider.
`redis_keys.py` says which keys there are. Needs Redis 6.2 or any Valkey.

What was acknowledged stays only if Redis runs with `appendonly yes`, `appendfsync always` and
`maxmemory-policy noeviction`; `RedisStore.warnings` says what is amiss. A failover loses what the
new primary had not received: `?replicas=2` in the URL makes every commit wait for two replicas,
and with as many as there are nothing is lost.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path

import msgspec

from exporter.core.slots import (
    COARSE,
    FINE,
    FINE_HORIZON_SECONDS,
    MAX_SUM,
    WIDTH,
    Block,
    Tier,
    merge,
)
from exporter.storage.contract import (
    Batch,
    Changes,
    Committed,
    Loaded,
    Merge,
    NoBackup,
)
from exporter.storage.redis_commit import (
    Outcome,
    committed,
    digests,
    entry,
    outcomes,
    providers,
    shares_of,
)
from exporter.storage.redis_documents import MAX_MERGES, Document, Documents
from exporter.storage.redis_hints import Hints
from exporter.storage.redis_history import HistoryReader, LogReader
from exporter.storage.redis_keys import DOCUMENTS, KEYS, Keys, prefix_of
from exporter.storage.redis_life import Life
from exporter.storage.redis_link import Command, Link, Script
from exporter.storage.redis_migration import LAYOUT, Place, migrate, take_over

GRACE_SECONDS = 3600.0
"""By which replicas' clocks may differ: expiry waits for the slowest, reading for the fastest."""

_encode = msgspec.msgpack.encode

_COMMIT = Script("commit.lua")

log = logging.getLogger("exporter")


class RedisStore:
    """`Store` in a Redis or Valkey that any number of replicas share.

    `redis://`, `rediss://` (TLS) and `redis+cluster://` are understood. A connection that broke is
    made anew at the next call. When an answer got lost, nobody knows whether the group was
    counted: that is a `StorageError`, and a retry counts once by its identities.
    """

    shared = True

    def __init__(
        self, url: str, *, retention: float, deduplication: float, now: float, merge: Merge
    ) -> None:
        self._retention = retention
        self._link = Link(url)
        self._keys = Keys(self._link)
        self._log = LogReader(self._link)
        self._hints: Hints | None = None
        self._documents = Documents(merge)
        with self._link.errors("open"):
            self._life = Life(self._link, deduplication, now)
            self.created = self._life.created
            self._migrate(self._life.new)
            self.warnings = self._link.warnings() + self._life.warnings

    def _place(self) -> Place:
        self._discover()
        return Place(self._link, self._keys.providers, self._keys.home_of_each(), DOCUMENTS)

    def _migrate(self, new: bool) -> None:
        layout = migrate(self._place(), new)
        if layout is not None:
            fields = {"server": self._link.where, "from": layout, "to": LAYOUT}
            log.info("database migrated", extra={"fields": fields})

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        """See `Store.commit`."""
        self._life.require()
        plain = Batch()
        shares: list[tuple[str, int, Batch]] = []
        for index, batch in enumerate(batches):
            if batch.key or batch.claims or batch.reports or batch.documents:
                shares += ((home, index, share) for home, share in self._split(batch))
            else:
                merge(plain.increments, batch.increments)
        if plain.increments:
            shares += ((home, -1, share) for home, share in self._split(plain))
        calls: dict[str, list[Batch]] = {}
        for home, _, share in shares:
            calls.setdefault(home, []).append(share)
        with self._link.errors("store"):
            self._keys.introduce(set().union(*(providers(share) for _, _, share in shares)))
            found = {home: iter(some) for home, some in self._run(calls, now).items()}
            self._link.await_replicas()
        decided: dict[int, list[tuple[Batch, Outcome]]] = {}
        for home, index, share in shares:
            decided.setdefault(index, []).append((share, next(found[home])))
        return [committed(batch, decided.get(index)) for index, batch in enumerate(batches)]

    def _run(
        self, calls: Mapping[str, Sequence[Batch]], now: float
    ) -> dict[str, Sequence[Outcome]]:
        """What became of the batches under each home."""
        left, decided = dict(calls), dict[str, Sequence[Outcome]]()
        found: dict[int, bytes | None] = {}
        forced: Collection[int] = ()
        for attempt in count(1):
            documents = {
                home: list(self._documents.merged(left[home], found, forced)) for home in left
            }
            commands = [self._call(home, left[home], documents[home], now) for home in left]
            for home, reply in zip(documents, self._link.run(commands), strict=True):
                if isinstance(reply, list):  # only one of the homes is that of documents
                    others = {
                        at - 1: body for at, body in zip(reply[::2], reply[1::2], strict=True)
                    }
                    found |= others
                    forced = others if attempt >= MAX_MERGES else ()
                    continue
                decided[home] = outcomes.decode(reply)
                for outcome, those in zip(decided[home], documents[home], strict=True):
                    if not outcome.repeated:
                        self._documents.bodies.update((one.name, one.body) for one in those)
                del left[home]
            if not left:
                break
        return decided

    def _split(self, batch: Batch) -> Iterable[tuple[str, Batch]]:
        """What of a batch can be counted together, and under which home its answer is kept."""
        return shares_of(batch) if self._link.cluster else [(KEYS, batch)]

    def _call(
        self,
        home: str,
        batches: Sequence[Batch],
        documents: Sequence[Sequence[Document]],
        now: float,
    ) -> Command:
        now = self._life.time(now)
        number, before, seconds = self._life.period_of(now)
        remembering = (number, before, seconds + int(GRACE_SECONDS))
        reports = (max(self.created, now - self._retention), int(self._retention))
        tiers = [
            (tier.name, tier.slots_per_bin, tier.bins, oldest, tier.block_seconds, expires)
            for tier, oldest, expires in self._kept(now)
        ]
        settings = (remembering, reports, tiers, WIDTH, MAX_SUM)
        names = sorted(set().union(*map(providers, batches)))
        places = {name: place for place, name in enumerate(names, 2)}
        keys = [home, *map(prefix_of, names), DOCUMENTS]
        if not any(batch.documents for batch in batches):
            keys.pop()  # in a cluster it lies elsewhere
        entries = [
            entry(batch, places, len(keys), those)
            for batch, those in zip(batches, documents, strict=True)
        ]
        identities = b"".join(one for batch in batches for one in digests(batch))
        bodies = [one.body for those in documents for one in those]
        return _COMMIT.call(keys, _encode(settings), _encode(entries), identities, *bodies)

    def _kept(self, now: float) -> Iterable[tuple[Tier, int, int]]:
        """Each tier with its oldest block, and in how many seconds a block of number 0 expires."""
        for tier, horizon in ((FINE, FINE_HORIZON_SECONDS), (COARSE, self._retention)):
            oldest = int(now - horizon) // tier.block_seconds
            yield tier, oldest, int(tier.block_seconds + horizon + GRACE_SECONDS - now)

    def tidy(self, now: float, *, thoroughly: bool = False) -> bool:
        """See `Store.tidy`: the server keeps its sums as they are read."""
        return False

    def load(self, now: float) -> Loaded:
        """See `Store.load`."""
        with self._link.errors("read"):
            self._life.check(now)
            self._discover()
            self._log.versions = self._log.present(self._keys.homes())
            reader = HistoryReader(self._link, self._log, self._keys.home_of_each())
            bodies = self._link.client.hgetall(f"{DOCUMENTS}:bodies")
            documents = {name.decode(): body for name, body in bodies.items()}
            self._documents.bodies = documents.copy()
            return Loaded(self._blocks(reader, now), reader.totals(), documents)

    def _blocks(self, reader: HistoryReader, now: float) -> Iterator[Block]:
        wanted = [
            (tier, range(oldest, int(now + GRACE_SECONDS) // tier.block_seconds + 1))
            for tier, oldest, _ in self._kept(now)
        ]
        with self._link.errors("read"):
            yield from reader.blocks(wanted)

    def changes(self, now: float) -> Changes | None:
        """See `Store.changes`."""
        with self._link.errors("read"):
            self._discover()
            try:
                increments, names = self._log.changes(self._keys.homes())
            except LookupError:
                self._life.check(now)  # was it flushed?
                return Changes(complete=False)
            documents: dict[str, bytes] = {}
            if names:
                bodies = self._link.client.hmget(f"{DOCUMENTS}:bodies", names)
                found = zip(names, bodies, strict=True)
                documents = {name: body for name, body in found if body is not None}
                self._documents.bodies.update(documents)
            return Changes(increments, documents)

    def _discover(self) -> None:
        self._life.require()
        self._keys.refresh()

    def set_retention(self, retention: float) -> None:
        """See `Store.set_retention`."""
        self._retention = retention

    def check(self, now: float) -> float | None:
        """See `Store.check`."""
        with self._link.errors("check"):
            self._life.check(now)
        return self._life.clock_ahead

    def prune(self, now: float) -> None:
        """See `Store.prune`; blocks, identities and counters expire by themselves."""
        self._life.time(now)
        with self._link.errors("prune"):
            if take_over(self._place()):
                log.warning(
                    "replicas of an older version still count; stop them",
                    extra={"fields": {"server": self._link.where}},
                )

    def backup(self) -> Path:
        """See `Store.backup`: a Redis is backed up by its own means."""
        raise NoBackup("a Redis is backed up by its own means: BGSAVE, or its append-only file")

    def on_commit(self, notify: Callable[[], None]) -> None:
        """See `Store.on_commit`."""
        if self._hints is not None:
            self._hints.close()
        self._hints = Hints(self._link.client, notify)

    def close(self) -> None:
        """See `Store.close`."""
        if self._hints is not None:
            self._hints.close()
        with self._link.errors("close"):
            self._link.client.close()
