"""The connection to Redis: one server or a cluster, scripts, errors, and how safe data is there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.cluster import PipelineCommand, RedisCluster
from redis.exceptions import AskError, NoScriptError, RedisClusterException, TryAgainError
from redis.retry import Retry

from exporter.storage.contract import CorruptStorage, StorageError

TIMEOUT_SECONDS = 2.0  # a push then hears 503 while its client still waits

DURABLE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
"""How Redis must be configured to keep what it acknowledged."""

Command = tuple[Any, ...]


_sources: dict[str, str] = {}  # by digest


class Script:
    """A Lua script beside this module, called by its digest."""

    def __init__(self, name: str) -> None:
        source = files(__package__).joinpath(name).read_text()
        self._digest = sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' name for it
        _sources[self._digest] = source

    def call(self, keys: Sequence[str], *arguments: object) -> Command:
        return ("EVALSHA", self._digest, len(keys), *keys, *arguments)


class Link:
    """Sends commands to a Redis, or to the nodes of a cluster.

    Nothing is ever sent twice that may have been carried out. A connection that broke is made
    anew at the next command.

    Attributes:
        where: the URL without its secrets.
        cluster: whether the keys of a call must lie in one slot.
        client: the driver, for single commands.
    """

    def __init__(self, url: str) -> None:
        """Understand the URL.

        Raises:
            ValueError: the URL is not understood.
        """
        self.where, self.cluster, self._replicas, url = _understand(url)
        client: Any = RedisCluster if self.cluster else redis.Redis
        with self.errors("open"):
            try:
                self.client = client.from_url(
                    url,
                    socket_timeout=TIMEOUT_SECONDS,
                    socket_connect_timeout=TIMEOUT_SECONDS,
                    retry=Retry(NoBackoff(), 0),  # a commit sent again could count twice
                )
                self.client.ping()
            except (TypeError, ValueError) as error:
                raise ValueError(f"storage.url: {self.where}: {error}") from error

    def warnings(self) -> tuple[str, ...]:
        """What in the server's configuration endangers what was acknowledged."""
        try:
            found = self.client.config_get(*DURABLE)
        except redis.ResponseError as error:
            return (f"{self.where}: cannot check that Redis keeps what it acknowledges: {error}",)
        return tuple(
            f"{self.where}: acknowledged tokens can be lost: {name}: expected {value}, "
            f"got {found.get(name)}"
            for name, value in DURABLE.items()
            if found.get(name) != value
        )

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise StorageError(f"{self.where}: cannot {doing}: {error}") from error
        except msgspec.DecodeError as error:
            raise CorruptStorage(
                f"{self.where}: cannot {doing}: {error}; what is under llmq:* was written by "
                "something else or another version: choose another database"
            ) from error

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """Send the commands in one round trip; what each was answered."""
        replies = self._send(commands)
        for index, (command, reply) in enumerate(zip(commands, replies, strict=True)):
            if isinstance(reply, NoScriptError):
                in_full = ("EVAL", _sources[command[1]], *command[2:])
                replies[index] = self.client.execute_command(*in_full)
            elif isinstance(reply, AskError | TryAgainError):  # a MovedError is an AskError
                replies[index] = self.client.execute_command(*command)
            elif isinstance(reply, Exception):
                raise reply
        return replies

    def _send(self, commands: Sequence[Command]) -> list[Any]:
        if not self.cluster:
            with self.client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                return list(pipeline.execute(raise_on_error=False))
        queue = [
            PipelineCommand(command, {}, place)  # type: ignore[no-untyped-call] # untyped there
            for place, command in enumerate(commands)
        ]
        # Not `execute`, which sends again what a lost connection may have carried out.
        return list(
            self.client.pipeline().send_cluster_commands(
                queue, raise_on_error=False, allow_redirections=False
            )
        )

    def await_replicas(self) -> None:
        """Wait until as many replicas as the URL asks for have what was written last."""
        if self._replicas:
            # The pool hands out the connection it took back last: that of the commit.
            confirmed = self.client.wait(self._replicas, int(TIMEOUT_SECONDS * 500))
            if confirmed < self._replicas:
                raise StorageError(
                    f"{self.where}: expected {self._replicas} replicas to confirm, got {confirmed}"
                )


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
