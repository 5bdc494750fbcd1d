"""A running exporter: what a reload replaces, and what the background does."""

import argparse
import asyncio
import logging
import random
import time
from contextlib import suppress
from typing import NoReturn

from exporter.account_poller import AccountPoller, Reading
from exporter.cli.settings import Settings, changes, fingerprint, read
from exporter.config import ConfigError
from exporter.core.signal import Signal, Verdict
from exporter.probe import Prober
from exporter.service import Service
from exporter.storage import StorageError
from exporter.supervisor import Supervisor
from exporter.web.address import Address
from exporter.web.exporter_collector import ExporterCollector
from exporter.web.server import WebServer
from exporter.web.site import Site
from exporter.web.toolkit.tls import RenewingContext
from exporter.workers import Kind

TICK_SECONDS = 1.0
MIN_PAUSE = 0.2  # seconds between two ticks, whatever happens
SHARE = 4  # times as long as a tick took, others have the processor to themselves

log = logging.getLogger("exporter")


def steady() -> float:
    """Seconds of a clock that nobody can set, and that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Server:
    """A service on the web, and what goes on behind it.

    Attributes:
        service: the owner of all state.
        site: its web side.
        exporter: what it shows of itself.
        supervisor: the parent of what goes on in the background.
        tls: the context of the listening sockets, None without TLS.
        tls_settings: what it began with.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        settings: Settings,
        service: Service,
        supervisor: Supervisor,
        address: Address,
    ) -> None:
        self._options = options
        self._settings = settings
        self.service = service
        self.supervisor = supervisor
        self.site = Site(service, time.time, settings.web, settings.authoriser, address)
        self.site.failing = lambda: supervisor.failing
        self.exporter = ExporterCollector(time.time(), supervisor)
        self.tls_settings = settings.web.tls
        self.tls = RenewingContext(settings.web.tls) if settings.web.tls else None
        self._reloading = asyncio.Lock()

    def run_background(self, web: WebServer) -> None:
        """Start all that goes on until the supervisor stops it."""
        self.supervisor.keep("tick", self._tick)
        self.supervisor.keep("probe", self._probe)
        self.supervisor.keep("accounts", self._read_accounts)
        self.supervisor.keep("watch", self.site.watchers.run)
        self.supervisor.keep("close_slow_connections", web.close_slow)
        if self._options.auto_reload:
            self.supervisor.keep("auto_reload", self._auto_reload)

    # -- reloading --

    async def reload(self) -> list[str]:
        """Take over the files as they are now, all of them or none; the problems, if any.

        Whatever takes time or can fail is done first, beside the event loop. What is left then
        happens in one turn of it.
        """
        async with self._reloading:
            try:
                settings, tls = await self.service.workers.run(Kind.RELOAD, self._read)
                before = self._settings

                def adopt() -> None:
                    self._settings = settings
                    if self.tls is not None and tls is not None:
                        self.tls.adopt(tls)
                    self.site.configure(settings.web, settings.authoriser)

                await self.service.reload(settings.config, time.time(), adopt)
            except (ConfigError, StorageError, ValueError, OSError) as error:
                self.exporter.reloaded = False
                problems = str(error).splitlines()
                for problem in problems:
                    log.error("reload failed", extra={"fields": {"problem": problem}})
                return problems
            with suppress(StorageError):  # it was logged; the next tick tries again
                await self.service.tick(time.time())
            self.exporter.reloaded = True
            self.exporter.reloaded_at = time.time()
            fields = {"changed": changes(before, settings) or "nothing"}
            log.info("configuration reloaded", extra={"fields": fields})
            if settings.config.deduplication != before.config.deduplication:
                log.warning("deduplication changes with the next start")
            return []

    def _read(self) -> "tuple[Settings, RenewingContext | None]":
        settings = read(self._options.config, self._options.web, self._settings.web)
        return settings, RenewingContext(settings.web.tls) if settings.web.tls else None

    async def _auto_reload(self) -> NoReturn:
        """Reload when a file holds something else than before, whether its name is a link or not.

        Contents are compared, as Prometheus does it: Kubernetes swaps the links of a ConfigMap.
        """
        seen = await self._fingerprint()
        while True:
            await asyncio.sleep(self._options.auto_reload_interval)
            found = await self._fingerprint()
            if found != seen:
                seen = found
                await self.reload()

    async def _fingerprint(self) -> bytes:
        files = (self._options.config, self._options.web, self._settings)
        return await self.service.workers.run(Kind.RELOAD, fingerprint, *files)

    # -- what time brings --

    async def _tick(self) -> NoReturn:
        """Let time pass for the service."""
        while True:
            began = time.monotonic()
            with suppress(StorageError):  # it was logged; the next tick tries again
                await self.service.tick(time.time())
                await self.site.ingest.settling.settle()
            pause = min(TICK_SECONDS, max(MIN_PAUSE, SHARE * (time.monotonic() - began)))
            await asyncio.sleep(pause)
            await self.service.due(TICK_SECONDS - pause)

    async def _probe(self) -> NoReturn:
        """Ask providers whether they are back."""

        async def report(signal: Signal) -> None:
            self.service.signal(signal, time.time())
            await self.service.recorder.save()

        await Prober(
            lambda: self.service.config.probes,
            self.service.states.pending,
            report,
            lambda error: self.supervisor.failed("probe", error),
            clock=time.time,
            sleep=asyncio.sleep,
            jitter=random.random,
            exhausted_from=lambda: self.service.config.exhausted_from,
        ).run()

    async def _read_accounts(self) -> NoReturn:
        """Read what providers say of accounts."""

        async def report(reading: Reading) -> None:
            provider, at, limits, counts = reading
            now = time.time()
            if limits:  # which say nothing of whether it works
                self.service.signal(Signal(provider, at, Verdict.UNKNOWN, limits=limits), now)
            self.service.compare(provider, counts, now)
            await self.service.recorder.save()

        await AccountPoller(
            lambda: self.service.config.accounts,
            self.service.models,
            report,
            lambda error: self.supervisor.failed("accounts", error),
            clock=time.time,
            sleep=asyncio.sleep,
            jitter=random.random,
        ).run()
