"""Routes about who is available: asked by routers, overruled by operators."""

from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.core.moment import rfc3339
from exporter.core.scope import Scope
from exporter.core.views import ProviderView
from exporter.intake.batching import check_label
from exporter.web import views
from exporter.web.operate import NewState, decoded, wanted
from exporter.web.provider_route import ProviderRoute
from exporter.web.reply import Reply, unless_known
from exporter.web.site import Site
from exporter.workers import Kind


def state_routes(site: Site) -> list[Route]:
    """The routes, the more special ones first."""
    routes = _StateRoutes(site)
    return [
        Route("/v1/providers", routes.providers),
        ProviderRoute("/v1/providers/{provider:path}/state", routes.overrule, methods=["PUT"]),
        ProviderRoute("/v1/providers/{provider:path}/explain", routes.explain),
        ProviderRoute("/v1/providers/{provider:path}", routes.forget, methods=["DELETE"]),
        ProviderRoute("/v1/providers/{provider:path}", routes.provider),
        Route("/v1/exhausted", routes.exhausted),
        Route("/v1/availability", routes.availability),
    ]


class _StateRoutes:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def _view(self, name: str) -> ProviderView:
        return (await self._site.service.refresh(self._site.clock(), [name]))[name]

    async def providers(self, request: Request) -> Response:
        snapshot = await self._site.service.snapshot(self._site.clock())

        def shown() -> Response:
            return _ok({name: views.provider(view) for name, view in snapshot.views.items()})

        # Of many it takes many milliseconds.
        return await self._site.service.workers.run(Kind.RENDER, shown)

    async def provider(self, request: Request) -> Response:
        return _ok(views.provider(await self._view(self._provider(request))))

    async def explain(self, request: Request) -> Response:
        name = self._provider(request)
        found = await self._site.service.explain(name, self._site.clock())
        return _ok(views.explanation(name, found))

    def _provider(self, request: Request) -> str:
        name = request.path_params["provider"]
        if not name:
            raise HTTPException(400, "provider: expected a name, got ''")
        self._check("provider", name)
        return self._site.ingest.naming.name(name)

    def _check(self, what: str, text: str) -> None:
        try:
            check_label(what, text, self._site.service.config.limits.label_length)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

    async def exhausted(self, request: Request) -> Response:
        text = request.query_params.get("include_elapsed", "false")
        if text not in ("true", "false"):
            raise HTTPException(400, f"include_elapsed: expected true or false, got {text[:64]!r}")
        await self._site.service.refresh(self._site.clock())
        found = self._site.service.exhausted(self._site.clock(), include_elapsed=text == "true")
        return _ok({name: rfc3339(at) for name, at in sorted(found.items())})

    async def availability(self, request: Request) -> Response:
        asked = dict(request.query_params)
        if unknown := asked.keys() - {"provider", "model", "consumer"}:
            raise HTTPException(
                400, f"expected the parameters provider, model, consumer, got {min(unknown)[:64]!r}"
            )
        for what, text in asked.items():
            self._check(what, text)
        provider = asked.get("provider", "")
        model, consumer = asked.get("model", ""), asked.get("consumer", "")
        if not provider:
            if asked:
                raise HTTPException(400, "provider: expected a name beside model and consumer")
            return self._answered(request, None)
        name = self._site.ingest.naming.name(provider, {"model": model})
        return self._answered(request, Scope(name, model, consumer))

    def _answered(self, request: Request, asked: Scope | None) -> Response:
        """From what is known: nothing is measured because somebody asks."""
        now, known = self._site.clock(), self._site.service.availability
        answer = known.all(now) if asked is None else known.of(asked, now)
        held = request.headers.get("if-none-match")
        reply = unless_known(
            Reply(200, answer.body, etag=answer.etag), None if held is None else held.encode()
        )
        headers = {"etag": reply.etag, "cache-control": "no-cache"}
        return Response(reply.body, reply.status, headers, "application/json")

    async def overrule(self, request: Request) -> Response:
        name, now = self._provider(request), self._site.clock()
        service = self._site.service
        async with self._site.bodies.read(request, service.config.limits) as body:
            try:
                wish = decoded(body, NewState)
                state, until = wanted(wish, now)
            except (msgspec.DecodeError, ValueError) as error:
                raise HTTPException(400, str(error)) from error
        self._check("model", wish.model)
        self._check("consumer", wish.consumer)
        scope = Scope(service.place(name).provider, wish.model, wish.consumer)
        service.states.overrule(scope, state, until, now, wish.reason)
        await service.recorder.save()
        return _ok(views.provider(await self._view(scope.provider)))

    async def forget(self, request: Request) -> Response:
        name = self._provider(request)
        if name in self._site.service.config.budgets:
            raise HTTPException(409, f"provider: expected one without a budget, got {name!r:.64}")
        await self._site.service.forget(name)
        return Response(status_code=204)


def _ok(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
