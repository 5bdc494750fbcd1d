"""The routes."""

import gzip
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any, TypeVar

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.intake.format import Format, Push
from exporter.intake.formats import FORMATS
from exporter.intake.ingest import MAX_KEY
from exporter.storage.contract import StorageError
from exporter.web.address import PrefixMiddleware
from exporter.web.backpressure import BackPressureMiddleware
from exporter.web.backup_route import backup_routes
from exporter.web.collector import QuotaCollector
from exporter.web.exporter_collector import ExporterCollector, ProcessFamilies
from exporter.web.exposition import Exposition
from exporter.web.middleware import AuthMiddleware
from exporter.web.openapi import document
from exporter.web.override_routes import override_routes
from exporter.web.pages.routes import page_routes
from exporter.web.reply import RETRY_AFTER, failure, reply_to, response_of, takes_gzip
from exporter.web.request_metrics import RequestMetricsMiddleware
from exporter.web.single_flight import SingleFlight
from exporter.web.site import HEALTHY, Site
from exporter.web.state_routes import state_routes
from exporter.workers import Kind

T = TypeVar("T")

Reload = Callable[[], Awaitable[list[str]]]
"""Reads the configuration anew; the problems, when it stays as it was."""


def create_app(site: Site, exporter: ExporterCollector, reload: Reload | None) -> Starlette:
    """The application; without `reload` there is no reloading over HTTP."""
    handlers = _Routes(site, exporter, reload)
    routes = [
        *(Route(form.path, handlers.push(form), methods=["POST"]) for form in FORMATS),
        *override_routes(site),
        *backup_routes(site),
        *state_routes(site),
        Route("/metrics", handlers.metrics),
        *page_routes(site),
        Route("/openapi.json", handlers.openapi),
        Route("/-/healthy", handlers.healthy),
        Route("/-/ready", handlers.ready),
        Route("/-/reload", handlers.reload, methods=["POST", "PUT"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(RequestMetricsMiddleware, requests=site.requests, routes=routes),
            Middleware(AuthMiddleware, site=site),
            Middleware(PrefixMiddleware, address=site.address),
            Middleware(BackPressureMiddleware, outstanding=site.outstanding),
        ],
        exception_handlers={HTTPException: _http_error, StorageError: _storage_error},
    )


class _Routes:
    def __init__(self, site: Site, exporter: ExporterCollector, reload: Reload | None) -> None:
        self._site = site
        self._exporter = exporter
        self._reload = reload
        self._exposition = Exposition()
        self._expositions = SingleFlight[bytes]()
        self._process = ProcessFamilies()

    # -- pushes --

    def push(self, form: Format) -> Callable[[Request], Awaitable[Response]]:
        """What answers pushes of a format."""

        async def push(request: Request) -> Response:
            address = request.client.host if request.client else ""
            client = self._site.client(address, request.headers.get("authorization"))
            try:
                media_type = _media_type(request, form)
                key = _single(request, "idempotency-key")
                if len(key) > MAX_KEY:
                    raise HTTPException(
                        400,
                        f"idempotency-key: expected at most {MAX_KEY} characters, got {len(key)}",
                    )
                limits = self._site.service.config.limits
                consumer = request.headers.get("x-consumer", "").encode("latin-1")
                bodies = self._site.bodies.read(request, limits, form.compression)
                async with bodies as body:
                    push = Push(
                        body,
                        media_type,
                        client,
                        key,
                        consumer.decode("utf-8", "replace"),
                        request.path_params.get("name", ""),
                    )
                    outcome = await self._site.ingest.push(form, push)
            except HTTPException as error:
                if error.status_code != 429:  # that one is to come again
                    self._site.ingest.reject(form, client, 1, error.detail)
                else:
                    error.status_code = form.encoding.later
                raise
            return response_of(reply_to(form, outcome, media_type))

        return push

    # -- questions --

    async def metrics(self, request: Request) -> Response:
        packed = takes_gzip(request.headers.get("accept-encoding", ""))
        try:
            _, kind = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):  # it asks for a version that is not a number
            _, kind = choose_encoder("")

        openmetrics = kind.startswith("application/openmetrics-text")
        # Snapshots of many providers that wait to be written would fill the memory.
        body = await self._expositions.run(
            (openmetrics, packed), lambda: self._exposed(openmetrics=openmetrics, packed=packed)
        )
        headers = {"content-type": kind, "vary": "accept, accept-encoding"}
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(body, headers=headers)

    async def _exposed(self, *, openmetrics: bool, packed: bool) -> bytes:
        service = self._site.service
        snapshot = await service.snapshot(self._site.clock())
        site = self._site
        own = [
            *self._exporter.collect(snapshot),
            *site.requests.collect(),
            *site.watchers.collect(),
        ]

        def render() -> bytes:
            quotas = QuotaCollector(snapshot).collect()
            families = chain(quotas, own, self._process.collect())
            text = self._exposition.write(families, openmetrics=openmetrics)
            return gzip.compress(text, 1) if packed else text

        return await service.workers.run(Kind.RENDER, render)

    async def openapi(self, request: Request) -> Response:
        server = self._site.address.server
        return _ok({**document(), **({"servers": [{"url": server}]} if server else {})})

    # -- operation --

    async def healthy(self, request: Request) -> Response:
        if failing := self._site.failing():
            said = [f"Background task {name} fails: {error}.\n" for name, error in failing.items()]
            return PlainTextResponse("".join(said), 503)
        return response_of(HEALTHY)

    async def ready(self, request: Request) -> Response:
        if not self._site.service.storage_up:
            return PlainTextResponse("The store does not answer.\n", 503)
        return PlainTextResponse("llm-quota-exporter is ready.\n")

    async def reload(self, request: Request) -> Response:
        if self._reload is None:
            raise HTTPException(403, "reloading over HTTP is off: see --web.enable-lifecycle")
        problems = await self._reload()
        if problems:
            return response_of(failure(500, "\n".join(problems)))
        return _ok({"reloaded": True})


def _single(request: Request, name: str) -> str:
    """A header that may be given once, empty without it: of two, others could read the other."""
    given = request.headers.getlist(name)
    if len(given) > 1:
        raise HTTPException(400, f"{name}: expected one, got {len(given)}")
    return given[0] if given else ""


def _media_type(request: Request, form: Format) -> str:
    """The media type of a push, one of its format's."""
    default, *others = form.media_types
    given = _single(request, "content-type") if "content-type" in request.headers else default
    media_type = given.partition(";")[0].strip().lower()
    if media_type not in form.media_types:
        expected = f"{default} or {others[0]}" if others else default
        raise HTTPException(415, f"content-type: expected {expected}, got {given[:64]!r}")
    return media_type


def _ok(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    reply = failure(error.status_code, error.detail)
    return Response(reply.body, reply.status, error.headers, "application/json")


async def _storage_error(request: Request, error: Exception) -> Response:
    return response_of(failure(503, "cannot store right now", RETRY_AFTER))
