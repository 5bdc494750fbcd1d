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
from contextlib import contextmanager
from hashlib import sha1
from importlib.resources import files
from itertools import islice
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import msgspec
import numpy as np
import redis
from redis.backoff import NoBackoff
from redis.cluster import PipelineCommand, RedisCluster
from redis.exceptions import AskError, NoScriptError, RedisClusterException, TryAgainError
from redis.retry import Retry

from exporter.core.slots import (
    COARSE,
    FINE,
    FINE_HORIZON_SECONDS,
    TIERS,
    WIDTH,
    Block,
    Counts,
    Increments,
    Tier,
    merge,
)
from exporter.storage.contract import (
    Answer,
    Batch,
    Changes,
    Committed,
    CorruptStorage,
    StorageError,
)

TIMEOUT_SECONDS = 2.0  # a push then hears 503 while its client still waits
GRACE_SECONDS = 3600.0  # expiry waits for the slowest replica's clock
PROVIDERS_AT_ONCE = 32  # histories that are asked for in one round trip
CATCH_UP = 200  # providers read anew at a time, so that commits need not wait for thousands

DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
"""How Redis must be configured to keep what it acknowledged."""

_PROVIDERS, _CREATED = "llmq:providers", "llmq:created"
# Quoted provider names have no asterisk.
_KEYS, _DOCUMENTS = "llmq:{*keys}", "llmq:{*documents}"
_NO_CONTENTS = "+inf"

_TIERS = {tier.name: tier for tier in TIERS}
_encode = msgspec.msgpack.encode

Command = tuple[Any, ...]


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


class _Script(NamedTuple):
    source: str
    digest: str

    @classmethod
    def load(cls, name: str) -> "_Script":
        source = files(__package__).joinpath(name).read_text()
        return cls(source, sha1(source.encode()).hexdigest())  # noqa: S324 - Redis' name for it

    def call(self, keys: Sequence[str], *arguments: object) -> Command:
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)

    def in_full(self, call: Command) -> Command:
        return ("EVAL", self.source, *call[2:])


_COMMIT, _READ, _PRUNE = (_Script.load(f"{name}.lua") for name in ("commit", "read", "prune"))
_SCRIPTS = {script.digest: script for script in (_COMMIT, _READ, _PRUNE)}


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
        self._where, self._cluster, self._replicas, url = _understand(url)
        with self._errors("open"):
            try:
                client: Any = RedisCluster if self._cluster else redis.Redis
                self._client = client.from_url(
                    url,
                    socket_timeout=TIMEOUT_SECONDS,
                    socket_connect_timeout=TIMEOUT_SECONDS,
                    retry=Retry(NoBackoff(), 0),  # a commit sent again could count twice
                    redis_connect_func=self._connected,
                )
                self._client.set(_CREATED, now, nx=True)
            except (TypeError, ValueError) as error:
                raise ValueError(f"storage.url: {self._where}: {error}") from error
            self.created = float(self._client.get(_CREATED))
            self.warnings = self._inspect()

    def _connected(self, connection: Any) -> None:
        connection.on_connect()
        # The server may be another one, or have come back with less than was read from it.
        self._marks.clear()

    def _inspect(self) -> tuple[str, ...]:
        """What in the server's configuration endangers what was acknowledged."""
        try:
            found = self._client.config_get(*DURABLE)
        except redis.ResponseError as error:
            return (f"{self._where}: cannot check that Redis keeps what it acknowledges: {error}",)
        return tuple(
            f"{self._where}: acknowledged tokens can be lost: {name}: expected {value}, "
            f"got {found.get(name)}"
            for name, value in DURABLE.items()
            if found.get(name) != value
        )

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise StorageError(f"{self._where}: cannot {doing}: {error}") from error
        except msgspec.DecodeError as error:
            raise CorruptStorage(
                f"{self._where}: cannot {doing}: {error}; what is under llmq:* was written by "
                "something else or another version: choose another database"
            ) from error

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in one round trip; what each was answered."""
        replies = self._send(commands)
        for index, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                script = _SCRIPTS[commands[index][1]]
                replies[index] = self._client.execute_command(*script.in_full(commands[index]))
            elif isinstance(reply, AskError | TryAgainError):  # a MovedError is an AskError
                replies[index] = self._client.execute_command(*commands[index])
            elif isinstance(reply, Exception):
                raise reply
        return replies

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        if not self._cluster:
            with self._client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return list(pipeline.execute(raise_on_error=False))
        queue = [
            PipelineCommand(command, {}, place)  # type: ignore[no-untyped-call] # untyped there
            for place, command in enumerate(commands)
        ]
        # Not `execute`, which sends again what a lost connection may have carried out.
        return list(
            self._client.pipeline().send_cluster_commands(
                queue, raise_on_error=False, allow_redirections=False
            )
        )

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        """See `Store.commit`."""
        plain = Batch()
        shares: list[tuple[str, int, Batch]] = []
        for index, batch in enumerate(batches):
            if batch.key or batch.claims or batch.levels or batch.documents:
                shares += ((home, index, share) for home, share in self._shares(batch))
            else:
                merge(plain.increments, batch.increments)
        if plain.increments:
            shares += ((home, -1, share) for home, share in self._shares(plain))
        calls: dict[str, list[Batch]] = {}
        for home, _, share in shares:
            calls.setdefault(home, []).append(share)
        with self._errors("store"):
            self._introduce(share for _, _, share in shares)
            replies = self._run([self._call(home, some, now) for home, some in calls.items()])
            outcomes = {
                home: iter(_outcomes.decode(reply))
                for home, reply in zip(calls, replies, strict=True)
            }
            self._await_replicas()
        told: dict[int, list[tuple[Batch, _Outcome]]] = {}
        for home, index, share in shares:
            told.setdefault(index, []).append((share, next(outcomes[home])))
        return [_committed(batch, told.get(index)) for index, batch in enumerate(batches)]

    def _shares(self, batch: Batch) -> Iterable[tuple[str, Batch]]:
        """What of a batch can be counted together, and under which prefix its answer is kept."""
        if not self._cluster:
            return [(_KEYS, batch)]
        shares: dict[str, Batch] = {}

        def of(prefix: str) -> Batch:
            # Only the first holds the events that were summed already: nobody knows whose they are.
            events = 0 if shares else batch.events
            return shares.setdefault(
                prefix, Batch({}, events, [], [], batch.key, batch.rejected, documents={})
            )

        for cell, counts in batch.increments.items():
            of(_prefix(cell[0])).increments[cell] = counts
        for claim in batch.claims:
            of(_prefix(claim.cell[0])).claims.append(claim)
        for level in batch.levels:
            of(_prefix(level.cell[0])).levels.append(level)
        if batch.documents:
            of(_DOCUMENTS).documents = batch.documents
        return shares.items() if shares or not batch.key else [(_KEYS, batch)]

    def _introduce(self, batches: Iterable[Batch]) -> None:
        """Make new providers known to every replica, before anything of theirs is counted."""
        known = self._providers.values()
        new = set().union(*map(_names, batches)).difference(known)
        if new:
            self._client.sadd(_PROVIDERS, *new)
            self._providers.update((_prefix(name), name) for name in new)

    def _call(self, home: str, batches: Sequence[Batch], now: float) -> Command:
        names = sorted(set().union(*map(_names, batches)))
        keys = [home, *map(_prefix, names)]
        places = {name: place for place, name in enumerate(names, 2)}
        if any(batch.documents for batch in batches):
            keys.append(_DOCUMENTS)
            places[""] = len(keys)
        period = int(now // self._deduplication)
        remembering = (period, int((period + 2) * self._deduplication + GRACE_SECONDS))
        levels = (max(self.created, now - self._retention), int(now + self._retention))
        tiers = [
            (tier.name, tier.slots_per_bin, tier.bins, oldest, tier.block_seconds, kept)
            for tier, oldest, kept in self._kept(now)
        ]
        entries = [
            (
                bool(batch.key),
                batch.events,
                batch.rejected.decode(),
                list(batch.increments.items()),
                [(claim.cell, claim.counts) for claim in batch.claims],
                [(level.started, level.cell, level.counts) for level in batch.levels],
                list(batch.documents),
            )
            for batch in batches
        ]
        digests = b"".join(
            digest
            for batch in batches
            for digest in (
                batch.key,
                *(claim.digest for claim in batch.claims),
                *(level.digest for level in batch.levels),
            )
        )
        bodies = [body for batch in batches for body in batch.documents.values()]
        settings = (places, remembering, levels, tiers, WIDTH)
        return _COMMIT.call(keys, _encode(settings), _encode(entries), digests, *bodies)

    def _kept(self, now: float) -> Iterable[tuple[Tier, int, int]]:
        """Each tier with its oldest block, and for how many seconds blocks are kept."""
        for tier, horizon in ((FINE, FINE_HORIZON_SECONDS), (COARSE, self._retention)):
            yield tier, int(now - horizon) // tier.block_seconds, int(horizon + GRACE_SECONDS)

    def _await_replicas(self) -> None:
        if self._replicas:
            # The pool hands out the connection it took back last: that of the commit.
            confirmed = self._client.wait(self._replicas, int(TIMEOUT_SECONDS * 500))
            if confirmed < self._replicas:
                raise StorageError(
                    f"{self._where}: expected {self._replicas} replicas to confirm, got {confirmed}"
                )

    def load(self, now: float) -> Changes:
        """See `Store.load`."""
        with self._errors("read"):
            self._marks.clear()
            self._discover()
            heads = dict.fromkeys(self._providers, _NO_CONTENTS)
            changes = self._gather({_DOCUMENTS: "0", **heads}, now)
        return Changes(self._history(now), changes.totals, changes.documents)

    def _history(self, now: float) -> Iterator[Block]:
        with self._errors("read"):
            for prefix, (_, _, contents) in self._read(dict.fromkeys(self._providers, "0")):
                yield from self._blocks(prefix, contents, now)

    def changes(self, now: float) -> Changes | None:
        """See `Store.changes`.

        After a new connection everything is read again, some providers at each call.
        """
        with self._errors("read"):
            self._discover()
            prefixes = [_DOCUMENTS, *self._providers]
            mget = self._client.mget_nonatomic if self._cluster else self._client.mget
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
        if self._client.scard(_PROVIDERS) != len(self._providers):
            names = (name.decode() for name in self._client.smembers(_PROVIDERS))
            self._providers = {_prefix(name): name for name in names}

    def _read(self, since: Mapping[str, str]) -> Iterator[tuple[str, list[Any]]]:
        """Each prefix with the reply of `read.lua`, fetched a few at a time."""
        prefixes = list(since)
        for start in range(0, len(prefixes), PROVIDERS_AT_ONCE):
            some = prefixes[start : start + PROVIDERS_AT_ONCE]
            replies = self._run([_READ.call([prefix], since[prefix]) for prefix in some])
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
        with self._errors("prune"):
            self._discover()
            self._run([_PRUNE.call([prefix], *oldest) for prefix in self._providers])

    def close(self) -> None:
        """See `Store.close`."""
        with self._errors("close"):
            self._client.close()


def _understand(url: str) -> tuple[str, bool, int, str]:
    """What may be shown of a URL, whether it is a cluster, replicas, what the driver gets."""
    try:
        parts = urlsplit(url)
        where = f"{parts.scheme}://{parts.hostname or 'localhost'}:{parts.port or 6379}{parts.path}"
    except ValueError:
        # The driver's words could hold a part of the password.
        raise ValueError(
            "storage.url: expected redis://[[user]:password@]host[:port][/database], special "
            "characters in the password as %2F and the like"
        ) from None
    options = parse_qs(parts.query)
    (replicas,) = options.pop("replicas", ["0"])
    cluster = parts.scheme == "redis+cluster"
    if not replicas.isdecimal() or (cluster and int(replicas)):
        raise ValueError(
            f"storage.url: replicas: expected a number, and none in a cluster, got {replicas!r}"
        )
    scheme = "redis" if cluster else parts.scheme
    query = urlencode(options, doseq=True)
    return where, cluster, int(replicas), parts._replace(scheme=scheme, query=query).geturl()


def _prefix(provider: str) -> str:
    # Quoted: a brace in a name would end the hash tag.
    return f"llmq:{{{quote(provider, safe='')}}}"


def _names(batch: Batch) -> set[str]:
    """The providers for which a batch holds something."""
    names = {provider for provider, _, _ in batch.increments}
    names.update(claim.cell[0] for claim in batch.claims)
    names.update(level.cell[0] for level in batch.levels)
    return names


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _committed(batch: Batch, told: Sequence[tuple[Batch, _Outcome]] | None) -> Committed:
    """Add up what was told about the shares of a batch; None when it held nothing to decide."""
    if told is None:
        return Committed(Answer(batch.events, rejected=batch.rejected), batch.increments)
    added: Increments = {}
    for share, outcome in told:
        if not outcome.repeated:
            merge(added, share.increments)
            for claim, novel in zip(share.claims, outcome.novel, strict=True):
                if novel == "1":
                    merge(added, {claim.cell: claim.counts})
            for level, rise in zip(share.levels, outcome.rises, strict=True):
                if rise:
                    merge(added, {level.cell: rise})
    outcomes = [outcome for _, outcome in told]
    answer = Answer(
        accepted=sum(outcome.accepted for outcome in outcomes),
        duplicates=sum(outcome.duplicates for outcome in outcomes),
        baselines=sum(outcome.baselines for outcome in outcomes),
        rejected=outcomes[0].rejected.encode(),
        repeated=all(outcome.repeated for outcome in outcomes),
    )
    return Committed(answer, added)
