"""Every request, counted and timed by its route and the code of its answer."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence

from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.core.histogram import SECONDS, Histogram
from exporter.web.exposition import Family, counter, histogram

NO_ROUTE = "other"
"""The label of what has no route: unknown paths, and what is refused before it has a path."""


class RequestMetrics:
    """Requests by route and code, since the start of the process.

    The routes are the templates they are written as, so that nobody can make up new ones.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], Histogram] = {}

    def of(self, route: str, code: int) -> Histogram:
        """Where requests of a route are counted that are answered with a code."""
        found = self._found.get((route, code))
        if found is None:
            found = self._found[route, code] = Histogram(SECONDS)
        return found

    def collect(self) -> Iterator[Family]:
        """Yield the families; they stay as they are."""
        requests = counter(
            "exporter_http_requests", "Requests answered, by route and code.", "route", "code"
        )
        durations = histogram(
            "exporter_http_request_duration_seconds",
            "Time from a request's head to the end of its answer.",
            *("route", "code"),
        )
        for (route, code), observed in sorted(self._found.items()):
            found = observed.read()
            requests.samples[route, str(code)] = sum(found.counts)
            durations.add((route, str(code)), found)
        yield requests
        yield durations


class RequestMetricsMiddleware:
    """Observes what takes the ordinary way."""

    def __init__(self, app: ASGIApp, requests: RequestMetrics, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._requests = requests
        self._routes = [route for route in routes if isinstance(route, Route)]
        self._names = _names(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        code, started = 500, False  # of an error that nobody expected

        async def observed(message: Message) -> None:
            nonlocal code, started
            if message["type"] == "http.response.start":
                code, started = message["status"], True
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except asyncio.CancelledError:  # the server ends, and has waited long enough
            if not started:
                answer = JSONResponse({"error": "the exporter ends"}, 503, {"retry-after": "1"})
                await answer(scope, receive, observed)
        finally:
            self._requests.of(self._route(scope), code).observe(time.monotonic() - began)

    def _route(self, scope: Scope) -> str:
        endpoint = scope.get("endpoint")
        if endpoint is None:  # it was refused before it came so far
            matching = (one.endpoint for one in self._routes if one.matches(scope)[0] != Match.NONE)
            endpoint = next(matching, None)
        return self._names.get(endpoint, NO_ROUTE)


def _names(routes: Iterable[Route]) -> dict[object, str]:
    names: dict[object, str] = {}
    for route in routes:
        # Several may lead to one place: the first is its name.
        names.setdefault(route.endpoint, route.path.replace(":path", ""))
    return names
