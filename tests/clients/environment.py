"""Where a client is installed: an environment of its own, since their requirements contradict each
other."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path


class Environment:
    """Packages of PyPI or npm in a folder.

    Attributes:
        folder: where they are.
    """

    def __init__(self, cache: Path, kind: str, packages: Sequence[str]) -> None:
        """Install them, unless an earlier run has."""
        self._kind = kind
        self._packages = packages
        self.folder = cache / sha256(repr((kind, sorted(packages))).encode()).hexdigest()[:12]
        done = self.folder / "installed"
        if not done.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            {"pypi": self._pypi, "npm": self._npm}[kind]()
            done.touch()

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return self.folder / ("venv/bin" if self._kind == "pypi" else "node_modules/.bin")

    def version(self) -> str:
        """Of the first package."""
        package = re.split(r"[\[=]", self._packages[0])[0]
        if self._kind == "npm":
            about = self.folder / "node_modules" / package / "package.json"
            return str(json.loads(about.read_text())["version"])
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        asked = [self.bin / "python", "-c", code]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()

    def _pypi(self) -> None:
        # pip goes back through years of versions where requirements contradict each other.
        uv = [sys.executable, "-m", "uv"]
        venv = [*uv, "venv", "--quiet", "--python", sys.executable, self.folder / "venv"]
        subprocess.run(venv, check=True)
        install = [*uv, "pip", "install", "--quiet", "--python", self.bin / "python"]
        subprocess.run([*install, *self._packages], check=True)

    def _npm(self) -> None:
        npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", self.folder]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([*npm, *self._packages], check=True, **quiet)
