"""The web configuration file: what is understood, and what each mistake is told."""

import contextlib
import ssl
from pathlib import Path

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import ConfigError
from exporter.web.toolkit.ratelimit import RateLimit
from exporter.web.toolkit.tls import build_context
from exporter.web.toolkit.webconfig import WebConfig, load_web_config

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
PAIR = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate with its key, another's key, an authority, and a file that is none of these."""
    path = tmp_path_factory.mktemp("web")
    ca = trustme.CA()
    issued, other = ca.issue_cert("localhost"), ca.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(path / "cert.pem")
    issued.private_key_pem.write_to_path(path / "key.pem")
    other.private_key_pem.write_to_path(path / "other-key.pem")
    ca.cert_pem.write_to_path(path / "ca.pem")
    (path / "text.pem").write_text("no certificate\n")
    return path


def load(folder: Path, text: str, running: WebConfig | None = None) -> WebConfig:
    (folder / "web.yml").write_text(text, encoding="utf-8")
    return load_web_config(folder / "web.yml", running)


def problems(folder: Path, text: str, running: WebConfig | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, running)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "{}",
        "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
        "tls_server_config: {}\nbasic_auth_users: {}\nrate_limit: {interval: 0, burst: 0}\n",
        "tls_server_config: {cert_file: '', key_file: ''}\nhttp_server_config: {http2: false}\n",
    ],
)
def test_what_is_not_configured_stays_open_and_plain(folder: Path, text: str) -> None:
    assert load(folder, text) == WebConfig()


def test_a_certificate_and_its_key_turn_tls_on_with_safe_defaults(folder: Path) -> None:
    tls = load(folder, PAIR).tls
    assert tls is not None
    assert (tls.certificate, tls.key) == (folder / "cert.pem", folder / "key.pem")
    assert (tls.minimum, tls.maximum) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    assert tls.client_certificates is ssl.CERT_NONE
    assert tls.prefer_server_ciphers


def test_files_are_found_beside_the_configuration_from_any_working_directory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = PAIR.replace("key.pem", str(folder / "key.pem"))
    assert load(folder, PAIR).tls == load(folder, absolute).tls


def test_every_tls_setting_reaches_the_context(folder: Path) -> None:
    tls = load(
        folder,
        PAIR + "  client_auth_type: RequireAndVerifyClientCert\n"
        "  client_ca_file: ca.pem\n"
        "  client_allowed_sans: [pusher.example, 10.0.0.1]\n"
        "  min_version: TLS12\n"
        "  max_version: TLS12\n"
        "  cipher_suites:\n"
        "    - TLS_AES_128_GCM_SHA256\n"
        "    - TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\n"
        "    - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n"
        "  prefer_server_cipher_suites: false\n"
        "  curve_preferences: [CurveP384]\n",
    ).tls
    assert tls is not None
    assert tls.allowed_sans == {"pusher.example", "10.0.0.1"}
    assert tls.curve == "secp384r1"
    context = build_context(tls)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    assert context.minimum_version is context.maximum_version is ssl.TLSVersion.TLSv1_2
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    old_ciphers = [c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"]
    assert old_ciphers == ["ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384"]


@pytest.mark.parametrize("group", ["ECDSA", "RSA"])
def test_openssl_knows_every_cipher_suite_of_the_format(folder: Path, group: str) -> None:
    suites = [
        f"TLS_ECDHE_{group}_WITH_{cipher}"
        for cipher in (
            "AES_128_CBC_SHA",
            "AES_256_CBC_SHA",
            "AES_128_GCM_SHA256",
            "AES_256_GCM_SHA384",
            "CHACHA20_POLY1305_SHA256",
        )
    ]
    tls = load(folder, f"{PAIR}  cipher_suites: [{', '.join(suites)}]\n").tls
    assert tls is not None
    named = {cipher["name"] for cipher in build_context(tls).get_ciphers()}
    assert len(tls.ciphers) == 5
    assert named.issuperset(tls.ciphers)


@pytest.mark.parametrize("curve", ["X25519", "CurveP256", "CurveP384", "CurveP521"])
def test_openssl_knows_every_curve_of_the_format(folder: Path, curve: str) -> None:
    assert load(folder, f"{PAIR}  curve_preferences: [{curve}]\n").tls


def test_only_suites_of_tls_13_leave_only_tls_13(folder: Path) -> None:
    tls = load(folder, PAIR + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n").tls
    assert tls is not None
    assert tls.minimum is ssl.TLSVersion.TLSv1_3


def test_certificates_may_stand_in_the_file_itself(folder: Path) -> None:
    def block(name: str) -> str:
        return "|\n" + "".join(f"    {line}\n" for line in (folder / name).read_text().splitlines())

    text = (
        f"tls_server_config:\n  cert: {block('cert.pem')}  key: {block('key.pem')}"
        f"  client_ca: {block('ca.pem')}  client_auth_type: VerifyClientCertIfGiven\n"
    )
    config = load(folder, text)
    assert config.tls is not None
    assert config.tls.client_certificates is ssl.CERT_OPTIONAL
    key = (folder / "key.pem").read_text()
    assert key.splitlines()[1] not in repr(config)


def test_headers_are_added_as_written_and_left_out_when_blank(folder: Path) -> None:
    config = load(
        folder,
        "http_server_config:\n  http2: true\n  headers:\n"
        "    X-Frame-Options: deny\n    X-XSS-Protection: 0\n    X-Content-Type-Options: ''\n"
        "    Content-Security-Policy: default-src 'self'\n",
    )
    assert sorted(config.headers) == [
        (b"content-security-policy", b"default-src 'self'"),
        (b"x-frame-options", b"deny"),
        (b"x-xss-protection", b"0"),
    ]


def test_users_and_their_hashes_are_read_and_not_shown(folder: Path) -> None:
    config = load(folder, f"basic_auth_users:\n  ada: {HASH}\n  '1234': '{HASH}'\n")
    assert config.users == {"ada": HASH.encode(), "1234": HASH.encode()}
    assert HASH not in repr(config)


@pytest.mark.parametrize(
    ("interval", "seconds"), [("1s", 1.0), ("1m30s", 90.0), ("100ms", 0.1), ("1.5h", 5400.0)]
)
def test_the_interval_of_the_rate_limit_is_a_go_duration(
    folder: Path, interval: str, seconds: float
) -> None:
    config = load(folder, f"rate_limit: {{interval: {interval}, burst: 20}}")
    assert config.rate_limit == RateLimit(pytest.approx(seconds), 20)


TLS = "tls_server_config"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", ["web.yml:1: expected a mapping, got a list"]),
        ("just text", ["web.yml:1: expected a mapping, got 'just text'"]),
        (
            "a: [1\nb: 2\n",
            [
                "web.yml:2: not YAML: while parsing a flow sequence, "
                "expected ',' or ']', but got ':'"
            ],
        ),
        ("basic_auth_users:\n  ada: *hunter2\n", ["web.yml:2: not YAML: found undefined alias"]),
        (
            "basic_auth_users:\n  ada: \0\n",
            ["web.yml:2: not YAML: the character U+0000 is not allowed"],
        ),
        (
            "tls_config: {}\n",
            ["web.yml:1: tls_config: unknown key, did you mean tls_server_config?"],
        ),
        (
            PAIR + "  certfile: x\n",
            [f"web.yml:4: {TLS}.certfile: unknown key, did you mean cert_file?"],
        ),
        (
            PAIR + "  key_file: key.pem\n",
            [f"web.yml:4: {TLS}.key_file: given twice, first on line 3"],
        ),
        (f"{TLS}: [a]\n", [f"web.yml:1: {TLS}: expected a mapping, got a list"]),
        (
            f"{TLS}:\n  min_version: TLS13\n",
            [
                f"web.yml:1: {TLS}: the key cert_file is missing",
                f"web.yml:1: {TLS}: the key key_file is missing",
            ],
        ),
        (
            f"{TLS}:\n  cert_file: [cert.pem]\n  key_file: missing.pem\n",
            [
                f"web.yml:2: {TLS}.cert_file: expected the name of a file, got a list",
                f"web.yml:3: {TLS}.key_file: expected a file that can be read, "
                "got missing.pem: No such file or directory",
            ],
        ),
        (
            PAIR + "  key: |\n    secret\n",
            [f"web.yml:4: {TLS}.key: give either key or key_file, not both"],
        ),
        (
            PAIR.replace("key.pem", "other-key.pem"),
            [f"web.yml:1: {TLS}: certificate and key cannot be used: KEY_VALUES_MISMATCH"],
        ),
        (
            PAIR + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: text.pem\n",
            [f"web.yml:1: {TLS}: client CA cannot be used: NO_CERTIFICATE_OR_CRL_FOUND"],
        ),
        (
            PAIR + "  client_auth_type: Always\n",
            [
                f"web.yml:4: {TLS}.client_auth_type: expected one of NoClientCert, "
                "VerifyClientCertIfGiven, RequireAndVerifyClientCert, got 'Always'"
            ],
        ),
        (
            PAIR + "  client_auth_type: RequireAnyClientCert\n  client_ca_file: ca.pem\n",
            [
                f"web.yml:4: {TLS}.client_auth_type: "
                "expected a type that verifies certificates, got 'RequireAnyClientCert'"
            ],
        ),
        (
            PAIR + "  client_auth_type: RequireAndVerifyClientCert\n",
            [
                f"web.yml:4: {TLS}.client_auth_type: "
                "certificates are verified against client_ca_file"
            ],
        ),
        (
            PAIR + "  client_ca_file: ca.pem\n",
            [f"web.yml:1: {TLS}: client_ca_file is of no use without client_auth_type"],
        ),
        (
            PAIR + "  client_allowed_sans: [a.example]\n",
            [
                f"web.yml:4: {TLS}.client_allowed_sans: "
                "needs client_auth_type RequireAndVerifyClientCert"
            ],
        ),
        (
            PAIR + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"
            "  client_allowed_sans: []\n",
            [
                f"web.yml:6: {TLS}.client_allowed_sans: "
                "expected a list of names, got none or an empty one"
            ],
        ),
        (
            PAIR + "  min_version: TLS10\n  max_version: '1.3'\n",
            [
                f"web.yml:4: {TLS}.min_version: expected one of TLS12, TLS13, got 'TLS10'",
                f"web.yml:5: {TLS}.max_version: expected one of TLS12, TLS13, got '1.3'",
            ],
        ),
        (
            PAIR + "  min_version: TLS13\n  max_version: TLS12\n",
            [
                f"web.yml:1: {TLS}: nothing is left between min_version, max_version "
                "and cipher_suites"
            ],
        ),
        (
            PAIR + "  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
            [
                f"web.yml:1: {TLS}: nothing is left between min_version, max_version "
                "and cipher_suites"
            ],
        ),
        (
            PAIR + "  curve_preferences: [X25519, CurveP256]\n",
            [
                f"web.yml:4: {TLS}.curve_preferences: "
                "expected one curve, since Python's ssl takes no more, got 2"
            ],
        ),
        (
            PAIR + "  curve_preferences: [secp256k1]\n",
            [
                f"web.yml:4: {TLS}.curve_preferences[0]: "
                "expected one of X25519, CurveP256, CurveP384, CurveP521, got 'secp256k1'"
            ],
        ),
        (
            PAIR + "  prefer_server_cipher_suites: perhaps\n",
            [
                f"web.yml:4: {TLS}.prefer_server_cipher_suites: "
                "expected one of true, false, got 'perhaps'"
            ],
        ),
        (
            "http_server_config:\n  http2: 2\n",
            ["web.yml:2: http_server_config.http2: expected one of true, false, got 2"],
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n    Server: x\n",
            [
                "web.yml:3: http_server_config.headers.X-Frame-Options: "
                "expected deny or sameorigin, got 'allow'",
                "web.yml:4: http_server_config.headers.Server: unknown key, expected "
                "Content-Security-Policy, X-Frame-Options, X-Content-Type-Options, "
                "X-XSS-Protection, Strict-Transport-Security",
            ],
        ),
        (
            'http_server_config:\n  headers:\n    X-XSS-Protection: "0\\r\\nSet-Cookie: a"\n',
            [
                "web.yml:3: http_server_config.headers.X-XSS-Protection: "
                "expected printable ASCII, got '0\\r\\nSet-Cookie: a'"
            ],
        ),
        (
            "basic_auth_users:\n  ada: hunter2\n  bob:\n",
            [
                "web.yml:2: basic_auth_users.ada: expected a bcrypt hash ($2y$...), "
                "got something else",
                "web.yml:3: basic_auth_users.bob: expected a bcrypt hash ($2y$...), "
                "got something else",
            ],
        ),
        (
            "basic_auth_users: ada:hunter2\n",
            ["web.yml:1: basic_auth_users: expected a mapping, got something else"],
        ),
        (
            f"basic_auth_users:\n  'ada:b': {HASH}\n",
            [
                "web.yml:2: basic_auth_users.ada:b: "
                "expected a user name without a colon, got 'ada:b'"
            ],
        ),
        (
            "rate_limit:\n  interval: 1s\n",
            ["web.yml:1: rate_limit: the key burst is missing"],
        ),
        (
            "rate_limit:\n  interval: 1d\n  burst: -1\n",
            ["web.yml:2: rate_limit.interval: expected a duration such as 100ms, or 0, got '1d'"],
        ),
    ],
)
def test_every_mistake_is_named_with_its_place(
    folder: Path, text: str, expected: list[str]
) -> None:
    assert problems(folder, text) == expected


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_web_config(folder / "none.yml")
    assert str(caught.value) == f"{folder}/none.yml: cannot read it: No such file or directory"


def test_a_reload_cannot_turn_tls_on_or_off(folder: Path) -> None:
    refused = [f"web.yml: {TLS}: HTTPS cannot be switched on or off without a restart"]
    assert problems(folder, PAIR, running=WebConfig()) == refused
    assert problems(folder, "", running=load(folder, PAIR)) == refused


def test_a_reload_may_change_everything_else(folder: Path) -> None:
    running = load(folder, PAIR)
    changed = load(folder, PAIR + f"  min_version: TLS13\nbasic_auth_users: {{a: {HASH}}}", running)
    assert changed.users


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_no_file_raises_anything_but_its_problems(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yml"
    file.write_bytes(
        content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    )
    with contextlib.suppress(ConfigError):
        load_web_config(file)
