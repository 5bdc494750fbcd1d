"""TLS, users, tokens and their rights; and that the short way of pushes answers as the other."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import httpx
import pytest
import trustme

from tests.e2e.running import COMMAND, Exporter, until

CONFIG = """\
budgets: {openai: 1000}
authentication:
  tokens:
    - {name: pusher, file: push.token, rights: [push]}
    - {name: reader, file: read.token, rights: [read]}
    - {name: operator, file: operate.token, rights: [operate]}
"""
WEB = """\
tls_server_config: {cert_file: cert.pem, key_file: key.pem}
http_server_config:
  headers: {X-Frame-Options: deny}
basic_auth_users:
  admin: %s
"""
PASSWORD = "correct horse"
STATE = {"state": "available"}
EVENT = {"provider": "openai", "tokens": 1}


@dataclass
class Secured:
    exporter: Exporter
    folder: Path
    authority: Path

    def status(self, method: str, path: str, who: str | None, **headers: str) -> httpx.Response:
        """An answer to `who`: a right's name, `admin`, or a secret as it is."""
        auth = (who, PASSWORD) if who == "admin" else None
        if who in ("push", "read", "operate"):
            headers["authorization"] = f"Bearer {who}-secret"
        elif who and not auth:
            headers["authorization"] = who
        body = {"POST": EVENT, "PUT": STATE}.get(method)
        return self.exporter.http.request(method, path, json=body, headers=headers, auth=auth)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for right in ("push", "read", "operate"):
        (folder / f"{right}.token").write_text(f"{right}-secret\n")
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (folder / "web.yml").write_text(WEB % hashed)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    options = (f"--web.config.file={folder}/web.yml", "--web.enable-lifecycle")
    with Exporter(folder, CONFIG, *options, tls=context) as exporter:
        yield Secured(exporter, folder, folder / "ca.pem")
    log = exporter.log()
    assert not any(secret in log for secret in (PASSWORD, "-secret", hashed))


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("POST", "/v1/usage", "push"),
        ("POST", "/v1/signals", "push"),
        ("POST", "/v1/litellm", "push"),
        ("POST", "/v1/metrics", "push"),
        ("POST", "/v1/traces", "push"),
        ("GET", "/v1/providers", "read"),
        ("GET", "/v1/providers/openai", "read"),
        ("GET", "/v1/exhausted", "read"),
        ("GET", "/metrics", "read"),
        ("GET", "/", "read"),
        ("GET", "/openapi.json", "read"),
        ("PUT", "/v1/providers/openai/state", "operate"),
        ("POST", "/-/reload", "operate"),
        ("GET", "/nothing", "read"),
    ],
)
def test_each_route_needs_its_right(secured: Secured, method: str, path: str, right: str) -> None:
    def status(who: str | None) -> int:
        return secured.status(method, path, who).status_code

    assert status(right) not in (401, 403)
    assert status("admin") not in (401, 403)
    others = {"push", "read", "operate"} - {right}
    assert {status(other) for other in others} == {403}
    assert [status(None), status("Bearer wrong"), status("Basic d3Jvbmc6")] == [401, 401, 401]


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_health_is_open_to_everybody(secured: Secured, path: str) -> None:
    assert secured.status("GET", path, None).status_code == 200


def test_a_refusal_says_how_to_be_let_in(secured: Secured) -> None:
    answer = secured.status("GET", "/metrics", None)
    assert answer.headers.get_list("www-authenticate") == [
        'Basic realm="llm-quota-exporter"',
        'Bearer realm="llm-quota-exporter"',
    ]
    assert answer.json() == {"error": "a credential with the right to do this is needed"}


@pytest.mark.parametrize("who", [None, "push"])
def test_configured_headers_are_on_every_answer(secured: Secured, who: str | None) -> None:
    for other in ({}, {"x-other": "1"}):
        answer = secured.status("POST", "/v1/usage", who, **other)
        assert answer.headers["x-frame-options"] == "deny"


def test_plain_http_is_not_spoken(secured: Secured) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{secured.exporter.port}/-/healthy", trust_env=False)


def test_the_shell_commands_use_a_token_and_trust_the_authority(secured: Secured) -> None:
    def run(command: str, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(COMMAND, command, f"--url={secured.exporter.url}"),
                *(f"--token-file={secured.folder}/{token}.token", *arguments),
            ],
            capture_output=True,
            text=True,
            env={"SSL_CERT_FILE": str(secured.authority)},
        )

    assert run("push", "push", "openai", "1").stdout == "accepted 1, duplicates 0\n"
    assert "openai" in run("status", "read").stdout
    refused = run("status", "push")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"{secured.exporter.url}/v1/providers: 403 this credential does not have the right "
        "to do this\n"
    )


def test_a_reload_changes_the_tokens(secured: Secured) -> None:
    file = secured.folder / "read.token"
    file.write_text("new-secret\n")
    try:
        assert secured.status("POST", "/-/reload", "operate").status_code == 200
        assert secured.status("GET", "/metrics", "read").status_code == 401
        assert secured.status("GET", "/metrics", "Bearer new-secret").status_code == 200
        file.write_text("two words\n")
        secured.exporter.hang_up()
        until(lambda: "reload failed" in secured.exporter.log(), "failed reload")
        assert secured.status("GET", "/metrics", "Bearer new-secret").status_code == 200
    finally:
        file.write_text("read-secret\n")
        secured.status("POST", "/-/reload", "operate")
    assert "two words" not in secured.exporter.log()


BODIES = [
    '{"provider":"openai","tokens":5}',
    ' {"provider":"openai","tokens":5} \r\n',
    '{"provider":"openai","tokens":5,"id":"%s"}',
    '[{"provider":"openai","tokens":5},{"provider":"openai","tokens":6}]',
    '{"provider":"openai","tokens":5}\n{"provider":"openai","tokens":6}\n',
    '{"provider":"openai","tokens":5}{"provider":"openai","tokens":6}',
    '{"provider":"openai","tokens":5},{"provider":"openai","tokens":6}',
    '{"provider":"openai",\n"tokens":5}',
    '{"provider":"openai","usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}',
    '[{"provider":"openai","tokens":5},{"provider":"openai","tokens":-6}]',
    '{"provider":"openai","tokens":-5}',
    '{"provider":"openai","tokens":5,"color":1}',
    '{"provider":"openai"}',
    '{"provider":"","tokens":1}',
    '{"tokens":1}',
    "{",
    "}",
    "{}",
    "{}}",
    "[]",
    "",
    "null",
    '"{}"',
    "{" * 5000 + "}" * 5000,
    '{"provider":"a\x00b","tokens":1}',
    '{"provider":"\\ud800","tokens":1}',
    '{"provider":"x","tokens":1,"timestamp":"then"}',
    json.dumps([{"provider": "openai", "tokens": 1}] * 1500),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize("key", ["", "key-%s"])
@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-ndjson; charset=utf-8", "application/jsonp"]
)
@pytest.mark.parametrize("who", ["Bearer push-secret", "Bearer read-secret", ""])
def test_the_short_way_answers_as_the_ordinary_one(
    secured: Secured, body: str, key: str, kind: str, who: str
) -> None:
    """Any header beyond the usual ones sends a push the ordinary way."""
    answers = []
    for way, other in (("short", {}), ("ordinary", {"x-other": "1"})):
        name = f"{way}-{hash((body, key, kind, who))}"
        headers = {"content-type": kind, "authorization": who, "idempotency-key": key} | other
        if key:
            headers["idempotency-key"] = key % name
        content = body.replace("%s", name).encode()
        pushed = {name: value for name, value in headers.items() if value}
        for _ in range(2 if key or "%s" in body else 1):  # repeated, where that is told apart
            answer = secured.exporter.http.post("/v1/usage", content=content, headers=pushed)
            answers.append((way, answer.status_code, answer.json(), answer.headers["content-type"]))
    half = len(answers) // 2
    assert [one[1:] for one in answers[:half]] == [one[1:] for one in answers[half:]]
