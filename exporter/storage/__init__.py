"""Durable sums of usage: the contract, and the stores behind it."""

from exporter.storage.contract import CorruptStorage, Merge, StorageError, Store, replace

__all__ = ["CorruptStorage", "StorageError", "Store", "open_store"]


def open_store(
    url: str, *, retention: float, deduplication: float, now: float, merge: Merge = replace
) -> Store:
    """Open the store a URL names: `sqlite:///path`, `memory://` or `redis://…`.

    Args:
        url: where the data lives.
        retention: seconds of history to keep.
        deduplication: seconds for which an identity is remembered at the least.
        now: Unix seconds; when the store is new, its beginning.
        merge: what a new version of a document makes of the stored one.

    Raises:
        ValueError: the URL names no known kind of store.
        StorageError: it cannot be opened.
    """
    if url == "memory://":
        path = ":memory:"
    elif url.startswith("sqlite:///"):
        path = url.removeprefix("sqlite:///")
    elif url.startswith(("redis://", "rediss://", "redis+cluster://")):
        try:
            from exporter.storage.redis import RedisStore
        except ModuleNotFoundError as error:
            raise StorageError(
                f"storage.url: {error}; install llm-quota-exporter[redis]"
            ) from error
        return RedisStore(
            url, retention=retention, deduplication=deduplication, now=now, merge=merge
        )
    else:
        raise ValueError(
            "storage.url: expected sqlite:///path, memory:// or redis://host, "
            f"got {url.partition(':')[0]!r}"  # behind that a password may stand
        )
    if not path:
        raise ValueError(f"storage.url: sqlite:/// needs a path, got {url!r}")
    from exporter.storage.sqlite import SqliteStore

    return SqliteStore(path, retention=retention, deduplication=deduplication, now=now, merge=merge)
