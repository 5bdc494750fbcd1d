"""Secrets stay secret: not in the log, not in answers, not in metrics, not in errors."""

import base64
import time
from pathlib import Path

import bcrypt
import pytest

from exporter.cli.settings import read
from exporter.config import ConfigError, parse
from exporter.storage import StorageError, open_store
from tests.e2e.running import Exporter, until

TOKEN = "tok-Zx81secretBearer"
PASSWORD = "pw-Qy72secretBasic"
REDIS = "pw-Rw63secretRedis"
PROBE = "key-Sv54secretProbe"
SECRETS = (TOKEN, PASSWORD, REDIS, PROBE)


def keeps_quiet(text: str, *more: str) -> bool:
    return not any(secret in text for secret in (*SECRETS, *more))


def test_a_running_exporter_tells_nobody_its_secrets(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "headers").write_text(f"Authorization: Bearer {PROBE}\n")
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{ops: '{hashed}'}}\n")
    config = (
        "budgets: {a: 1_000_000}\n"
        f"authentication: {{tokens: [{{name: x, file: {tmp_path}/token, rights: [push, read]}}]}}\n"
        "providers: {a: {probe: {url: 'http://127.0.0.1:9/', interval: 1s, "
        f"headers_file: {tmp_path}/headers}}}}}}\n"
    )
    basic = base64.b64encode(f"ops:{PASSWORD}".encode()).decode()
    wrong = base64.b64encode(f"ops:{PASSWORD}x".encode()).decode()
    seen = []
    options = ("--web.config.file", str(web), "--log.level=debug", "--web.enable-lifecycle")
    with Exporter(tmp_path, config, *options, storage="memory://") as exporter:
        for header in (f"Bearer {TOKEN}", f"Basic {basic}", f"Bearer {TOKEN}x", f"Basic {wrong}"):
            for path in ("/metrics", "/", "/v1/providers", "/v1/nowhere", "/openapi.json"):
                answer = exporter.http.get(path, headers={"authorization": header})
                seen.append(answer.text + str(answer.headers))
            for body in ('{"provider":"a","tokens":20}', "nonsense", "[" * 5000):
                headers = {"authorization": header, "content-type": "application/json"}
                seen.append(exporter.http.post("/v1/usage", content=body, headers=headers).text)
            seen.append(exporter.http.post("/-/reload", headers={"authorization": header}).text)
        ops = {"authorization": f"Basic {basic}"}
        soon = {"state": "quota_exhausted", "retry_after": time.time() + 0.5}
        assert exporter.http.put("/v1/providers/a/state", json=soon, headers=ops).status_code == 200
        exporter.config.write_text("budgets: {a: -1}\n")
        seen.append(exporter.http.post("/-/reload", headers=ops).text)
        until(lambda: "probe failed" in exporter.log(), "probe")
    encoded = (basic, wrong, hashed)
    assert [text for text in seen if not keeps_quiet(text, *encoded)] == []
    assert keeps_quiet(exporter.log(), *encoded), exporter.log()


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{REDIS}@127.0.0.1:9/0",
        f"redis://ops:{REDIS}@127.0.0.1:9?socket_timeout=1",
        f"rediss://ops:{REDIS}@127.0.0.1:9",
        f"redis+cluster://ops:{REDIS}@127.0.0.1:9",
        f"redis://ops:{REDIS}?x@127.0.0.1:9",
        f"redis://ops:{REDIS}@127.0.0.1:port",
        f"redis://ops:{REDIS}@127.0.0.1:9/name",
        f"redis://127.0.0.1:9/?password={REDIS}",
        f"redis://ops:{REDIS}@127.0.0.1:9/?unknown=1",
        f"redis://ops:{REDIS}@[::1/",
        f"postgres://ops:{REDIS}@127.0.0.1/db",
        f"sqlite://ops:{REDIS}@x",
    ],
)
def test_the_error_about_a_store_does_not_show_its_password(url: str) -> None:
    with pytest.raises((ValueError, StorageError)) as refused:
        open_store(url, retention=86400.0, deduplication=86400.0, now=time.time())
    assert str(refused.value)
    assert keeps_quiet(str(refused.value)), refused.value


@pytest.mark.parametrize(
    "config",
    [
        f"authentication: {{tokens: [{{name: x, token: {TOKEN}, rights: [push]}}]}}",
        f"authentication: {TOKEN}",
        f"authentication: {{tokens: {TOKEN}}}",
        f"authentication: {{tokens: [{TOKEN}]}}",
        f"authentication: {{tokens: {{a: {TOKEN}}}}}",
        f"providers: {{a: {{probe: {{url: 'http://u:{PROBE}@x:y/'}}}}}}",
        f"providers: {{a: {{probe: {{url: 'http://u:{PROBE}@x/ y'}}}}}}",
        f"providers: {{a: {{probe: {{url: 'http://x/', headers: '{PROBE}'}}}}}}",
        f'providers: {{a: {{probe: {{url: "http://x/", headers: {{A: "{PROBE}\\n"}}}}}}}}',
        f"providers: {{a: {{probe: {{url: 'http://x/', header: {{A: '{PROBE}'}}}}}}}}",
    ],
)
def test_the_error_about_a_configuration_shows_no_secret(config: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(config, "quota.yml")
    assert keeps_quiet(str(refused.value)), refused.value


@pytest.mark.parametrize("content", [f"two {TOKEN}", f"{TOKEN}\n{TOKEN}", f"{TOKEN}é", ""])
def test_the_error_about_a_tokens_file_does_not_show_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    config = tmp_path / "quota.yml"
    config.write_text(
        f"authentication: {{tokens: [{{name: x, file: {tmp_path}/token, rights: [push]}}]}}\n"
    )
    with pytest.raises(ValueError, match="token: expected one bearer token") as refused:
        read(config, None)
    assert keeps_quiet(str(refused.value)), refused.value
