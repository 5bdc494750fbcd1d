"""Whatever comes in wrong: a clear answer, nothing half applied, nothing of it in the log."""

import gzip
import itertools
import json
import os
import socket
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.running import Exporter, Samples, command

GOOD = {"provider": "good", "tokens": 1}
NESTED = '{"provider":"x","usage":' + "[" * 20_000 + "]" * 20_000 + "}"
MARKER = "xyzzy-secret-prompt"


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    config = "budgets: {openai: 1000}\nlimits: {events_per_request: 50, body_bytes: 1MiB}\n"
    with Exporter(tmp_path_factory.mktemp("bad"), config) as running:
        yield running
    assert "Traceback" not in running.log()


# -- one wrong event --


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ('{"provider": "x", "tokens": -5}', "tokens: expected `int` >= 0, got -5"),
        (
            '{"provider": "x", "tokens": 1000000000001}',
            "tokens: expected `int` <= 1000000000000, got 1000000000001",
        ),
        ('{"provider": "x", "tokens": 1e400}', "tokens: number out of range"),
        ('{"provider": "x", "tokens": NaN}', "JSON is malformed: invalid character (byte 28)"),
        ('{"provider": "x", "tokens": 2.5}', "tokens: expected `int | null`, got 2.5"),
        ('{"provider": "x", "tokens": "5"}', "tokens: expected `int | null`, got '5'"),
        ('{"provider": "x", "tokens": true}', "tokens: expected `int | null`, got True"),
        ('{"provider": "x", "input_tokens": -1}', "input_tokens: expected `int` >= 0, got -1"),
        ('{"provider": "x", "output_tokens": null}', "output_tokens: expected `int`, got None"),
        ('{"tokens": 5}', "object missing required field `provider`"),
        ('{"provider": "", "tokens": 5}', "provider: expected `str` of length >= 1, got ''"),
        ('{"provider": 5, "tokens": 5}', "provider: expected `str`, got 5"),
        (
            '{"provider": " x", "tokens": 5}',
            "provider: expected printable characters without blanks around, got ' x'",
        ),
        (
            '{"provider": "a\\nb", "tokens": 5}',
            "provider: expected printable characters without blanks around, got 'a\\nb'",
        ),
        (
            json.dumps({"provider": "x" * 129, "tokens": 5}),
            "provider: expected at most 128 characters, got 129",
        ),
        (
            '{"provider": "x", "model": "a\\u0000b", "tokens": 5}',
            "model: expected printable characters without blanks around, got 'a\\x00b'",
        ),
        ('{"provider": "x", "tokens": 5, "color": 1}', "object contains unknown field `color`"),
        (
            '{"provider": "x"}',
            "expected tokens, kinds of tokens, usage, requests or cost_usd, got none of them",
        ),
        (
            '{"provider": "x", "tokens": 1, "input_tokens": 1}',
            "expected tokens, kinds of tokens or usage, got tokens and kinds of tokens",
        ),
        ('{"provider": "x", "usage": [1]}', "usage: expected `object`, got `array`"),
        (
            '{"provider": "x", "usage": {"words": 5}}',
            "usage: no token counts of a known format, got fields ['words']",
        ),
        (
            '{"provider": "x", "tokens": 5, "timestamp": "yesterday"}',
            "timestamp: expected Unix seconds or RFC 3339 with a zone, got 'yesterday'",
        ),
        (
            '{"provider": "x", "tokens": 5, "timestamp": "2026-02-30T00:00:00Z"}',
            "timestamp: expected Unix seconds or RFC 3339 with a zone, got '2026-02-30T00:00:00Z'",
        ),
        (
            '{"provider": "x", "tokens": 5, "timestamp": "2026-02-03T00:00:00"}',
            "timestamp: expected Unix seconds or RFC 3339 with a zone, got '2026-02-03T00:00:00'",
        ),
        (
            '{"provider": "x", "tokens": 5, "timestamp": "2026-02-03T00:00:00+99:00"}',
            "timestamp: expected Unix seconds or RFC 3339 with a zone, "
            "got '2026-02-03T00:00:00+99:00'",
        ),
        (
            '{"provider": "x", "tokens": 5, "timestamp": 1e300}',
            "timestamp: expected Unix seconds or RFC 3339, got 1e+300",
        ),
        (
            '{"provider": "x", "tokens": 5, "timestamp": 0}',
            "timestamp: older than the retention of 35d, got 0.0",
        ),
        (
            json.dumps({"provider": "x", "tokens": 5, "id": "i" * 513}),
            f"id: expected `str` of length <= 512, got {repr('i' * 513)[:64]}",
        ),
        ('{"provider": "x", "tokens": 5', "input data was truncated"),
        ("[1]", "expected `object`, got `int`"),
        ("null", "expected `object`, got `null`"),
        (NESTED, "expected JSON nested less deeply"),
        ("hello", "JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_a_wrong_event_is_refused_with_its_reason_and_changes_nothing(
    exporter: Exporter, event: str, error: str
) -> None:
    before = counted(exporter)
    for headers in ({}, {"X-Other": "the ordinary way"}):
        answer = exporter.http.post(
            "/v1/usage", content=event, headers={"content-type": "application/json"} | headers
        )
        rejected = [{"index": 0, "error": error}]
        assert answer.status_code == 400
        assert answer.json() == {"accepted": 0, "duplicates": 0, "rejected": rejected}
    assert counted(exporter) == before


def counted(exporter: Exporter) -> Samples:
    """What the usage that came in left behind."""
    names = ("llm_quota_requests_total", "llm_quota_tokens_total", "llm_quota_used_tokens")
    return {key: value for key, value in exporter.metrics().items() if key[0] in names}


@pytest.mark.parametrize("shape", ["array", "lines"])
def test_the_good_events_of_a_request_count_and_the_bad_ones_are_named(
    exporter: Exporter, shape: str
) -> None:
    events = [GOOD, {**GOOD, "tokens": -1}, GOOD, {**GOOD, "when": 1}]
    lines = map(json.dumps, events)
    answer = exporter.http.post(
        "/v1/usage", content=json.dumps(events) if shape == "array" else "\n".join(lines)
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": 2,
        "duplicates": 0,
        "rejected": [
            {"index": 1, "error": "tokens: expected `int` >= 0, got -1"},
            {"index": 3, "error": "object contains unknown field `when`"},
        ],
    }


# -- wrong requests --


@pytest.mark.parametrize(
    ("content", "headers", "status", "error"),
    [
        (b"", {}, 400, "expected a usage event, an array of them or NDJSON, got nothing"),
        (b" \n ", {}, 400, "expected a usage event, an array of them or NDJSON, got nothing"),
        (b"[]", {}, 400, "expected a usage event, an array of them or NDJSON, got nothing"),
        (
            b'[{"provider":"x","tokens":1},',
            {},
            400,
            "expected a JSON array of events: input data was truncated",
        ),
        (
            json.dumps([GOOD] * 51).encode(),
            {},
            400,
            "expected at most 50 events in a request, got more",
        ),
        (b"x" * (2**20 + 1), {}, 413, "body: expected at most 1048576 bytes, got more"),
        (
            json.dumps(GOOD).encode(),
            {"content-type": "application/xml"},
            415,
            "content-type: expected application/json or application/x-ndjson, "
            "got 'application/xml'",
        ),
        (
            json.dumps(GOOD).encode(),
            {"content-type": "application/jsonp"},
            415,
            "content-type: expected application/json or application/x-ndjson, "
            "got 'application/jsonp'",
        ),
        (
            json.dumps(GOOD).encode(),
            {"content-encoding": "br"},
            415,
            "content-encoding: expected gzip or none, got 'br'",
        ),
        (
            gzip.compress(json.dumps(GOOD).encode())[:-4],
            {"content-encoding": "gzip"},
            400,
            "body: expected a whole gzip stream, got a part of one",
        ),
        (
            json.dumps(GOOD).encode(),
            {"content-encoding": "gzip"},
            400,
            "body: expected gzip, got something else "
            "(Error -3 while decompressing data: incorrect header check)",
        ),
        (
            json.dumps(GOOD).encode(),
            {"idempotency-key": "k" * 257},
            400,
            "idempotency-key: expected at most 256 characters, got 257",
        ),
    ],
    ids=itertools.count(),
)
def test_a_wrong_request_is_refused_with_its_reason(
    exporter: Exporter, content: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    before = exporter.metrics(), counted(exporter)
    answer = exporter.http.post(
        "/v1/usage", content=content, headers={"content-type": "application/json"} | headers
    )
    assert (answer.status_code, answer.json()) == (status, {"error": error})
    rejected = ("llm_quota_events_total", frozenset({("source", "usage"), ("outcome", "rejected")}))
    assert exporter.metrics()[rejected] == before[0][rejected] + 1
    assert counted(exporter) == before[1]


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/signals", "/v1/litellm", "/v1/metrics"])
def test_a_bomb_is_refused_before_it_grows(exporter: Exporter, path: str) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    zeros = bytes(2**20)
    bomb = b"".join(pack.compress(zeros) for _ in range(256)) + pack.flush()
    before = peak_bytes(exporter)
    answer = exporter.http.post(
        path,
        content=bomb,
        headers={"content-encoding": "gzip", "content-type": "application/json"},
    )
    assert answer.status_code == 413
    assert peak_bytes(exporter) - before < 50 * 2**20


def peak_bytes(exporter: Exporter) -> int:
    """The most memory that the process has had."""
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/usage", 405),
        ("DELETE", "/metrics", 405),
        ("GET", "/nothing/here", 404),
        ("POST", "/-/reload", 403),
        ("GET", "/v1/exhausted?include_elapsed=maybe", 400),
        ("GET", "/v1/providers/%20x", 400),
        ("GET", "/v1/providers/" + "x" * 129, 400),
        ("GET", "/v1/providers/", 400),
    ],
)
def test_a_question_that_makes_no_sense_gets_a_reason(
    exporter: Exporter, method: str, path: str, status: int
) -> None:
    answer = exporter.http.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("{}", "Object missing required field `state`"),
        (
            '{"state": "gone"}',
            "state: expected available, quota_exhausted, auto, got 'gone'",
        ),
        (
            '{"state": "auto", "model": 5}',
            "model: expected `str`, got `int`",
        ),
        ('{"state": "available", "retry_after": 5}', "retry_after: only with quota_exhausted"),
        (
            '{"state": "quota_exhausted"}',
            "retry_after: expected RFC 3339 with a zone, Unix seconds or a duration like 2h, "
            "within the next year, "
            "got None",
        ),
        (
            '{"state": "quota_exhausted", "retry_after": "9999-12-31T23:59:59Z"}',
            "retry_after: expected RFC 3339 with a zone, Unix seconds or a duration like 2h, "
            "within the next year, "
            "got '9999-12-31T23:59:59Z'",
        ),
        (
            '{"state": "quota_exhausted", "retry_after": "2026-02-30T00:00:00Z"}',
            "retry_after: expected RFC 3339 with a zone, Unix seconds or a duration like 2h, "
            "within the next year, "
            "got '2026-02-30T00:00:00Z'",
        ),
        (
            '{"state": "quota_exhausted", "retry_after": 5}',
            "retry_after: expected RFC 3339 with a zone, Unix seconds or a duration like 2h, "
            "within the next year, "
            "got 5.0",
        ),
        ('{"state": "available", "why": 1}', "Object contains unknown field `why`"),
        ("", "Input data was truncated"),
    ],
)
def test_an_operators_mistake_changes_nothing(exporter: Exporter, body: str, error: str) -> None:
    answer = exporter.http.put("/v1/providers/mistaken/state", content=body)
    assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert "mistaken" not in exporter.http.get("/v1/providers").json()


def test_noise_that_is_not_http_leaves_the_exporter_serving(exporter: Exporter) -> None:
    for noise in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /v1/usage HTTP/9.9\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", exporter.port)) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert exporter.http.get("/-/healthy").status_code == 200


# -- the log --


def test_nothing_that_is_pushed_is_logged(exporter: Exporter) -> None:
    post = exporter.http.post
    for event in (
        {"provider": MARKER + "\n", "tokens": 1},
        {"provider": "x", "tokens": MARKER},
        {"provider": "x", MARKER: 1},
        {"provider": "x", "tokens": 1, "model": f" {MARKER} "},
        {"provider": "x", "tokens": 1, "timestamp": MARKER},
        {"provider": "x", "tokens": 1, "id": [MARKER]},
        {"provider": "x", "usage": {MARKER: MARKER}},
        {"provider": "x", "usage": {"prompt_tokens": MARKER, "completion_tokens": 1}},
        MARKER,
    ):
        for path in ("/v1/usage", "/v1/signals", "/v1/litellm", "/v1/metrics", "/v1/traces"):
            json_body = json.dumps(event)
            post(path, content=json_body, headers={"content-type": "application/json"})
            post(path, content=f"[{json_body}]", headers={"content-type": "application/json"})
    for body in (
        MARKER,
        f'{{"provider": "{MARKER}',
        f'["{MARKER}"',
        f'{{"resourceSpans": "{MARKER}"}}',
    ):
        for path in ("/v1/usage", "/v1/signals", "/v1/litellm", "/v1/metrics", "/v1/traces"):
            post(path, content=body)
            post(path, content=body, headers={"content-encoding": "gzip"})
            post(path, content=body, headers={"content-type": "application/x-protobuf"})
    for headers in (
        {"content-type": MARKER},
        {"content-encoding": MARKER},
        {"idempotency-key": MARKER * 20},
        {"authorization": f"Bearer {MARKER}"},
    ):
        post("/v1/usage", json=GOOD, headers=headers)
    refusal = {"error": {"code": MARKER, "type": MARKER, "message": f"{MARKER} insufficient_quota"}}
    signal = {"provider": "x", "status": 429, "headers": {"retry-after": "7200"}, "body": refusal}
    post("/v1/signals", json=signal)
    post("/v1/signals", json={**signal, "status": MARKER})
    post("/v1/signals", json={**signal, "timestamp": MARKER})
    post(
        "/v1/litellm",
        json={
            "id": MARKER,
            "status": "failure",
            "custom_llm_provider": "x",
            "messages": [{"role": "user", "content": MARKER}],
            "error_str": f"{MARKER} RateLimitError",
            "error_information": {"error_code": "429", "error_message": f"quota {MARKER}"},
            "startTime": MARKER,
        },
    )
    exporter.http.put("/v1/providers/x/state", json={"state": MARKER})
    exporter.http.get(f"/{MARKER}?{MARKER}")
    assert exporter.log().count("push rejected") > 20
    assert MARKER not in exporter.log()


# -- what a start can meet --


def start(folder: Path, *options: str, config: str = "", stdin: str = "") -> tuple[int, str]:
    """Exit code and log of a start that must fail."""
    file = folder / "quota.yml"
    file.write_text(config)
    done = command(
        *("serve", f"--config.file={file}", f"--storage.url=sqlite:///{folder}/quota.db"),
        *("--web.listen-address=127.0.0.1:0", *options),
    )
    return done.returncode, done.stderr


def test_a_bad_configuration_is_told_in_full_before_anything_is_opened(tmp_path: Path) -> None:
    config = (
        "budgets:\n"
        "  openai: -5\n"
        "  gemini: {tokens: 5, timezone: Mars/Olympus}\n"
        "  claude: {tokens: 5, period: fortnight}\n"
        "colour: red\n"
    )
    code, log = start(tmp_path, config=config)
    assert code == 1
    for place in (":2: budgets.openai", ":3: budgets.gemini.timezone", ":4: budgets.claude.period"):
        assert f"quota.yml{place}: " in log
    assert "quota.yml:5: " in log
    assert "'Mars/Olympus'" in log
    assert not (tmp_path / "quota.db").exists()


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, log = start(tmp_path, "--config.file=/nowhere/quota.yml")
    assert code == 1
    assert "/nowhere/quota.yml" in log
    assert "Traceback" not in log


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        code, log = start(tmp_path, f"--web.listen-address={where}")
    assert code == 1
    assert f"web.listen-address: cannot listen on {where}: Address already in use" in log


def not_a_database(file: Path) -> None:
    file.write_bytes(b"not a database, but somebody's letters " * 500)


def damaged(file: Path) -> None:
    with Exporter(file.parent, "budgets: {openai: 5}\n") as exporter:
        for number in range(50):
            exporter.push({"provider": f"p{number}", "model": "m" * 100, "tokens": 1, "id": "a"})
    content = bytearray(file.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    file.write_bytes(content)


def a_directory(file: Path) -> None:
    file.mkdir()


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (not_a_database, "file is not a database; nothing was changed. Stop the exporter"),
        (damaged, "nothing was changed. Stop the exporter, keep a copy of the file"),
        (a_directory, "cannot open: unable to open database file"),
    ],
)
def test_a_database_that_cannot_be_used_is_left_alone_and_told(
    tmp_path: Path, prepare: Callable[[Path], None], told: str
) -> None:
    file = tmp_path / "quota.db"
    prepare(file)
    before = file.read_bytes() if file.is_file() else b""
    code, log = start(tmp_path)
    assert code == 1
    assert f"{file}" in log
    assert told in log
    assert "Traceback" not in log
    assert (file.read_bytes() if file.is_file() else b"") == before


def test_the_database_of_another_program_is_refused_and_keeps_its_tables(tmp_path: Path) -> None:
    file = tmp_path / "quota.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    code, log = start(tmp_path)
    assert code == 1
    assert f"{file}: a database of another program" in log
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT name FROM sqlite_schema").fetchall() == [("recipes",)]


def test_a_second_exporter_on_the_same_database_is_refused(tmp_path: Path) -> None:
    with Exporter(tmp_path) as exporter:
        exporter.push(GOOD)
        code, log = start(tmp_path)
        assert code == 1
        assert "quota.db: cannot open: database is locked; another process has it open" in log
        assert exporter.push(GOOD).json()["accepted"] == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--storage.ur=x"], "unrecognized arguments: --storage.ur=x"),
        (["serve", "--log.level=loud"], "argument --log.level: invalid choice: 'loud'"),
        (
            ["serve", "--web.listen-address=here"],
            "argument --web.listen-address: expected HOST:PORT or :PORT, got 'here'",
        ),
        (
            ["serve", "--web.listen-address=:70000"],
            "argument --web.listen-address: expected HOST:PORT or :PORT, got ':70000'",
        ),
        (["start"], "argument COMMAND: invalid choice: 'start'"),
        ([], "the following arguments are required: COMMAND"),
        (["push", "x", "many"], "argument tokens: invalid int value: 'many'"),
        (["check-config"], "the following arguments are required: FILE"),
    ],
)
def test_a_wrong_command_line_is_refused_with_its_reason(arguments: list[str], told: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://x", "storage.url: expected sqlite:///path, memory:// or redis://host"),
        ("sqlite:///", "storage.url: sqlite:/// needs a path, got 'sqlite:///'"),
    ],
)
def test_a_store_that_does_not_exist_is_refused(tmp_path: Path, url: str, told: str) -> None:
    code, log = start(tmp_path, f"--storage.url={url}")
    assert code == 1
    assert told in log
