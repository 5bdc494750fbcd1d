"""Authorisation and headers around every ordinary request."""

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.web.site import Site
from exporter.web.toolkit.auth import Decision, right_for

_REFUSALS = {
    Decision.UNAUTHENTICATED: (401, "a credential with the right to do this is needed"),
    Decision.FORBIDDEN: (403, "this credential does not have the right to do this"),
    Decision.OVERLOADED: (429, "too many passwords are waiting to be checked"),
}


class AuthMiddleware:
    """Lets pass who may, and adds the configured headers to every answer."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._site.headers:
                    headers[name.decode()] = value.decode()
            await send(message)

        refusal = await self._refusal(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    async def _refusal(self, scope: Scope) -> Response | None:
        site = self._site
        if not site.within_rate():
            return _refused(429, "too many requests")
        right = right_for(scope["method"], site.address.route(scope["path"]))
        if right is None or not site.authoriser.required:
            return None
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) > 1:  # whoever looks at the first would see another client than who the last
            return _refused(400, f"authorization: expected one, got {len(given)}")
        authorization = given[0] if given else None
        decision = site.authoriser.allowed(authorization, right)
        if decision is Decision.UNVERIFIED and authorization is not None:
            decision = await site.authoriser.verify(authorization, right)
        if decision is Decision.GRANTED:
            return None
        response = _refused(*_REFUSALS[decision])
        if decision is Decision.UNAUTHENTICATED:
            for challenge in site.authoriser.challenges:
                response.headers.append("www-authenticate", challenge.decode())
        return response


def _refused(status: int, error: str) -> Response:
    headers = {"retry-after": "1"} if status == 429 else None
    return JSONResponse({"error": error}, status, headers)
