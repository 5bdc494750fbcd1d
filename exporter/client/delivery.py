"""Requests to the exporter, over Python's own HTTP client.

urllib and not httpx: one small request a second needs no connection pool, programs that only
report are spared a dependency, and nothing here can meet the hooks that feed it.
"""

import gzip
import http.client
import random
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
)

OnConnect = Callable[[socket.socket], None]
"""Given the socket of every new connection, before anything is sent over it."""

_GZIP_FROM = 4096  # bytes: below, a packet is a packet
_ANSWER_READ = 65536
_FIRST_BACKOFF = 0.5
_MAX_BACKOFF = 30.0
_MAX_RETRY_AFTER = 300.0
_random = random.SystemRandom()  # forked children must not draw the same jitter


@dataclass(frozen=True, slots=True)
class PushResponse:
    """How the exporter answered.

    Attributes:
        status: HTTP status, 0 when no answer came.
        text: the body, or what went wrong on the way.
        retry_after: seconds it asked to wait, None when it did not.
    """

    status: int
    text: str
    retry_after: float | None = None

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether sending the same bytes again is pointless.

        Rights, paths and size limits are configuration that an operator may still put right.
        """
        return self.status in (400, 413, 415, 422)


class _NoRedirect(HTTPRedirectHandler):
    """A redirect would turn the POST into a GET and show the token to another host."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        return None


class _HTTP(HTTPHandler):
    def __init__(self, on_connect: OnConnect) -> None:
        super().__init__()
        self._on_connect = on_connect

    def http_open(self, req: Request) -> http.client.HTTPResponse:
        on_connect = self._on_connect

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                on_connect(self.sock)

        return self.do_open(Connection, req)


class _HTTPS(HTTPSHandler):
    def __init__(self, on_connect: OnConnect, tls: ssl.SSLContext | None) -> None:
        super().__init__(context=tls)
        self._on_connect = on_connect
        self._tls = tls

    def https_open(self, req: Request) -> http.client.HTTPResponse:
        on_connect = self._on_connect

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                on_connect(self.sock)

        return self.do_open(Connection, req, context=self._tls)


class Exporter:
    """The exporter at `url`.

    Args:
        on_connect: see `OnConnect`; what it raises ends the request.

    Raises:
        ValueError: the URL is not an http or https one, or the token cannot be a header.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        tls: ssl.SSLContext | None,
        on_connect: OnConnect = lambda _: None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: expected http://host:port or https://host:port, got {url!r}")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise ValueError("token: expected printable ASCII characters")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener = build_opener(_NoRedirect, _HTTP(on_connect), _HTTPS(on_connect, tls))

    def get(self, path: str, headers: Mapping[str, str], timeout: float) -> Any:
        """The open response of a GET, to be read and closed by the caller.

        Args:
            timeout: seconds, for each wait on the network.

        Raises:
            HTTPError: any status but 2xx; it is the open response, too.
            OSError, HTTPException, ValueError: no answer, or not one of HTTP.
        """
        request = Request(  # noqa: S310 - the scheme was checked in __init__
            self._url + path, headers={**self._headers, **headers}
        )
        return self._opener.open(request, timeout=timeout)

    def post(
        self, path: str, body: bytes, content_type: str, key: str, timeout: float
    ) -> PushResponse:
        """Posts once. `timeout` in seconds, for each wait on the network."""
        headers = {**self._headers, "Content-Type": content_type, "Idempotency-Key": key}
        if len(body) >= _GZIP_FROM:
            body = gzip.compress(body, compresslevel=6)
            headers["Content-Encoding"] = "gzip"
        request = Request(  # noqa: S310 - the scheme was checked in __init__
            self._url + path, data=body, headers=headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return PushResponse(response.status, _text(response.read(_ANSWER_READ)))
        except HTTPError as refusal:
            with refusal:
                return PushResponse(
                    refusal.code,
                    refusal.reason,
                    _retry_after(refusal.headers.get("Retry-After", "")),
                )
        except (OSError, http.client.HTTPException, ValueError) as error:
            return PushResponse(0, f"{type(error).__name__}: {error}")


def backoff(attempt: int, retry_after: float | None) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0).

    Exponential with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter", 2015);
    after what the exporter asked for, so that its clients do not return all at once.
    """
    jitter = _random.uniform(0.0, min(_MAX_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(attempt, 16)))
    return jitter + (retry_after or 0.0)


def _retry_after(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (TypeError, ValueError):
            return None
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
