"""The routes."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain
from typing import Any

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.core.moment import rfc3339
from exporter.intake import litellm, otlp, signals
from exporter.intake.batching import check_label
from exporter.intake.otlp_sources import Prefer
from exporter.intake.reading import MalformedBody, Reading
from exporter.quota_states import ProviderView
from exporter.storage.contract import StorageError
from exporter.web import views
from exporter.web.collector import ExporterCollector, QuotaCollector
from exporter.web.exposition import Exposition
from exporter.web.ingest import MAX_KEY
from exporter.web.middleware import AuthMiddleware
from exporter.web.openapi import document
from exporter.web.operate import NewState, retry_at
from exporter.web.pages import landing
from exporter.web.reply import RETRY_AFTER, Reply, failure
from exporter.web.site import Site

JSON_TYPES = (
    "application/json",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "text/plain",
    "application/x-www-form-urlencoded",  # what curl says unless told otherwise
)

Reload = Callable[[], Awaitable[list[str]]]
"""Reads the configuration anew; the problems, when it stays as it was."""


def create_app(site: Site, exporter: ExporterCollector, reload: Reload | None) -> Starlette:
    """The application; without `reload` there is no reloading over HTTP."""
    routes = _Routes(site, exporter, reload)
    return Starlette(
        routes=[
            Route("/v1/usage", routes.usage, methods=["POST"]),
            Route("/v1/signals", routes.signals, methods=["POST"]),
            Route("/v1/litellm", routes.litellm, methods=["POST"]),
            Route("/v1/metrics", routes.otlp_metrics, methods=["POST"]),
            Route("/v1/traces", routes.otlp_traces, methods=["POST"]),
            Route("/v1/providers", routes.providers),
            Route("/v1/providers/{provider:path}/state", routes.overrule, methods=["PUT"]),
            Route("/v1/providers/{provider:path}", routes.provider),
            Route("/v1/exhausted", routes.exhausted),
            Route("/metrics", routes.metrics),
            Route("/", routes.landing),
            Route("/openapi.json", routes.openapi),
            Route("/-/healthy", routes.healthy),
            Route("/-/ready", routes.ready),
            Route("/-/reload", routes.reload, methods=["POST", "PUT"]),
        ],
        middleware=[Middleware(AuthMiddleware, site=site)],
        exception_handlers={HTTPException: _http_error, StorageError: _storage_error},
    )


class _Routes:
    def __init__(self, site: Site, exporter: ExporterCollector, reload: Reload | None) -> None:
        self._site = site
        self._exporter = exporter
        self._reload = reload
        self._exposition = Exposition()

    # -- pushes --

    async def usage(self, request: Request) -> Response:
        async with self._pushed(request, "usage") as (body, key):
            answer = _Answer()
            self._site.ingest.usage(body, key, answer.send)
            return _response(await answer.reply)

    async def signals(self, request: Request) -> Response:
        return await self._formatted(request, "signals", signals.read)

    async def litellm(self, request: Request) -> Response:
        naming = self._site.ingest.naming
        return await self._formatted(
            request, "litellm", lambda body, now, most: litellm.read(body, naming, now, most)
        )

    async def otlp_metrics(self, request: Request) -> Response:
        return await self._telemetry(request, "metrics")

    async def otlp_traces(self, request: Request) -> Response:
        return await self._telemetry(request, "traces")

    async def _telemetry(self, request: Request, signal: Prefer) -> Response:
        source = "otlp_" + signal
        kind = otlp.encoding(request.headers.get("content-type", otlp.PROTOBUF))
        ingest = self._site.ingest
        async with self._pushed(request, source, (otlp.PROTOBUF, otlp.JSON)) as (body, key):
            try:
                answer = _Answer()
                await ingest.telemetry(signal, body, kind, key, answer.send)
                reply = await answer.reply
            except MalformedBody as error:
                ingest.refuse(source, 1, str(error))
                reply = Reply(400, otlp.error_answer(kind, str(error)))
        return _response(reply, kind)

    async def _formatted(
        self, request: Request, source: str, read: Callable[[bytes, float, int], Reading]
    ) -> Response:
        ingest = self._site.ingest
        async with self._pushed(request, source) as (body, key):
            try:
                answer = _Answer()
                await ingest.reading(source, partial(read, body), key, answer.send)
                reply = await answer.reply
            except MalformedBody as error:
                ingest.refuse(source, 1, str(error))
                reply = failure(400, str(error))
        return _response(reply)

    @asynccontextmanager
    async def _pushed(
        self, request: Request, source: str, kinds: Sequence[str] = JSON_TYPES
    ) -> AsyncIterator[tuple[bytes, str]]:
        """The body and the `Idempotency-Key` of a push."""
        try:
            kind = request.headers.get("content-type", kinds[0]).partition(";")[0]
            if kind.strip().lower() not in kinds:
                raise HTTPException(
                    415, f"content-type: expected {' or '.join(kinds[:2])}, got {kind[:64]!r}"
                )
            key = request.headers.get("idempotency-key", "")
            if len(key) > MAX_KEY:
                raise HTTPException(
                    400, f"idempotency-key: expected at most {MAX_KEY} characters, got {len(key)}"
                )
            async with self._site.bodies.read(request, self._site.service.config.limits) as body:
                yield body, key
        except HTTPException as error:
            if error.status_code != 429:  # that one is to come again
                self._site.ingest.refuse(source, 1, error.detail)
            raise

    # -- questions --

    async def _look(self, names: Iterable[str] | None = None) -> dict[str, ProviderView]:
        return await self._site.service.refresh(self._site.clock(), names)

    async def providers(self, request: Request) -> Response:
        seen = await self._look()

        def shown() -> Response:
            return _ok({name: views.provider(view) for name, view in seen.items()})

        return await asyncio.to_thread(shown)  # of many it takes many milliseconds

    async def provider(self, request: Request) -> Response:
        if request.path_params["provider"].endswith("/state"):  # names may have slashes in them
            raise HTTPException(405, headers={"allow": "PUT"})
        name = self._named(request)
        return _ok(views.provider((await self._look([name]))[name]))

    def _named(self, request: Request) -> str:
        name = request.path_params["provider"]
        try:
            if not name:
                raise ValueError("provider: expected a name, got ''")
            check_label("provider", name, self._site.service.config.limits.label_length)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        return self._site.ingest.naming.name(name)

    async def exhausted(self, request: Request) -> Response:
        text = request.query_params.get("include_elapsed", "false")
        if text not in ("true", "false"):
            raise HTTPException(400, f"include_elapsed: expected true or false, got {text[:64]!r}")
        await self._look()
        found = self._site.service.states.exhausted(
            self._site.clock(), include_elapsed=text == "true"
        )
        return _ok({name: rfc3339(at) for name, at in sorted(found.items())})

    async def overrule(self, request: Request) -> Response:
        name, now = self._named(request), self._site.clock()
        async with self._site.bodies.read(request, self._site.service.config.limits) as body:
            try:
                wish = msgspec.json.decode(body, type=NewState)
                until = retry_at(wish, now)
            except (msgspec.DecodeError, ValueError) as error:
                raise HTTPException(400, str(error)) from error
        name, _ = self._site.service.place(name, "")
        self._site.service.states.overrule(name, until, now)
        await self._site.service.save()
        return _ok(views.provider((await self._look([name]))[name]))

    async def metrics(self, request: Request) -> Response:
        seen = await self._look()
        quotas = QuotaCollector(self._site.service, seen)
        packed = "gzip" in request.headers.get("accept-encoding", "")
        try:
            _, kind = choose_encoder(request.headers.get("accept", ""))
        except (TypeError, ValueError):  # it asks for a version that is not a number
            _, kind = choose_encoder("")

        def written() -> bytes:
            families = chain(quotas.collect(), self._exporter.collect())
            openmetrics = kind.startswith("application/openmetrics-text")
            text = self._exposition.write(families, openmetrics=openmetrics)
            return gzip.compress(text, 1) if packed else text

        headers = {"content-type": kind, "vary": "accept, accept-encoding"}
        if packed:
            headers["content-encoding"] = "gzip"
        return Response(await asyncio.to_thread(written), headers=headers)

    async def landing(self, request: Request) -> Response:
        seen, now = await self._look(), self._site.clock()
        return HTMLResponse(await asyncio.to_thread(landing, seen, now))

    async def openapi(self, request: Request) -> Response:
        return _ok(document())

    # -- operation --

    async def healthy(self, request: Request) -> Response:
        return PlainTextResponse("llm-quota-exporter is healthy.\n")

    async def ready(self, request: Request) -> Response:
        if not self._site.service.storage_up:
            return PlainTextResponse("The store does not answer.\n", 503)
        return PlainTextResponse("llm-quota-exporter is ready.\n")

    async def reload(self, request: Request) -> Response:
        if self._reload is None:
            raise HTTPException(403, "reloading over HTTP is off: see --web.enable-lifecycle")
        problems = await self._reload()
        if problems:
            return _response(failure(500, "\n".join(problems)))
        return _ok({"reloaded": True})


class _Answer:
    """The answer to a push, to be awaited."""

    def __init__(self) -> None:
        self.reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def send(self, reply: Reply) -> None:
        """Take the answer; nobody may want it any more."""
        if not self.reply.done():
            self.reply.set_result(reply)


def _response(reply: Reply, kind: str = "application/json") -> Response:
    headers = {"retry-after": reply.retry_after} if reply.retry_after else None
    return Response(reply.body, reply.status, headers, kind)


def _ok(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    reply = failure(error.status_code, error.detail)
    return Response(reply.body, reply.status, error.headers, "application/json")


async def _storage_error(request: Request, error: Exception) -> Response:
    return _response(failure(503, "cannot store right now", RETRY_AFTER))
