"""The client alone: built, installed into an empty environment, and used there."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from exporter import __version__
from tests.dashboard_expressions import ROOT
from tests.e2e.running import Exporter, until
from tests.real import module

CLIENT = ROOT / "exporter" / "client"

PROGRAM = """
import importlib.util, sys
from exporter.client import Availability, Reporter, instrument

for name in ("numpy", "uvicorn", "bcrypt", "starlette", "exporter.core"):
    assert importlib.util.find_spec(name) is None, name
with Reporter(sys.argv[1]) as reporter:
    reporter.record("openai", model="gpt", input_tokens=900, output_tokens=100)
assert (reporter.dropped, reporter.rejected, reporter.invalid) == (0, 0, 0)
with Availability(sys.argv[1]) as availability:
    print(availability.choose(["openai", "anthropic"]))
"""


def run(*command: str | Path) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, env=clean, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that was made of the sdist."""
    module("build")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, CLIENT)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the client in it."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder)
    interpreter = folder / "bin" / "python"
    run(interpreter, "-m", "pip", "install", "--quiet", wheel)
    return interpreter


def test_it_has_the_version_of_the_exporter(wheel: Path) -> None:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert wheel.name == f"llm_quota_exporter_client-{__version__}-py3-none-any.whl"


def test_it_holds_every_file_of_the_client_and_nothing_else(wheel: Path) -> None:
    tracked = set(run("git", "-C", ROOT, "ls-files", "exporter/client").split())
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == tracked - {"exporter/client/pyproject.toml"}


def test_it_brings_one_library(python: Path) -> None:
    listed = run(python, "-m", "pip", "list", "--format=freeze").split()
    names = {line.partition("==")[0].lower() for line in listed}
    assert names - {"pip", "setuptools"} == {"llm-quota-exporter-client", "msgspec"}


def test_it_reports_to_a_real_exporter(python: Path, tmp_path: Path) -> None:
    with Exporter(tmp_path, "budgets: {openai: 10000}") as exporter:
        run(python, "-I", "-c", PROGRAM, exporter.url)
        until(
            lambda: exporter.value("llm_quota_used_tokens", provider="openai", period="day"),
            "usage",
        )
        assert exporter.value("llm_quota_used_tokens", provider="openai", period="day") == 1000
