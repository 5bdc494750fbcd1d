"""The section about providers: how they are probed, and where they say what an account used."""

import re
from collections.abc import Callable, Mapping

from exporter.config import readers
from exporter.config.combinators import discreet
from exporter.config.document import Value
from exporter.config.model import Account, AccountApi, Probe
from exporter.config.problems import Invalid
from exporter.core.windows import DAY, MINUTE

_PROJECT = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)


def provider(value: Value) -> tuple[Probe | None, Account | None]:
    """How one provider is asked: for its state, and for its account."""
    table = value.table("probe", "account")
    return table.read("probe", _probe, None), table.read("account", _account, None)


def _account(value: Value) -> Account | None:
    table = value.table("api", "headers_file", "url", "project", "interval")
    api = table.need("api", readers.choice(AccountApi), None)
    headers_file = table.need("headers_file", readers.secret_file, None)
    url = table.read("url", _url, "")
    project = table.read("project", _project(api), "")
    interval = table.read("interval", readers.duration(MINUTE, DAY), 300.0)
    if api is None or headers_file is None:
        return None
    return Account(api, headers_file, url, project, interval)


def _project(api: AccountApi | None) -> Callable[[Value], str]:
    def read(value: Value) -> str:
        if api is AccountApi.OPENROUTER:
            raise Invalid("expected none with this api: a key is what it tells about")
        text = value.text("expected the id of a project or workspace")
        if not _PROJECT.fullmatch(text):
            raise Invalid("expected the id of a project or workspace")
        return text

    return read


def _probe(value: Value) -> Probe:
    default = Probe(url="")
    table = value.table("url", "method", "headers", "headers_file", "interval", "max_interval")
    interval = table.read("interval", readers.duration(1, DAY), default.interval)
    return Probe(
        url=table.need("url", _url, default.url),
        method=table.read("method", readers.method, default.method),
        headers=table.read("headers", discreet(_headers), default.headers),
        headers_file=table.read("headers_file", readers.secret_file, default.headers_file),
        interval=interval,
        max_interval=table.read(
            "max_interval",
            readers.duration(interval, DAY),
            max(interval, default.max_interval),
        ),
    )


def _url(value: Value) -> str:
    reader = discreet(readers.url) if "@" in value.raw else readers.url
    return reader(value)


def _headers(value: Value) -> Mapping[str, str]:
    entries = value.entries()
    for header, entry in entries.items():
        if not readers.HEADER.fullmatch(header):
            entry.note(f"expected the name of an HTTP header, got {header!r}")
    return {header: entry.read(readers.header, "") for header, entry in entries.items()}
