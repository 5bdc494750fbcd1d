"""A small HTTP client for the commands that talk to a running exporter."""

import argparse
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from exporter.cli.settings import bearer_token

TIMEOUT = 10.0  # seconds
_ENVIRONMENT = "LLM_QUOTA_EXPORTER_"


class Unreachable(Exception):
    """The exporter could not be asked, or said no; the message says why.

    Attributes:
        status: the HTTP status it said no with; 0 when it said nothing.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the exporter is, and how to be let in."""
    parser.add_argument(
        "--url",
        default=_environment("URL") or "http://localhost:10042",
        help="the exporter (default: $LLM_QUOTA_EXPORTER_URL or http://localhost:10042)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        default=_environment_path("TOKEN_FILE"),
        metavar="FILE",
        help="file with a bearer token (default: $LLM_QUOTA_EXPORTER_TOKEN_FILE)",
    )
    parser.add_argument(
        "--ca-file",
        type=Path,
        default=_environment_path("CA_FILE"),
        metavar="FILE",
        help="certificates of those who may have signed the exporter's, as PEM "
        "(default: $LLM_QUOTA_EXPORTER_CA_FILE, or those of the system)",
    )


def _environment(name: str) -> str:
    return os.environ.get(_ENVIRONMENT + name, "")


def _environment_path(name: str) -> Path | None:
    return Path(value) if (value := _environment(name)) else None


def provider_path(provider: str, below: str = "") -> str:
    """The path of a provider, whose name may hold anything, or of something below it."""
    return "/v1/providers/" + quote(provider, safe="") + below


def ask(
    options: argparse.Namespace,
    path: str,
    body: bytes | None = None,
    method: str | None = None,
    **headers: str,
) -> Any:
    """The exporter's JSON answer to a GET, or with a body to a POST or `method`.

    Raises:
        Unreachable: no answer, or not a good one.
    """
    if body is not None:
        headers["Content-Type"] = "application/json"
    answer = send(options, path, body, method, **headers)
    try:
        return json.loads(answer)
    except ValueError as error:
        raise Unreachable(f"{options.url.rstrip('/')}{path}: {error}") from error


def send(
    options: argparse.Namespace,
    path: str,
    body: bytes | None = None,
    method: str | None = None,
    **headers: str,
) -> bytes:
    """The exporter's answer to a GET, or with a body to a POST or `method`.

    Raises:
        Unreachable: no answer, or not a good one.
    """
    with opened(options, path, body, method, headers) as response:
        return response.read()


@contextmanager
def opened(
    options: argparse.Namespace,
    path: str,
    body: bytes | None = None,
    method: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    timeout: float = TIMEOUT,
) -> Iterator[HTTPResponse]:
    """The exporter's answer, to be read while it is open.

    Raises:
        Unreachable: no answer, or not a good one; also while it is read.
    """
    url = options.url.rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        raise Unreachable(f"--url: expected http:// or https://, got {options.url!r}")
    headers = dict(headers)
    if options.token_file:
        try:
            headers["Authorization"] = "Bearer " + bearer_token(options.token_file).decode()
        except (OSError, ValueError) as error:
            raise Unreachable(f"--token-file: {error}") from error
    trusted = _trusted(options.ca_file)
    try:
        request = Request(url, body, headers, method=method)  # noqa: S310 - the scheme was checked
        with urlopen(request, timeout=timeout, context=trusted) as response:  # noqa: S310 - see above
            yield response
    except HTTPError as error:
        raise Unreachable(f"{url}: {error.code} {_reason(error)}", error.code) from error
    except (HTTPException, URLError, OSError, ValueError) as error:
        raise Unreachable(f"{url}: {getattr(error, 'reason', error)}") from error


def _trusted(file: Path | None) -> ssl.SSLContext | None:
    """Whose certificates are believed; None for those whom the system believes."""
    if file is None:
        return None
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        what = getattr(error, "strerror", None) or error
        raise Unreachable(f"--ca-file: {file}: expected certificates as PEM: {what}") from error


def _reason(error: HTTPError) -> str:
    try:
        answer = json.load(error)
    except ValueError:
        return str(error.reason)
    if not isinstance(answer, dict):
        return str(error.reason)
    if "error" in answer:
        return str(answer["error"])
    return "; ".join(f"[{one['index']}] {one['error']}" for one in answer.get("rejected", ()))
