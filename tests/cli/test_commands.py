"""The commands where no exporter helps them: files, options, addresses."""

import io
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from exporter import __version__
from exporter.cli import main
from tests.e2e.running import command
from tests.real import program

COMMANDS = (
    *(
        "serve",
        "init",
        "check-config",
        "push",
        "import",
        "status",
        "mark",
        "budget",
        "silence",
        "backtest",
        "completion",
    ),
)


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS)])
def test_version_and_help_are_everywhere(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for option, told in (
        ("--version", f"llm-quota-exporter {__version__}\n"),
        ("--help", "usage:"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, option])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(told)


def test_the_threads_of_numpy_are_set_before_it_is_imported() -> None:
    code = (
        "import os, sys; os.environ.pop('OPENBLAS_NUM_THREADS', None); import exporter.cli as cli\n"
        "assert 'numpy' not in sys.modules\n"
        "try: cli.main(['backtest', '--version'])\n"
        "finally: print('numpy' in sys.modules, os.environ['OPENBLAS_NUM_THREADS'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "True 1"


def test_good_files_are_called_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "quota.yml"
    file.write_text("budgets:\n  a: 5\n  b: [{tokens: 5}, {tokens: 9, period: week}]\n")
    assert main(["check-config", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: good, 2 providers with 3 budgets\n"


def test_every_problem_of_every_file_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / name for name in ("one.yml", "two.yml", "good.yml", "missing.yml")]
    files[0].write_text("budgets:\n  a: -5\n  b: {tokens: 5, timezone: Mars/Olympus}\n")
    files[1].write_text("colour: red\n")
    files[2].write_text("budgets: {a: 5}\n")
    assert main(["check-config", *map(str, files)]) == 1
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert [line.partition(": ")[0] for line in lines[:3]] == [
        f"{files[0]}:2",
        f"{files[0]}:3",
        f"{files[1]}:1",
    ]
    assert "got -5" in lines[0]
    assert "'Mars/Olympus'" in lines[1]
    assert str(files[3]) in lines[3]
    assert told.out.startswith(f"{files[2]}: good")


@pytest.fixture
def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_an_exporter_that_is_not_there_is_named(
    nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--url", nobody]) == 1
    assert capsys.readouterr().err == f"{nobody}/v1/providers: [Errno 111] Connection refused\n"
    assert main(["push", "--url", nobody, "openai", "5"]) == 1
    assert capsys.readouterr().err == f"{nobody}/v1/usage: [Errno 111] Connection refused\n"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:10042", "--url: expected http:// or https://, got 'localhost:10042'"),
        ("file:///etc/passwd", "--url: expected http:// or https://, got 'file:///etc/passwd'"),
        ("http://local host", "http://local host/v1/providers: "),
        ("http://", "--url: expected http:// or https://, got 'http://'"),
        ("http://localhost:port", "http://localhost:port/v1/providers: "),
    ],
)
def test_an_address_that_makes_no_sense_is_named(
    url: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", "--url", url]) == 1
    assert capsys.readouterr().err.startswith(told)


def test_a_server_that_speaks_something_else_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example.org ESMTP\r\n")

        threading.Thread(target=greet, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["status", "--url", url]) == 1
        assert capsys.readouterr().err.startswith(f"{url}/v1/providers: ")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"<html>", "Expecting value: line 1 column 1 (char 0)"),
        (404, b"<html>not here", "404 Not Found"),
        (401, b'{"error": "a credential is needed"}', "401 a credential is needed"),
        (
            400,
            b'{"accepted": 0, "duplicates": 0, "rejected": [{"index": 0, "error": "no"}]}',
            "400 [0] no",
        ),
        (500, b"[]", "500 Internal Server Error"),
    ],
)
def test_an_answer_that_is_no_good_is_told(
    status: int, body: bytes, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert main(["status", "--url", url]) == 1
    assert capsys.readouterr().err == f"{url}/v1/providers: {told}\n"


@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"two\nlines", b""])
def test_a_token_file_that_is_no_good_is_told_without_its_secret(
    content: bytes | None, tmp_path: Path, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    assert main(["status", f"--url={nobody}", f"--token-file={file}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("--token-file: ")
    assert str(file) in told
    assert "lines" not in told


@pytest.mark.parametrize("form", ["logfmt", "json"])
def test_logs_come_in_both_forms(form: str, tmp_path: Path) -> None:
    done = command("serve", f"--log.format={form}", f"--config.file={tmp_path}/none.yml")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    if form == "json":
        assert {"ts", "level", "msg"} <= json.loads(line).keys()
    else:
        assert line.startswith("ts=20")
        assert " level=error msg=" in line


# -- pushes --


def test_many_lines_are_pushed_in_several_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            lines = self.rfile.read(int(self.headers["content-length"])).splitlines()
            bad = [n for n, line in enumerate(lines) if b"bad" in line]
            sent.append(len(lines))
            answer = {"accepted": len(lines) - len(bad), "duplicates": 0}
            rejected = [{"index": n, "error": "no"} for n in bad]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({**answer, "rejected": rejected}).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    lines = [{"provider": "bad" if n == 25_000 else "x", "tokens": 1} for n in range(45_000)]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert main(["push", "--url", f"http://127.0.0.1:{server.server_port}"]) == 1
        server.shutdown()
    assert sent == [20_000, 20_000, 5_000]
    told = capsys.readouterr()
    assert told.out == "accepted 44999, duplicates 0\n"
    assert told.err == "rejected [25000]: no\n"


# -- completion --


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_every_command_and_option(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in (*COMMANDS, "web.listen-address", "ca-file"))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("llm-quota-exporter back", {"backtest", "backup"}),
        ("llm-quota-exporter mark --a", {"--auto", "--available"}),
        ("llm-quota-exporter status --by ", {"consumer", "model"}),
    ],
)
def test_bash_completes_what_is_typed(typed: str, offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(command("completion", "bash").stdout)
    words = typed.split(" ")
    ask = f"""
        source {script}
        COMP_WORDS=({" ".join(word or "''" for word in words)}); COMP_CWORD={len(words) - 1}
        COMP_LINE={typed!r}; COMP_POINT={len(typed)}
        $(complete -p llm-quota-exporter | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([program("bash"), "-c", ask], capture_output=True, text=True)
    assert set(done.stdout.split()) == offered, done.stderr
