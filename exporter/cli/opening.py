"""Opening a store, and a service on it."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from exporter import quota_states
from exporter.cli.server import steady
from exporter.config import Config
from exporter.core.moment import rfc3339
from exporter.core.windows import DAY
from exporter.intake import otlp_sources
from exporter.service import Service
from exporter.storage import StorageError, Store, open_store
from exporter.storage.group_commit import GroupCommit

T = TypeVar("T")

log = logging.getLogger("exporter")


async def open_service(url: str, config: Config) -> tuple[Service, GroupCommit]:
    """Open the store that is at `url`, and take up what is in it.

    Raises:
        StorageError: the store cannot be opened or read.
    """
    store = await _in_daemon_thread(
        lambda: open_store(
            url,
            retention=config.retention,
            deduplication=config.deduplication,
            now=time.time(),
            merge=_merge,
        )
    )
    for warning in store.warnings:
        log.warning("storage", extra={"fields": {"warning": warning}})
    commits = GroupCommit(store, asyncio.get_running_loop(), time.time)
    service = Service(config, commits, store.shared, time.time, steady)
    try:
        await service.start(time.time())
    except Exception:
        with suppress(StorageError):
            await commits.close()
        raise
    _log_what_was_found(url, store, service)
    return service, commits


def _merge(name: str, ours: bytes, theirs: bytes) -> bytes:
    """What two versions of a stored document say together."""
    if name.startswith(otlp_sources.NOTE):
        return otlp_sources.merge(ours, theirs)
    return quota_states.merge(name, ours, theirs, time.time())


def _log_what_was_found(url: str, store: Store, service: Service) -> None:
    """Log which store it is: one in another place than yesterday's begins at zero."""
    now, totals = time.time(), service.usage.totals
    oldest = service.usage.oldest
    fields = {
        "storage": shown(url),
        "created": rfc3339(math.floor(store.created)),
        "providers": len({series.provider for series in totals}),
        "history_days": 0.0 if oldest is None else round(max(0.0, now - oldest) / DAY, 1),
    }
    log.info("store opened" if totals else "store is empty", extra={"fields": fields})


def shown(url: str) -> str:
    """Where a store is, without passwords; of a file the whole path, whatever folder we are in."""
    if url.startswith("sqlite:///"):
        return f"sqlite:///{Path(url.removeprefix('sqlite:///')).resolve()}"
    return url.partition("?")[0].rpartition("@")[2]


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """What `work` returns; when cancelled, it neither goes on to matter nor holds up the exit.

    A database may take long to open, when it has to be recovered or migrated.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type] # there is one without an error

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # the loop is closed, nobody waits
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name="open", daemon=True).start()
    return await future
