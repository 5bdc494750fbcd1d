"""YAML to a validated `Config`: strict, and with every problem of a file at once."""

import os
from dataclasses import replace
from os import PathLike
from pathlib import Path

from exporter.config import sections
from exporter.config.document import Document
from exporter.config.files import check_file, read_file
from exporter.config.model import (
    Account,
    AccountApi,
    Bearer,
    Config,
    Limits,
    Preferred,
    Probe,
    Right,
    Rule,
    Webhook,
)
from exporter.config.problems import ConfigError, Problem
from exporter.core.budget import PredictionSettings

MAX_BYTES = 8 * 2**20
"""Of a configuration file: some 100,000 budgets, which take a minute to read."""

__all__ = [
    "MAX_BYTES",
    "Account",
    "AccountApi",
    "Bearer",
    "Config",
    "ConfigError",
    "Limits",
    "PredictionSettings",
    "Preferred",
    "Probe",
    "Problem",
    "Right",
    "Rule",
    "Webhook",
    "load",
    "parse",
]


def load(path: str | PathLike[str]) -> Config:
    """Read a configuration file, and see that the files it names can be read.

    Raises:
        ConfigError: with everything that is wrong.
    """
    document = Document(str(path))
    try:
        text = read_file(Path(path), MAX_BYTES).decode("utf-8-sig")
    except OSError as exc:
        document.note(0, "", f"cannot read it: {exc.strerror}")
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        document.note(line, "", f"expected UTF-8, got the byte 0x{exc.object[exc.start]:02x}")
    else:
        config = _read(text, document)
        for named in document.files:
            try:
                check_file(named.path)
            except OSError as exc:
                got = f"{named.path}: {exc.strerror}"
                if named.secret and not os.path.lexists(named.path):
                    got = f"what may be the secret itself and is not shown: {exc.strerror}"
                named.value.note(f"expected a file that can be read, got {got}")
        document.finish()
        return config
    raise ConfigError(document.problems)


def parse(text: str, name: str) -> Config:
    """Read a configuration; `name` is its file's, for messages and for files named beside it.

    Raises:
        ConfigError: with everything that is wrong, but for files that cannot be read.
    """
    document = Document(name)
    config = _read(text, document)
    document.finish()
    return config


def _read(text: str, document: Document) -> Config:
    root = document.compose(text)
    config = Config() if root is None else root.read(sections.config, Config())
    return replace(config, deprecated=tuple(document.deprecated))
