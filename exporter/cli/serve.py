"""`serve`: build everything, run it, take it down in order."""

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvicorn

from exporter import __version__
from exporter.cli import listening, logs
from exporter.cli.opening import open_service, shown
from exporter.cli.serve_arguments import add_arguments
from exporter.cli.server import Server
from exporter.cli.settings import Settings, read
from exporter.config import ConfigError
from exporter.storage import StorageError
from exporter.supervisor import Supervisor
from exporter.web.address import Address
from exporter.web.app import create_app
from exporter.web.fastpath.protocol import serving
from exporter.web.otlp_grpc import GrpcServer
from exporter.web.server import WebServer

SWITCH = 0.0005  # seconds; a scrape in its thread must not hold up pushes for Python's usual 5 ms
KEEP_ALIVE = 75  # seconds an idle connection stays open: longer than between two scrapes
GRACE = 10  # seconds for open requests after SIGTERM

T = TypeVar("T")

__all__ = ["add_arguments", "run"]

log = logging.getLogger("exporter")


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 when everything accepted was stored."""
    logs.set_up(options.level, options.form)
    sys.setswitchinterval(SWITCH)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    try:
        address = Address.of(options.external_url, options.route_prefix)
        settings = read(options.config, options.web)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(_serve(options, settings, address))
    except (ConfigError, StorageError, ValueError, OSError) as error:
        for line in str(error).splitlines():
            log.error(line)
        return 1


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not made for every platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(options: argparse.Namespace, settings: Settings, address: Address) -> int:
    loop = asyncio.get_running_loop()
    supervisor = Supervisor()
    loop.set_exception_handler(supervisor.loop_failed)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sockets = _listen(options)
    started = await _unless(stop, open_service(options.storage, settings.config))
    if started is None:
        # Nothing was accepted yet, so nothing can be lost: the store's thread ends with us.
        log.info("stopped while starting")
        return 0
    service, commits = started
    try:
        # The history stays for good: the collector need not go through it again and again.
        gc.collect()
        gc.freeze()
        server = Server(options, settings, service, supervisor, address)
        await _run(options, server, sockets, stop)
        await service.stop(time.time())
    finally:
        await commits.close()
    log.info("stopped")
    return 0


def _listen(options: argparse.Namespace) -> list[socket.socket]:
    if options.systemd:
        if options.addresses:
            raise ValueError("web.systemd-socket: expected no web.listen-address beside it")
        return listening.passed_sockets()
    addresses = options.addresses or [listening.address(":10042")]
    return [listening.bind(host, port) for host, port in addresses]


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns; None, and `work` is cancelled, when `stop` is set before."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


async def _run(
    options: argparse.Namespace,
    server: Server,
    sockets: list[socket.socket],
    stop: asyncio.Event,
) -> None:
    app = create_app(server.site, server.exporter, server.reload if options.lifecycle else None)
    config = uvicorn.Config(
        app,
        http=serving(server.site),
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
    )
    config.load()
    config.ssl = server.tls
    web = WebServer(config, server.site)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, web, "should_exit", True)
    web.should_exit = stop.is_set()
    supervisor = server.supervisor
    loop.add_signal_handler(signal.SIGHUP, lambda: supervisor.start("reload", server.reload()))
    server.run_background(web)
    log.info(
        "listening",
        extra={
            "fields": {
                "version": __version__,
                "address": listening.shown(sockets),
                "storage": shown(options.storage),
                "providers": len(server.service.config.budgets),
            }
            | ({"url": server.site.address.server} if server.site.address.server else {})
        },
    )
    grpc = None
    try:
        grpc = await _listen_grpc(options, server)
        await web.serve(sockets)
    finally:
        if grpc is not None:
            await grpc.stop(GRACE)
        await supervisor.stop()


async def _listen_grpc(options: argparse.Namespace, server: Server) -> GrpcServer | None:
    if options.grpc is None:
        return None
    host, port = options.grpc
    grpc = GrpcServer(server.site, server.tls_settings)
    bound = await grpc.start(host, port)
    log.info("listening for OTLP over gRPC", extra={"fields": {"address": f"{host}:{bound}"}})
    return grpc
