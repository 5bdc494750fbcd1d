"""The route that hands out a copy of the database."""

import os
from collections.abc import AsyncIterator
from typing import BinaryIO

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from exporter.storage.contract import NoBackup, StorageError
from exporter.web.site import Site
from exporter.workers import Kind

PATH = "/v1/backup"
MEDIA_TYPE = "application/vnd.sqlite3"

_PIECE = 64 * 1024  # bytes


def backup_routes(site: Site) -> list[Route]:
    """The route; it is a POST so that it needs the right to operate: a copy holds everything."""
    making = False

    async def backup(request: Request) -> Response:
        nonlocal making
        if making:
            raise HTTPException(409, "another backup is being made")
        making = True
        try:
            path = await site.service.backup()
        except NoBackup as error:
            raise HTTPException(501, str(error)) from error
        except StorageError as error:
            raise HTTPException(503, str(error)) from error
        finally:
            making = False
        file = path.open("rb")
        path.unlink()  # what is open stays until it is closed
        headers = {
            "content-length": str(os.fstat(file.fileno()).st_size),
            "content-disposition": 'attachment; filename="quota.db"',
        }
        return StreamingResponse(_pieces(site, file), headers=headers, media_type=MEDIA_TYPE)

    return [Route(PATH, backup, methods=["POST"])]


async def _pieces(site: Site, file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while piece := await site.service.workers.run(Kind.RENDER, file.read, _PIECE):
            yield piece
