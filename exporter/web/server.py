"""uvicorn's server with our signal handling and our connections."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn

import uvicorn

from exporter.web.connections import Connections
from exporter.web.site import Site


class WebServer(uvicorn.Server):
    """uvicorn without its signal handling, which ends the process before the store is closed, and
    with connections that are limited from the moment they are accepted."""

    def __init__(self, config: uvicorn.Config, site: Site) -> None:
        super().__init__(config)
        self._site = site
        self._connections: Connections | None = None

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the caller."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections on these listening sockets."""
        make: Any = self.config.http_protocol_class
        self._connections = Connections(
            self._site,
            sockets or [],
            lambda: make(self.config, self.server_state, {}),
            self.server_state,
            self.config.ssl,
        )
        servers: list[Any] = [self._connections]  # of a server uvicorn asks to close and no more
        self.servers = servers
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in hand; streams of events, which have no end, are ended."""
        self._site.watchers.close()
        await super().shutdown(sockets)

    async def close_slow(self) -> NoReturn:
        """Close connections whose clients are too slow, until cancelled."""
        while True:
            await asyncio.sleep(min(self._site.request_timeout / 4, 5.0))
            if self._connections is not None:
                self._connections.close_slow()
