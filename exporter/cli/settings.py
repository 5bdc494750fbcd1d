"""Everything that is read from files, at the start and at every reload."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.config import Config, Probe, load
from exporter.web.toolkit.auth import Authoriser, Token, is_bearer_token
from exporter.web.toolkit.webconfig import WebConfig, load_web_config


@dataclass(frozen=True, slots=True)
class Settings:
    """The files' contents, checked.

    Attributes:
        config: the configuration, its probes with their secret headers.
        web: how the web server is reached.
        authoriser: who may do what.
    """

    config: Config
    web: WebConfig
    authoriser: Authoriser


def read(config_file: Path, web_file: Path | None, running: WebConfig | None = None) -> Settings:
    """Read all files; `running` is the web configuration about to be replaced.

    Raises:
        ConfigError: with everything that is wrong.
        OSError, ValueError: a secret's file cannot be read, or holds something else.
    """
    config = load(config_file)
    web = load_web_config(web_file, running) if web_file else WebConfig()
    tokens = [Token(bearer_token(one.file), one.rights, one.name) for one in config.bearers]
    probes = {name: _with_secrets(probe) for name, probe in config.probes.items()}
    return Settings(replace(config, probes=probes), web, Authoriser(tokens, web.users))


def bearer_token(file: Path) -> bytes:
    """The token in a file.

    Raises:
        OSError, ValueError: it cannot be read, or holds something else; the message never shows it.
    """
    secret = file.read_bytes().strip()
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
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        name, colon, value = line.partition(":")
        if not line.strip():
            continue
        if not colon or not name.strip():
            raise ValueError(f"{file}:{number}: expected a header as 'Name: value'")
        headers[name.strip()] = value.strip()
    return headers
