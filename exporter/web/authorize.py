"""Auth subrequests of HTTP gateways: may this request go to that provider?

What nginx calls `auth_request` and Envoy `ext_authz` over HTTP: a status, without a body to read.
https://nginx.org/en/docs/http/ngx_http_auth_request_module.html
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_authz_filter
"""

import math

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter.core.moment import rfc3339
from exporter.core.quota_state import View
from exporter.core.scope import Scope
from exporter.intake.batching import check_label
from exporter.web.site import Site

PATH = "/v1/authorize"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Envoy asks with the method, and below the path, of the request it has in hand."""

PROVIDER = "x-provider"
HEADERS = (PROVIDER, "x-model", "x-consumer")
_DENIALS = {"403": 403, "429": 429}
"""nginx takes only 401 and 403 for a no."""


def authorize_routes(site: Site) -> list[Route]:
    """The path itself, and everything below it."""

    async def authorize(request: Request) -> Response:
        denied = _denied_status(request)
        provider, model, consumer = _asked(request, site.service.config.limits.label_length)
        now = site.clock()
        name = site.ingest.naming.name(provider, {"model": model})
        found = site.service.availability.meets(Scope(name, model, consumer), now)
        return answer(name, found.view, now, denied)

    return [
        Route(path, authorize, methods=METHODS) for path in (PATH, PATH + "/{original_path:path}")
    ]


def answer(provider: str, view: View, now: float, denied: int = 429) -> Response:
    """200, or `denied` with `Retry-After` in whole seconds, and why."""
    if view.retry_at is None:
        return Response(status_code=200)
    why = f"{provider} is out of quota ({view.reason}) until {rfc3339(view.retry_at)}"
    headers = {"retry-after": str(max(1, math.ceil(view.retry_at - now)))}
    body = msgspec.json.encode({"error": why})
    return Response(body, denied, headers, media_type="application/json")


def _denied_status(request: Request) -> int:
    text = request.query_params.get("denied", "429")
    if text not in _DENIALS:
        raise HTTPException(400, f"denied: expected 403 or 429, got {text[:64]!r}")
    return _DENIALS[text]


def _asked(request: Request, longest: int) -> tuple[str, str, str]:
    """Provider, model and consumer; the last two may be empty."""
    provider, model, consumer = (request.headers.get(name, "") for name in HEADERS)
    if not provider:
        raise HTTPException(400, f"{PROVIDER}: expected the name of a provider, got none")
    try:
        for name, value in zip(HEADERS, (provider, model, consumer), strict=True):
            check_label(name, value, longest)
    except ValueError as error:
        raise HTTPException(400, str(error)) from error
    return provider, model, consumer
