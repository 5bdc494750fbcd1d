"""`serve`: build everything, run it, take it down in order."""

import argparse
import asyncio
import gc
import logging
import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from exporter import __version__, quota_states
from exporter.cli import listening, logs
from exporter.cli.server import Server, steady
from exporter.cli.settings import Settings, read
from exporter.config import ConfigError
from exporter.core.moment import rfc3339
from exporter.core.windows import DAY, parse_duration
from exporter.intake import otlp_sources
from exporter.service import Service
from exporter.storage import StorageError, Store, open_store
from exporter.storage.group_commit import GroupCommit
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

log = logging.getLogger("exporter")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names as other Prometheus servers have them."""
    parser.add_argument(
        "--config.file",
        dest="config",
        type=Path,
        default=Path("config/quota.yml"),
        metavar="FILE",
        help="budgets and everything else (default: %(default)s)",
    )
    parser.add_argument(
        "--config.enable-auto-reload",
        dest="auto_reload",
        action="store_true",
        help="reload when a configuration file, or a file it names, holds something else",
    )
    parser.add_argument(
        "--config.auto-reload-interval",
        dest="auto_reload_interval",
        type=_seconds,
        default=30.0,
        metavar="DURATION",
        help="time between two looks at the files (default: 30s)",
    )
    add_storage(parser)
    parser.add_argument(
        "--web.listen-address",
        dest="addresses",
        type=listening.address,
        action="append",
        metavar="HOST:PORT",
        help="where to listen, may be given several times (default: :10042)",
    )
    parser.add_argument(
        "--web.systemd-socket",
        dest="systemd",
        action="store_true",
        help="listen on the sockets that systemd passes, instead of addresses",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web",
        type=Path,
        metavar="FILE",
        help="TLS and basic auth, in the format of Prometheus' exporter-toolkit",
    )
    parser.add_argument(
        "--otlp.grpc-address",
        dest="grpc",
        type=listening.address,
        metavar="HOST:PORT",
        help="where to listen for OTLP over gRPC, mostly :4317 (default: nowhere)",
    )
    parser.add_argument(
        "--web.external-url",
        dest="external_url",
        metavar="URL",
        help="how clients reach it, if through a proxy; its path is the default of the prefix",
    )
    parser.add_argument(
        "--web.route-prefix",
        dest="route_prefix",
        metavar="PATH",
        help="how the paths of all routes begin here (default: the path of --web.external-url)",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="allow POST /-/reload",
    )
    parser.add_argument("--log.level", dest="level", choices=logs.LEVELS, default="info")
    parser.add_argument("--log.format", dest="form", choices=logs.FORMATS, default="logfmt")


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Where the store is."""
    parser.add_argument(
        "--storage.url",
        dest="storage",
        default="sqlite:///data/quota.db",
        metavar="URL",
        help="sqlite:///path, memory:// or redis://host (default: %(default)s)",
    )


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"expected a duration such as 30s, got {text!r}"
        ) from error


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
    started = await _unless(stop, _start(options, settings))
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


async def _start(options: argparse.Namespace, settings: Settings) -> tuple[Service, GroupCommit]:
    config = settings.config
    store = await _in_daemon_thread(
        lambda: open_store(
            options.storage,
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
    _say_what_was_found(options, store, service)
    return service, commits


def _merge(name: str, ours: bytes, theirs: bytes) -> bytes:
    """What two versions of a stored document say together."""
    if name.startswith(otlp_sources.NOTE):
        return otlp_sources.merge(ours, theirs)
    return quota_states.merge(name, ours, theirs)


def _say_what_was_found(options: argparse.Namespace, store: Store, service: Service) -> None:
    """Log which store it is: one in another place than yesterday's begins at zero."""
    now, totals = time.time(), service.usage.totals
    oldest = service.usage.oldest
    fields = {
        "storage": _shown(options.storage),
        "created": rfc3339(math.floor(store.created)),
        "providers": len({series.provider for series in totals}),
        "history_days": 0.0 if oldest is None else round(max(0.0, now - oldest) / DAY, 1),
    }
    log.info("store opened" if totals else "store is empty", extra={"fields": fields})


def _shown(url: str) -> str:
    """Where a store is, without passwords; of a file the whole path, whatever folder we are in."""
    if url.startswith("sqlite:///"):
        return f"sqlite:///{Path(url.removeprefix('sqlite:///')).resolve()}"
    return url.partition("?")[0].rpartition("@")[2]


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns; None, and `work` is cancelled, when `stop` is set before."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    return None


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
                "storage": _shown(options.storage),
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
