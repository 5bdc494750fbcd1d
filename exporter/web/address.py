"""Under which address clients reach the exporter, and which paths it therefore serves.

Both as Prometheus has them: https://prometheus.io/docs/prometheus/latest/command-line/prometheus/
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import URL
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class Address(NamedTuple):
    """Where the exporter is reached.

    Attributes:
        external_url: how clients begin the URL of every route, without a slash at its end; empty
            when nobody said.
        prefix: how the paths of all routes begin here: empty, or `/` and more.
    """

    external_url: str = ""
    prefix: str = ""

    @classmethod
    def of(cls, external_url: str | None, route_prefix: str | None) -> "Address":
        """What `--web.external-url` and `--web.route-prefix` mean; None where one is not given.

        Without a prefix it is the path of the external URL.

        Raises:
            ValueError: that is none.
        """
        url = _checked(external_url) if external_url else ""
        path = urlsplit(url).path if route_prefix is None else route_prefix
        prefix = path.strip("/")
        if not prefix.isascii() or any(
            char in " ?#%\\" or not char.isprintable() for char in prefix
        ):
            raise ValueError(f"web.route-prefix: expected a path such as /quota, got {path!r:.64}")
        return cls(url, "/" + prefix if prefix else "")

    def route(self, path: str) -> str:
        """What of a path is the route; all of it where it does not begin with the prefix."""
        return path.removeprefix(self.prefix) if path.startswith(self.prefix + "/") else path

    @property
    def server(self) -> str:
        """How the URL of every route begins for clients, or its path where that is all we know."""
        return self.external_url or self.prefix


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise ValueError(
            f"web.external-url: expected http:// or https:// with a host, got {url!r:.64}"
        )
    return url.rstrip("/")


class PrefixMiddleware:
    """Serves what is below the prefix, and sends whoever asks for `/` there."""

    def __init__(self, app: ASGIApp, address: Address) -> None:
        self._app = app
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        app = self._app
        if scope["type"] == "http" and self._address.prefix:
            prefix = self._address.prefix
            if scope["path"] in ("/", prefix):
                to = self._address.external_url or URL(scope=scope).replace(path=prefix, query="")
                app = RedirectResponse(f"{to}/", 302)
            elif not scope["path"].startswith(prefix + "/"):
                app = JSONResponse({"error": "Not Found"}, 404)
            else:
                scope["root_path"] = prefix
        await app(scope, receive, send)
