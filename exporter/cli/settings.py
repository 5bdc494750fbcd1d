"""Everything that is read from files, at the start and at every reload."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path

from exporter.config import MAX_BYTES, Config, Probe, load
from exporter.config.files import read_file
from exporter.web.toolkit.auth import Authoriser, Token, is_bearer_token
from exporter.web.toolkit.webconfig import WebConfig, load_web_config

log = logging.getLogger("exporter")

MAX_SECRET_BYTES = 64 * 1024
"""Of a file with a token, or with headers."""

_NAMED = 20  # providers in a line of the log


@dataclass(frozen=True, slots=True)
class Settings:
    """The files' contents, checked.

    Attributes:
        config: the configuration, its probes and accounts with their secret headers.
        web: how the web server is reached.
        authoriser: who may do what.
        tokens: the bearer tokens, hashed.
    """

    config: Config
    web: WebConfig
    authoriser: Authoriser
    tokens: bytes = field(repr=False)


def read(config_file: Path, web_file: Path | None, running: WebConfig | None = None) -> Settings:
    """Read all files; `running` is the web configuration about to be replaced.

    Raises:
        ConfigError: with everything that is wrong.
        OSError, ValueError: a secret's file cannot be read, or holds something else.
    """
    config = load(config_file)
    for problem in config.deprecated:
        log.warning(problem)
    web = load_web_config(web_file, running) if web_file else WebConfig()
    tokens = [Token(bearer_token(one.file), one.rights, one.name) for one in config.bearers]
    probes = {name: _with_secrets(probe) for name, probe in config.probes.items()}
    accounts = {
        name: replace(one, headers=_headers(one.headers_file))
        for name, one in config.accounts.items()
    }
    hashed = sha256(b"\n".join(token.secret for token in tokens)).digest()
    config = replace(config, probes=probes, accounts=accounts)
    return Settings(config, web, Authoriser(tokens, web.users), hashed)


def changes(before: Settings, after: Settings) -> str:
    """What differs, for the log: names of sections and of providers, never what they hold."""
    old, new = before.config.budgets, after.config.budgets
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    budgets = [
        sign + name
        for sign, names in (("+", new.keys() - old.keys()), ("-", old.keys() - new.keys()))
        for name in sorted(names)
    ] + [f"~{name}" for name in sorted(changed)]
    parts = []
    if budgets:
        more = [f"and {len(budgets) - _NAMED} more"] if len(budgets) > _NAMED else []
        parts.append(" ".join(["budgets:", *budgets[:_NAMED], *more]))
    parts += [
        one.name
        for one in fields(Config)
        if one.compare
        and one.name != "budgets"
        and getattr(before.config, one.name) != getattr(after.config, one.name)
    ]
    if before.tokens != after.tokens and "bearers" not in parts:
        parts.append("bearers")
    if before.web != after.web:
        parts.append("web")
    return "; ".join(parts)


def fingerprint(config_file: Path, web_file: Path | None, settings: Settings) -> bytes:
    """Changes with the content of any file that `read` reads; files that are missing count too."""
    config = settings.config
    files = [config_file, web_file, *[one.file for one in config.bearers]]
    files += [probe.headers_file for probe in config.probes.values()]
    files += [account.headers_file for account in config.accounts.values()]
    digest = sha256()
    for file in files:
        if file is not None:
            with suppress(OSError):
                digest.update(sha256(read_file(file, MAX_BYTES)).digest())
            digest.update(b"\n")
    return digest.digest()


def bearer_token(file: Path) -> bytes:
    """The token in a file.

    Raises:
        OSError, ValueError: it cannot be read, or holds something else; the message never shows it.
    """
    secret = read_file(file, MAX_SECRET_BYTES).strip()
    if not is_bearer_token(secret):
        raise ValueError(f"{file}: expected one bearer token of letters, digits and ._~+/-=")
    return secret


def _with_secrets(probe: Probe) -> Probe:
    if probe.headers_file is None:
        return probe
    return replace(probe, headers={**probe.headers, **_headers(probe.headers_file)})


def _headers(file: Path) -> Mapping[str, str]:
    """Lines of `Name: value`; the message of an error never shows one."""
    headers = {}
    text = read_file(file, MAX_SECRET_BYTES).decode("utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not name.strip():
            raise ValueError(f"{file}:{number}: expected a header as 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers
