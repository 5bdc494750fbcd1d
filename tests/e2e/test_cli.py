"""The commands that a person types at a running exporter."""

import json
import os
import pty
import re
import select
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.e2e.running import COMMAND, DEADLINE, Exporter, command, until

CONFIG = "budgets: {openai: 1000, gemini: [{tokens: 100}, {usd: 5, period: month}]}\n"


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with Exporter(tmp_path_factory.mktemp("cli"), CONFIG) as running:
        yield running


def typed(exporter: Exporter, *arguments: str | Path) -> list[str]:
    """The lines a command prints."""
    done = command(*arguments, "--url", exporter.url)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextmanager
def started(*arguments: str, **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on; it ends with the block at the latest, also where a check failed."""
    with subprocess.Popen((COMMAND, *arguments), text=True, **options) as one:
        try:
            yield one
        finally:
            one.kill()


# -- mark --


def test_a_provider_is_marked_for_a_while_and_the_word_is_taken_back(exporter: Exporter) -> None:
    lines = typed(exporter, "mark", "openai", "--for", "2h", "--reason", "invoice unpaid")
    assert re.search(r"^openai +out \(operator\) in (1h59m|2h00m) ", lines[1])
    shown: dict[str, Any] = exporter.provider("openai")
    assert shown["state"] == "quota_exhausted"
    assert shown["override"]["reason"] == "invoice unpaid"
    assert re.search(r"^openai +available ", typed(exporter, "mark", "openai", "--auto")[1])
    assert exporter.provider("openai")["override"] is None


def test_a_model_is_marked_until_a_moment_and_available_again(exporter: Exporter) -> None:
    part = ("gemini", "--model", "gemini-3*", "--consumer", "batch")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    lines = typed(exporter, "mark", *part, "--until", tomorrow)
    assert re.search(r"^gemini +out \(operator\) in \S+ +gemini-3\* batch$", lines[-1])
    assert exporter.provider("gemini")["state"] == "available"
    assert not any("gemini-3*" in line for line in typed(exporter, "mark", *part, "--available"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("openai",), "one of the arguments --for --until --available --auto is required"),
        (("openai", "--for", "soon"), "argument --for: expected a duration like 30s, 1h30m or 7d"),
        (("openai", "--for", "0s"), "argument --for: expected a duration like 30s, 1h30m or 7d"),
        (("openai", "--until", "noon"), "expected an RFC 3339 time, got 'noon'"),
        (("openai", "--auto", "--available"), "not allowed with argument"),
        (("openai", "--for", "400d"), "400 retry_after: expected RFC 3339 with a zone"),
        (("openai", "--until", "2020-01-01T00:00:00Z"), "400 retry_after: expected RFC 3339"),
        (("openai", "--for", "2h", "--reason", "x" * 201), "400 reason: expected at most 200"),
    ],
)
def test_a_mark_that_makes_no_sense_is_refused(
    arguments: tuple[str, ...], told: str, exporter: Exporter
) -> None:
    done = command("mark", *arguments, "--url", exporter.url)
    assert done.returncode != 0
    assert told in done.stderr
    assert exporter.provider("openai")["override"] is None


def test_a_name_with_odd_characters_is_marked_as_it_is(exporter: Exporter) -> None:
    typed(exporter, "mark", "a/b c?d#e%f", "--for", "1h")
    assert "a/b c?d#e%f" in exporter.http.get("/v1/providers").json()


# -- status --


def test_one_provider_alone_is_shown(exporter: Exporter) -> None:
    lines = typed(exporter, "status", "gemini")
    assert [line.split()[0] for line in lines[1:]] == ["gemini", "gemini"]
    assert "month" in lines[2]


def test_who_used_what_is_shown(exporter: Exporter) -> None:
    event = {"provider": "spent", "model": "m", "tokens": 70}
    exporter.push({**event, "consumer": "search"}, {**event, "consumer": "batch", "tokens": 30})
    lines = typed(exporter, "status", "spent", "--by", "consumer")
    assert [line.split()[:4] for line in lines[1:]] == [
        ["spent", "search", "70", "70%"],
        ["spent", "batch", "30", "30%"],
    ]
    assert typed(exporter, "status", "spent", "--by", "model")[1].split()[:3] == [
        "spent",
        "m",
        "100",
    ]


def test_a_watch_at_a_terminal_shows_what_changes_until_it_is_interrupted(
    exporter: Exporter,
) -> None:
    here, there = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm"}
    arguments = ("status", "watched", "--watch", "1s", "--url", exporter.url)
    with started(*arguments, stdout=there, env=environment) as one:
        os.close(there)
        seen = ""

        def shows(text: str) -> bool:
            nonlocal seen
            if select.select([here], [], [], 0.1)[0]:
                seen += os.read(here, 65536).decode(errors="replace")
            return text in seen

        until(lambda: shows("available"), "table")
        exporter.http.put(
            "/v1/providers/watched/state", json={"state": "quota_exhausted", "retry_after": "1h"}
        )
        until(lambda: shows("out (operator)"), "change")
        one.send_signal(2)
        assert one.wait(DEADLINE) == 0
        os.close(here)


def test_an_exporter_that_goes_away_is_told_and_waited_for(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        arguments = ("status", "--watch", "1s", "--url", exporter.url)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with started(*arguments, stdout=subprocess.PIPE, env=environment) as one:
            assert one.stdout is not None
            assert one.stdout.readline().startswith("PROVIDER")
            exporter.stop()
            end = time.monotonic() + DEADLINE
            while "Connection refused" not in (line := one.stdout.readline()):
                assert line
                assert time.monotonic() < end
            one.send_signal(2)
            assert one.wait(DEADLINE) == 0


def test_a_program_that_watches_reads_a_document_a_line(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        arguments = ("status", "--json", "--watch", "1s", "--url", exporter.url)
        pipe = subprocess.PIPE
        with started(*arguments, stdout=pipe, stderr=pipe) as one:
            assert one.stdout is not None
            assert one.stderr is not None
            for _ in range(2):
                assert json.loads(one.stdout.readline()).keys() == {"gemini", "openai"}
            exporter.stop()
            assert "Connection refused" in one.stderr.readline()
            one.send_signal(2)
            assert one.wait(DEADLINE) == 0
            rest = one.stdout.read().splitlines()
            assert all(json.loads(line).keys() == {"gemini", "openai"} for line in rest)


# -- the way there --


def test_a_certificate_and_a_token_are_given_by_options_or_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    ca, token = tmp_path / "ca.pem", tmp_path / "operate.token"
    authority.cert_pem.write_to_path(ca)
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    token.write_text("operator-secret\n")
    (tmp_path / "web.yml").write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
    )
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    config = (
        "authentication: {tokens: [{name: o, file: operate.token, rights: [operate, read, push]}]}"
    )
    with Exporter(tmp_path, config, f"--web.config.file={tmp_path}/web.yml", tls=trusting) as one:
        token_file = ("--token-file", token)
        for each in (("push", "openai", "5"), ("mark", "openai", "--for", "1h"), ("status",)):
            stranger = command(*each, "--url", one.url, *token_file)
            assert "CERTIFICATE_VERIFY_FAILED" in stranger.stderr
            unknown = command(*each, "--url", one.url, "--ca-file", ca)
            assert "401 a credential" in unknown.stderr
            known = command(*each, "--url", one.url, "--ca-file", ca, *token_file)
            assert known.returncode == 0, known.stderr
        given = {"URL": one.url, "CA_FILE": str(ca), "TOKEN_FILE": str(token)}
        for name, value in given.items():
            monkeypatch.setenv(f"LLM_QUOTA_EXPORTER_{name}", value)
        assert "out (operator)" in command("status").stdout


def test_a_file_without_certificates_is_told(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    for each in (file, tmp_path / "none.pem"):
        done = command("status", "--ca-file", each, "--url", "https://localhost:1")
        assert done.returncode == 1
        assert done.stderr.startswith(f"--ca-file: {each}: expected certificates as PEM: ")
