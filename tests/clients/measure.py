"""What a client did, and what the exporter counted of it."""

import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from exporter.core.usage import KINDS, Tokens
from tests.clients.clients import PROGRAMS, Client, Place
from tests.clients.environment import Environment
from tests.e2e.running import Exporter, series
from tests.intake import servers

USED = {
    "/embeddings": ("openai", Tokens(input=9)),
    "/chat/completions": ("openai", Tokens(input=60, cache_read=40, output=30, reasoning=20)),
    "/responses": ("openai", Tokens(input=120, cache_read=80, output=40, reasoning=30)),
    "/messages": ("anthropic", Tokens(input=60, cache_read=40, cache_write=10, output=50)),
    ":generateContent": ("gcp.gemini", Tokens(input=60, cache_read=40, output=30, reasoning=20)),
    ":streamGenerateContent": (
        "gcp.gemini",
        Tokens(input=60, cache_read=40, output=30, reasoning=20),
    ),
}
"""How the path of a call ends -> who is asked, and what such a call uses."""

PATIENCE = 8.0  # seconds after its end until what a client sent must have arrived


class Measured(NamedTuple):
    """One run.

    Attributes:
        version: of the client.
        true: (provider, kind) -> tokens that its calls used.
        counted: the same, as the exporter counted them.
        requests: calls that it made.
        counted_requests: as the exporter counted them.
        uncharged: (source, reason) -> items not counted.
        problem: how the run failed; or empty.
    """

    version: str
    true: Counter[tuple[str, str]]
    counted: Counter[tuple[str, str]]
    requests: int
    counted_requests: int
    uncharged: Counter[tuple[str, str]]
    problem: str = ""


def measure(client: Client, cache: Path) -> Measured:
    """Run a client against a fake of the providers and an exporter of its own."""
    environment = Environment(cache, client.kind, client.packages)
    with tempfile.TemporaryDirectory() as scratch:
        home, folder = Path(scratch, "home"), Path(scratch, "exporter")
        home.mkdir()
        folder.mkdir()
        with servers.running() as fake, Exporter(folder) as exporter:
            place = Place(fake.url, exporter.url, home)
            problem = _run(client, environment, place)
            true, requests = _true(fake.asked)
            end = time.monotonic() + PATIENCE
            counted = _counted(exporter)
            while counted[0] != true and time.monotonic() < end:
                time.sleep(0.2)
                counted = _counted(exporter)
    return Measured(environment.version(), true, counted[0], requests, *counted[1:], problem)


def _run(client: Client, environment: Environment, place: Place) -> str:
    client.prepare(place)
    program, *arguments = client.command
    found = shutil.which(program, path=environment.bin) or program
    if client.kind == "npm" and program == "node":  # modules are found beside the program
        shutil.copy(PROGRAMS / arguments[0], environment.folder)
    given = {
        "PATH": f"{environment.bin}:{os.environ['PATH']}",
        "HOME": str(place.home),
        "PROVIDER_URL": place.provider,
        "EXPORTER_URL": place.exporter,
        "OTEL_EXPORTER_OTLP_ENDPOINT": place.exporter,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_SERVICE_NAME": "shop",
        **client.environment(place),
    }
    cwd = environment.folder if program == "node" else place.home
    try:
        ended = subprocess.run(
            [found, *arguments],
            env=given,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
    except subprocess.TimeoutExpired:
        return "it did not end"
    return "" if ended.returncode == 0 else f"exit {ended.returncode}: {ended.stderr[-2000:]}"


def _true(asked: list[str]) -> tuple[Counter[tuple[str, str]], int]:
    found: Counter[tuple[str, str]] = Counter()
    requests = 0
    for path in asked:
        for end, (provider, tokens) in USED.items():
            if path.endswith(end):
                requests += 1
                for kind, count in zip(KINDS, tokens, strict=True):
                    found[provider, kind] += count
    return +found, requests


def _counted(exporter: Exporter) -> tuple[Counter[tuple[str, str]], int, Counter[tuple[str, str]]]:
    tokens: Counter[tuple[str, str]] = Counter()
    uncharged: Counter[tuple[str, str]] = Counter()
    requests = 0
    for (name, labels), value in series(exporter.http.get("/metrics").text).items():
        said = dict(labels)
        if name == "llm_quota_tokens_total":
            tokens[said["provider"], said["kind"]] += int(value)
        elif name == "llm_quota_requests_total":
            requests += int(value)
        elif name == "llm_quota_uncharged_total":
            uncharged[said["source"], said["reason"]] += int(value)
    return +tokens, requests, +uncharged
