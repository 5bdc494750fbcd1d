"""The table of refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml


def load() -> list[dict[str, Any]]:
    """Every line of `refusals.yml`."""
    found = yaml.safe_load(Path(__file__).with_name("refusals.yml").read_text())
    return list(found)


def param(case: dict[str, Any]) -> Any:
    """A case with a name."""
    return pytest.param(case, id=f"{case['provider']} {case['status']} {case['source']}")


def encoded(case: dict[str, Any]) -> bytes:
    """The body of a response as it is sent."""
    body = case.get("body")
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
