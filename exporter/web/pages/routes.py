"""Routes of what people see in a browser."""

import asyncio
import gzip
from collections.abc import Callable
from hashlib import sha256

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.intake.batching import check_label
from exporter.web.pages.provider import meant, provider_page
from exporter.web.pages.rendering import ASSETS, render_provider, render_status
from exporter.web.pages.status import Query, status_page
from exporter.web.reply import Reply, takes_gzip, unless_known
from exporter.web.site import Site
from exporter.workers import Kind

_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "vary": "accept-encoding",
    "x-content-type-options": "nosniff",
}
_FOREVER = {"cache-control": "max-age=31536000, immutable", "x-content-type-options": "nosniff"}


PAGES_AT_ONCE = 2
"""Made at a time: each has a snapshot of all providers in hand."""


def page_routes(site: Site) -> list[Route]:
    """The pages, and the files that they need."""
    routes = _PageRoutes(site)
    return [
        Route("/", routes.status),
        Route("/providers/{provider:path}", routes.provider),
        Route("/assets/{name}", routes.asset),
    ]


class _PageRoutes:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._making = asyncio.Semaphore(PAGES_AT_ONCE)

    async def status(self, request: Request) -> Response:
        try:
            query = Query.parse(dict(request.query_params))
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        service = self._site.service
        async with self._making:
            snapshot = await service.snapshot(self._site.clock())
            recent = service.usage.recent.totals(snapshot.at)
            page = await service.workers.run(Kind.RENDER, status_page, snapshot, recent, query)
            explained = await service.measurer.explain_quotas(page.quotas, snapshot.at)
            return await self._page(request, lambda: render_status(page, snapshot, explained))

    async def provider(self, request: Request) -> Response:
        given = request.path_params["provider"]
        service = self._site.service
        try:
            check_label("provider", given, service.config.limits.label_length)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error
        name = self._site.ingest.naming.name(given)
        raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
        # A name may have slashes in it, and whoever typed the address need not have quoted them.
        root = "../" * (raw.count(b"/") - self._site.address.prefix.count("/") - 1)
        async with self._making:
            return await self._provider(request, name, root)

    async def _provider(self, request: Request, name: str, root: str) -> Response:
        service = self._site.service
        snapshot = await service.snapshot(self._site.clock())
        view = snapshot.views.get(name)
        if view is None or not view.known:
            similar = meant(snapshot, name)
            return await self._page(
                request, lambda: render_provider(name, None, root, snapshot.at, similar), 404
            )
        recent = service.usage.recent.totals(snapshot.at)
        explained = await service.explain(name, snapshot.at)
        return await self._page(
            request,
            lambda: render_provider(
                name, provider_page(snapshot, name, recent, explained), root, snapshot.at, ""
            ),
        )

    async def asset(self, request: Request) -> Response:
        asset = ASSETS.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404)
        return Response(asset.body, headers=_FOREVER, media_type=asset.media_type)

    async def _page(
        self, request: Request, render: Callable[[], str], status: int = 200
    ) -> Response:
        packed = takes_gzip(request.headers.get("accept-encoding", ""))

        def packed_page() -> tuple[bytes, str]:
            body = render().encode()
            tag = f'W/"{sha256(body).hexdigest()[:32]}"'
            return gzip.compress(body, 1) if packed else body, tag

        body, tag = await self._site.service.workers.run(Kind.RENDER, packed_page)
        held = request.headers.get("if-none-match")
        reply = unless_known(Reply(status, body, etag=tag), held.encode() if held else None)
        headers = {**_HEADERS, "etag": tag}
        if packed and reply.body:
            headers["content-encoding"] = "gzip"
        return Response(reply.body, reply.status, headers, "text/html")
