"""`serve`: build everything, run it, take it down in order."""

import argparse
import asyncio
import gc
import logging
import random
import signal
import socket
import sys
import time
from pathlib import Path

import uvicorn

from exporter import __version__
from exporter.cli import logs
from exporter.cli.settings import Settings, read
from exporter.config import ConfigError
from exporter.core.signal import Signal
from exporter.probe import Prober
from exporter.service import Service
from exporter.storage import StorageError, open_store
from exporter.storage.group_commit import GroupCommit
from exporter.web.app import create_app
from exporter.web.exporter_collector import ExporterCollector
from exporter.web.fastpath.protocol import serving
from exporter.web.server import WebServer
from exporter.web.site import Site
from exporter.web.toolkit.tls import RenewingContext

TICK = 1.0  # seconds between looks at whoever was touched
SWITCH = 0.0005  # seconds; a scrape in its thread must not hold up pushes for Python's usual 5 ms
KEEP_ALIVE = 75  # seconds an idle connection stays open: longer than between two scrapes
GRACE = 10  # seconds for open requests after SIGTERM
BACKLOG = 1024

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
        "--storage.url",
        dest="storage",
        default="sqlite:///data/quota.db",
        metavar="URL",
        help="sqlite:///path, memory:// or redis://host (default: %(default)s)",
    )
    parser.add_argument(
        "--web.listen-address",
        dest="address",
        type=_address,
        default=_address(":10042"),
        metavar="HOST:PORT",
        help="where to listen (default: :10042)",
    )
    parser.add_argument(
        "--web.config.file",
        dest="web",
        type=Path,
        metavar="FILE",
        help="TLS and basic auth, in the format of Prometheus' exporter-toolkit",
    )
    parser.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="allow POST /-/reload",
    )
    parser.add_argument("--log.level", dest="level", choices=logs.LEVELS, default="info")
    parser.add_argument("--log.format", dest="form", choices=logs.FORMATS, default="logfmt")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT or :PORT, got {text!r}")
    return host.strip("[]"), int(port)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; 0 when everything accepted was stored."""
    logs.set_up(options.level, options.form)
    sys.setswitchinterval(SWITCH)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    try:
        settings = read(options.config, options.web)
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            return runner.run(_serve(options, settings))
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


class Server:
    """A running exporter: what a reload replaces, and what the background does."""

    def __init__(self, options: argparse.Namespace, settings: Settings, service: Service) -> None:
        self._options = options
        self._settings = settings
        self.service = service
        self.site = Site(service, time.time, settings.web, settings.authoriser)
        self.exporter = ExporterCollector(time.time())
        self.tls = RenewingContext(settings.web.tls) if settings.web.tls else None
        self._reloading = asyncio.Lock()

    async def reload(self) -> list[str]:
        """Take over the files as they are now; the problems, when all stays as it was."""
        async with self._reloading:
            try:
                settings = read(self._options.config, self._options.web, self._settings.web)
                if self.tls is not None and settings.web.tls is not None:
                    self.tls.replace(settings.web.tls)
                await self.service.reload(settings.config, time.time())
            except (ConfigError, StorageError, ValueError, OSError) as error:
                self.exporter.reloaded = False
                problems = str(error).splitlines()
                for problem in problems:
                    log.error("reload failed", extra={"fields": {"problem": problem}})
                return problems
            for name in ("retention", "deduplication"):
                if getattr(settings.config, name) != getattr(self._settings.config, name):
                    log.warning("changes with the next start", extra={"fields": {"what": name}})
            self._settings = settings
            self.site.configure(settings.web, settings.authoriser)
            self.exporter.reloaded = True
            self.exporter.reloaded_at = time.time()
            log.info("configuration reloaded")
            return []

    async def tick(self) -> None:
        """Let time pass for the service, until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(TICK)
            try:
                await self.service.tick(time.time())
            except StorageError as error:
                if not failing and self.service.storage_up:  # else it was logged
                    log.error("store fails", extra={"fields": {"error": str(error)}})
                failing = True
            else:
                failing = False

    def prober(self) -> Prober:
        """What asks providers whether they are back."""

        async def report(told: Signal) -> None:
            now = time.time()
            self.service.signal(told, now)
            await self.service.save()

        return Prober(
            lambda: self.service.config.probes,
            self.service.states.pending,
            report,
            clock=time.time,
            sleep=asyncio.sleep,
            jitter=random.random,
            exhausted_from=lambda: self.service.config.exhausted_from,
        )


async def _serve(options: argparse.Namespace, settings: Settings) -> int:
    config = settings.config
    sockets = [_bind(*options.address)]
    store = open_store(
        options.storage,
        retention=config.retention,
        deduplication=config.deduplication,
        now=time.time(),
    )
    for warning in store.warnings:
        log.warning("storage", extra={"fields": {"warning": warning}})
    commits = GroupCommit(store, asyncio.get_running_loop(), time.time)
    try:
        service = Service(config, commits, store.shared, time.time)
        await service.start(time.time())
        # The history stays for good: the collector need not go through it again and again.
        gc.collect()
        gc.freeze()
        server = Server(options, settings, service)
        await _listen(options, server, sockets)
        await service.stop(time.time())
    finally:
        await commits.close()
    log.info("stopped")
    return 0


def _bind(host: str, port: int) -> socket.socket:
    """A listening socket; without a host on all addresses of both families.

    Raises:
        OSError: the address is in use or not ours; the message names it.
    """
    shown = f"{host or ''}:{port}"
    try:
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family, backlog=BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        return socket.create_server(("", port), backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"web.listen-address: cannot listen on {shown}: {error.strerror}") from error


async def _listen(
    options: argparse.Namespace, server: Server, sockets: list[socket.socket]
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
    background = set[asyncio.Task[object]]()

    def reload() -> None:
        task = loop.create_task(server.reload())
        background.add(task)
        task.add_done_callback(background.discard)

    for stop in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(stop, setattr, web, "should_exit", True)
    loop.add_signal_handler(signal.SIGHUP, reload)
    background |= {
        loop.create_task(work) for work in (server.tick(), web.close_slow(), server.prober().run())
    }
    host, port = sockets[0].getsockname()[:2]
    log.info(
        "listening",
        extra={
            "fields": {
                "version": __version__,
                "address": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
                "storage": options.storage.partition("?")[0].rpartition("@")[2],
                "providers": len(server.service.config.budgets),
            }
        },
    )
    try:
        await web.serve(sockets)
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
