"""`--web.config.file`: TLS, headers and users, in the format of Prometheus' exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exporter.config import MAX_BYTES
from exporter.config.document import Document, Value
from exporter.config.files import read_file
from exporter.config.problems import Invalid
from exporter.config.readers import integer
from exporter.web.toolkit.auth import is_bcrypt_hash
from exporter.web.toolkit.ratelimit import RateLimit
from exporter.web.toolkit.tls import TlsSettings
from exporter.web.toolkit.tlsconfig import tls_settings
from exporter.web.toolkit.webreaders import boolean, filled_in, text

_TLS = "tls_server_config"
_SECTIONS = (_TLS, "http_server_config", "basic_auth_users", "rate_limit")
# The toolkit's list; None means any value.
_HEADERS: dict[str, tuple[str, ...] | None] = {
    "Content-Security-Policy": None,
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": None,
    "Strict-Transport-Security": None,
}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(f"(?:{_DURATION_PART.pattern})+")


@dataclass(frozen=True, slots=True)
class WebConfig:
    """How the web server is reached. The defaults are those without a file: open to everybody.

    Attributes:
        tls: None means plain HTTP.
        headers: to add to every answer, names in lower case as ASGI wants them.
        users: bcrypt hashes by name, for `Authoriser`.
    """

    tls: TlsSettings | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    rate_limit: RateLimit | None = None


def load_web_config(file: Path, running: WebConfig | None = None) -> WebConfig:
    """Reads and checks the file, and the certificates it names, relative to its folder.

    `running` is the configuration about to be replaced: an open socket cannot change between HTTP
    and HTTPS. Raises ConfigError with every problem; none shows a hash, a key or a certificate.
    """
    document = Document(str(file))
    config = WebConfig()
    try:
        root = document.compose(read_file(file, MAX_BYTES).decode("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        document.note(0, "", f"cannot read it: {_reason(exc)}")
    else:
        config = config if root is None else root.read(_web_config, config)
    document.problems[:] = [
        problem._replace(message=_discreet(problem.message)) for problem in document.problems
    ]
    document.finish()
    if running is not None and (config.tls is None) != (running.tls is None):
        document.note(0, _TLS, "HTTPS cannot be switched on or off without a restart")
    document.finish()
    return config


def _web_config(root: Value) -> WebConfig:
    table = root.table(*_SECTIONS)
    return WebConfig(
        tls=table.read(_TLS, tls_settings, None),
        headers=table.read("http_server_config", _http, ()),
        users=table.read("basic_auth_users", _users, {}),
        rate_limit=table.read("rate_limit", _rate_limit, None),
    )


def _http(section: Value) -> tuple[tuple[bytes, bytes], ...]:
    table = section.table("http2", "headers")
    # Clients agree on HTTP/1.1 where HTTP/2 is not offered: either value is kept to.
    table.read("http2", boolean, True)
    return table.read("headers", _headers, ())


def _headers(value: Value) -> tuple[tuple[bytes, bytes], ...]:
    table = filled_in(value.table(*_HEADERS))
    return tuple(
        (name.lower().encode(), table.read(name, _header(_HEADERS[name]), "").encode())
        for name in _HEADERS
        if name in table.entries
    )


def _header(allowed: tuple[str, ...] | None) -> Callable[[Value], str]:
    def read(value: Value) -> str:
        found = text(value)
        if allowed is not None and found not in allowed:
            raise Invalid(f"expected {' or '.join(allowed)}")
        if not (found.isascii() and found.isprintable()):
            raise Invalid("expected printable ASCII")
        return found

    return read


def _users(section: Value) -> dict[str, bytes]:
    if not section.is_mapping and not section.tagged("null"):
        raise Invalid("expected a mapping", "something else")
    users = section.entries()
    for name, value in users.items():
        if ":" in name:
            value.note(f"expected a user name without a colon, got {name!r}")
    return {name: value.read(_bcrypt_hash, b"") for name, value in users.items()}


def _bcrypt_hash(value: Value) -> bytes:
    hashed = value.raw.encode()
    if not is_bcrypt_hash(hashed):
        # Whatever stands there may be the password itself.
        raise Invalid("expected a bcrypt hash ($2y$...)", "something else")
    return hashed


def _rate_limit(section: Value) -> RateLimit | None:
    table = section.table("interval", "burst")
    interval = table.read("interval", _seconds, 0.0)
    if not interval:
        return None
    return RateLimit(interval, table.need("burst", integer(1, 10**9), 1))


def _seconds(value: Value) -> float:
    found = text(value)
    if found == "0":
        return 0.0
    if not _DURATION.fullmatch(found):
        raise Invalid("expected a duration such as 100ms, or 0")
    return sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(found))


def _discreet(message: str) -> str:
    """YAML takes unquoted text after these signs for a name, and its errors quote it."""
    return re.sub(r"(alias|anchor|handle) .*", r"\1", message)


def _reason(exc: OSError | UnicodeDecodeError) -> str:
    """Without the bytes around a decoding error."""
    if isinstance(exc, UnicodeDecodeError):
        return "not UTF-8"
    return exc.strerror or str(exc)
