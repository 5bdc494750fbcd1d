"""Pages of the site that are made from the code: every metric, setting, route and command.

    python -m docs.reference

writes them. Metrics and routes are those of an exporter that runs meanwhile.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from exporter.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "reference"
PROGRAM = (sys.executable, "-m", "exporter")

RICH = """
budgets:
  openai:
    - {tokens: 1000, labels: {team: ml}}
    - {requests: 10, per: model}
    - {usd: 1, per: consumer}
  gemini: 1
prices:
  known: {input: 1, output: 1}
"""
"""A configuration under which most metrics have a series."""

PUSHES: dict[str, list[dict[str, object]]] = {
    "/v1/usage": [
        {"provider": "openai", "model": model, "consumer": "web", "input_tokens": 900}
        for model in ("known", "unknown")
    ]
    + [{"provider": "gemini", "input_tokens": 5}],
    "/v1/signals": [
        {
            "provider": "openai",
            "status": 429,
            "headers": {
                "x-ratelimit-limit-tokens": "1000",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "30s",
                "retry-after": "30",
            },
        },
        {
            "provider": "claude",
            "status": 200,
            "headers": {
                f"anthropic-ratelimit-unified-{window}-{told}": value
                for window in ("7d", "7d_opus")
                for told, value in {"utilization": "0.5", "reset": "86400"}.items()
            },
        },
    ],
}

WISHES: dict[str, dict[str, object]] = {
    "/v1/providers/openai/state": {"state": "quota_exhausted", "retry_after": "2h"},
    "/v1/providers/gemini/budget": {"amount": 2, "until": "2h"},
    "/v1/providers/gemini/silence": {"until": "2h"},
}
"""What an operator says."""

METRICS = """\
# Metrics

What `/metrics` shows of providers, their budgets, and forecasts. Labels in brackets are there only
where a scope has them: a budget for a model has `model`, one for a consumer `consumer`. The
exporter's metrics of itself are on [a page of their own](../metrics.md).
"""

CONFIGURATION = """\
# Configuration

Every section with its defaults, as in `config/quota.full.yml`.
"""


def pages() -> dict[str, str]:
    """Every generated page, by its file's name."""
    exposition, interface = _running_exporter()
    return {
        "metrics.md": _metrics(exposition),
        "configuration.md": _configuration(),
        "http.md": _interface(interface),
        "cli.md": _commands(),
    }


def _running_exporter() -> tuple[str, dict[str, Any]]:
    """What an exporter shows on /metrics and /openapi.json after some pushes."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "quota.yml")
        config.write_text(RICH)
        process = subprocess.Popen(  # noqa: S603 - our own program
            [
                *(*PROGRAM, "serve", "--config.file", config, "--storage.url", "memory://"),
                *("--web.listen-address", f"127.0.0.1:{port}", "--log.level", "error"),
            ],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _until_ready(url, process)
            for path, items in PUSHES.items():
                _ask(url + path, json.dumps(items).encode())
            for path, wish in WISHES.items():
                _ask(url + path, json.dumps(wish).encode(), "PUT")
            return _ask(url + "/metrics"), json.loads(_ask(url + "/openapi.json"))
        finally:
            process.terminate()
            process.wait(timeout=30)


def _until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            _ask(url + "/-/ready")
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def _ask(url: str, body: bytes | None = None, method: str | None = None) -> str:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - http://127.0.0.1 only
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        text: str = answer.read().decode()
        return text


def _metrics(exposition: str) -> str:
    """A table of the families, without those of every Prometheus client."""
    rows = [METRICS, "| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in text_string_to_metric_families(exposition):
        if not family.name.startswith("llm_quota_") or "_exporter_" in family.name:
            continue
        seen = [set(sample.labels) for sample in family.samples]
        always = set.intersection(*seen) if seen else set()
        labels = sorted(always) + [f"[{name}]" for name in sorted(set().union(*seen) - always)]
        name = family.name + "_total" * (family.type == "counter")
        rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(rows) + "\n"


def _configuration() -> str:
    text = (ROOT / "config" / "quota.full.yml").read_text()
    return f"{CONFIGURATION}\n```yaml\n{text}```\n"


def _interface(document: dict[str, Any]) -> str:
    rows = [
        "# HTTP",
        "",
        "Every route; `GET /openapi.json` has the types of all requests and answers.",
        "",
        "| route | what it does | answers |",
        "|---|---|---|",
    ]
    for path, method, operation in _operations(document):
        answers = ", ".join(sorted(operation["responses"]))
        rows.append(f"| `{method.upper()} {path}` | {operation['summary']} | {answers} |")
    return "\n".join(rows) + "\n"


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict) and "summary" in operation:
                yield path, method, operation


def _commands() -> str:
    parts = ["# Command line\n"]
    for name in COMMANDS:
        help_text = subprocess.run(  # noqa: S603 - our own program
            [*PROGRAM, name, "--help"],
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        parts.append(f"## {name}\n\n```text\n{help_text.rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    for page, text in pages().items():
        (PAGES / page).write_text(text)
