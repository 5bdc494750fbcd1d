"""Real programs and packages that tests run against; REQUIRE_REAL=1 forbids doing without."""

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def program(name: str) -> str:
    """The path of an installed program; skips the test, or fails it, where there is none."""
    return shutil.which(name) or missing(f"no {name} on PATH")


def module(name: str) -> ModuleType:
    """An installed package; skips the test, or fails it, where there is none."""
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"the package {name} is not installed")


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it under REQUIRE_REAL=1, for want of something."""
    if os.environ.get("REQUIRE_REAL") == "1":
        pytest.fail(f"{what}, and REQUIRE_REAL=1")
    pytest.skip(what)
