"""Real programs and packages that tests run against; REQUIRE_REAL=1 forbids doing without."""

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def program(name: str) -> str:
    """The path of an installed program; skips the test, or fails it, where there is none."""
    return shutil.which(name) or _missing(f"no {name} on PATH")


def module(name: str) -> ModuleType:
    """An installed package; skips the test, or fails it, where there is none."""
    try:
        return importlib.import_module(name)
    except ImportError:
        _missing(f"the package {name} is not installed")


def _missing(what: str) -> NoReturn:
    if os.environ.get("REQUIRE_REAL") == "1":
        pytest.fail(f"{what}, and REQUIRE_REAL=1")
    pytest.skip(what)
