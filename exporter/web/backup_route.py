"""The route that hands out a copy of the database."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from exporter.storage.contract import NoBackup, StorageError
from exporter.web.site import Site
from exporter.workers import Kind

PATH = "/v1/backup"
MEDIA_TYPE = "application/vnd.sqlite3"

RETRY_AFTER = "10"
"""Seconds after which another backup may be asked for again, as text."""

_PIECE = 64 * 1024  # bytes


def backup_routes(site: Site) -> list[Route]:
    """The route; it is a POST so that it needs the right to operate: a copy holds everything.

    One at a time, until its client has it or was too slow: each takes as much of the disk as the
    database.
    """
    busy = asyncio.Lock()

    async def backup(request: Request) -> Response:
        if busy.locked():
            wait = {"retry-after": RETRY_AFTER}
            raise HTTPException(429, "another backup is being made, or handed out", wait)
        await busy.acquire()
        try:
            return _Download(site, await _made(site), busy.release)
        except BaseException:
            busy.release()
            raise

    return [Route(PATH, backup, methods=["POST"])]


async def _made(site: Site) -> BinaryIO:
    try:
        return await site.service.backup()
    except NoBackup as error:
        raise HTTPException(501, str(error)) from error
    except StorageError as error:
        raise HTTPException(503, str(error), {"retry-after": RETRY_AFTER}) from error


class _Download(StreamingResponse):
    """A backup on its way; `finished` is called at its end, whichever it is."""

    def __init__(self, site: Site, file: BinaryIO, finished: Callable[[], None]) -> None:
        headers = {
            "content-length": str(os.fstat(file.fileno()).st_size),
            "content-disposition": 'attachment; filename="quota.db"',
        }
        super().__init__(_pieces(site, file), headers=headers, media_type=MEDIA_TYPE)
        self._file = file
        self._finished = finished

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand it out."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()
            self._finished()


async def _pieces(site: Site, file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await site.service.workers.run(Kind.RENDER, file.read, _PIECE):
        yield piece
