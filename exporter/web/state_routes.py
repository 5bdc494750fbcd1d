"""Routes about who is available: asked by routers, overruled by operators."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.availability import tagged
from exporter.core.scope import Scope
from exporter.intake.batching import check_label
from exporter.web import authorize, views
from exporter.web.operate import NewState, decoded, wanted
from exporter.web.provider_route import ProviderRoute
from exporter.web.questions import AVAILABILITY, EXHAUSTED, Question, reply_of
from exporter.web.reply import Reply, response_of, unless_known
from exporter.web.single_flight import SingleFlight
from exporter.web.site import Site
from exporter.web.watch import PATH as WATCH

SHOWN_AT_ONCE = 20  # providers, in a millisecond or two


def state_routes(site: Site) -> list[Route]:
    """The routes, the more special ones first."""
    routes = _StateRoutes(site)
    return [
        Route("/v1/providers", routes.providers),
        ProviderRoute("/v1/providers/{provider:path}/state", routes.overrule, methods=["PUT"]),
        ProviderRoute("/v1/providers/{provider:path}/explain", routes.explain),
        ProviderRoute("/v1/providers/{provider:path}", routes.provider, methods=["GET", "DELETE"]),
        Route(EXHAUSTED, routes.exhausted),
        Route(AVAILABILITY, routes.availability),
        *(
            Route(path, routes.authorize, methods=authorize.METHODS)
            for path in (authorize.PATH, authorize.PATH + "/{original_path:path}")
        ),
        Route(WATCH, site.watchers.watch),
    ]


class _StateRoutes:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._all = SingleFlight[Reply]()

    async def providers(self, request: Request) -> Response:
        # Of many it is megabytes, which everybody who asks shall not have made for himself.
        return _answered(request, await self._all.run(None, self._all_providers))

    async def _all_providers(self) -> Reply:
        shown: list[bytes] = []
        for name in sorted(self._site.service.providers()):
            if len(shown) % SHOWN_AT_ONCE == SHOWN_AT_ONCE - 1:
                await asyncio.sleep(0)  # pushes must not wait for all of them
            body = self._site.questions.shown(name, self._site.clock())
            shown.append(msgspec.json.encode(name) + b":" + body)
        return reply_of(tagged(b"{" + b",".join(shown) + b"}", inf))

    async def provider(self, request: Request) -> Response:
        if request.method == "DELETE":  # of two routes a 405 would only name the first one's
            return await self._forget(request)
        name = request.path_params["provider"]
        return self._asked(request, lambda: self._site.questions.provider(name))

    async def exhausted(self, request: Request) -> Response:
        parameters = dict(request.query_params)
        return self._asked(request, lambda: self._site.questions.exhausted(parameters))

    async def availability(self, request: Request) -> Response:
        parameters = dict(request.query_params)
        return self._asked(request, lambda: self._site.questions.availability(parameters))

    async def authorize(self, request: Request) -> Response:
        parameters = dict(request.query_params)
        provider, model, consumer = (request.headers.get(name, "") for name in authorize.HEADERS)
        asked = (provider, model, consumer)
        return self._asked(request, lambda: self._site.questions.authorize(asked, parameters))

    def _asked(self, request: Request, understand: Callable[[], Question]) -> Response:
        with _bad_request():
            question = understand()
        reply, _ = question.answer(self._site.clock())
        return _answered(request, reply)

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
        with _bad_request():
            check_label(what, text, self._site.service.config.limits.label_length)

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
        # What was overruled is heard again, and anew what it was about.
        shown = await service.refresh(now, [scope.provider])
        return _ok(views.provider(shown[scope.provider]))

    async def _forget(self, request: Request) -> Response:
        name = self._provider(request)
        if name in self._site.service.config.budgets:
            raise HTTPException(409, f"provider: expected one without a budget, got {name!r:.64}")
        await self._site.service.forget(name)
        return Response(status_code=204)


@contextmanager
def _bad_request() -> Iterator[None]:
    """What makes no sense is answered with the reason."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def _answered(request: Request, reply: Reply) -> Response:
    held = request.headers.get("if-none-match")
    return response_of(unless_known(reply, None if held is None else held.encode("latin-1")))


def _ok(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
