"""A small HTTP client for the commands that talk to a running exporter."""

import argparse
import json
import os
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from exporter.cli.settings import bearer_token

TIMEOUT = 10.0  # seconds


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
        default=os.environ.get("LLM_QUOTA_EXPORTER_URL", "http://localhost:10042"),
        help="the exporter (default: $LLM_QUOTA_EXPORTER_URL or http://localhost:10042)",
    )
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file with a bearer token")


def ask(options: argparse.Namespace, path: str, body: bytes | None = None, **headers: str) -> Any:
    """The exporter's JSON answer to a GET, or with a body to a POST.

    Raises:
        Unreachable: no answer, or not a good one.
    """
    if body is not None:
        headers["Content-Type"] = "application/json"
    answer = send(options, path, body, **headers)
    try:
        return json.loads(answer)
    except ValueError as error:
        raise Unreachable(f"{options.url.rstrip('/')}{path}: {error}") from error


def send(
    options: argparse.Namespace, path: str, body: bytes | None = None, **headers: str
) -> bytes:
    """The exporter's answer to a GET, or with a body to a POST.

    Raises:
        Unreachable: no answer, or not a good one.
    """
    url = options.url.rstrip("/") + path
    if not url.startswith(("http://", "https://")):
        raise Unreachable(f"--url: expected http:// or https://, got {options.url!r}")
    if options.token_file:
        try:
            headers["Authorization"] = "Bearer " + bearer_token(options.token_file).decode()
        except (OSError, ValueError) as error:
            raise Unreachable(f"--token-file: {error}") from error
    try:
        with urlopen(Request(url, body, headers), timeout=TIMEOUT) as response:  # noqa: S310 - the scheme was checked
            answer: bytes = response.read()
            return answer
    except HTTPError as error:
        raise Unreachable(f"{url}: {error.code} {_reason(error)}", error.code) from error
    except (HTTPException, URLError, OSError, ValueError) as error:
        raise Unreachable(f"{url}: {getattr(error, 'reason', error)}") from error


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
