"""TLS as clients meet it: a real server, real certificates, the ssl module as client."""

import http.client
import logging
import os
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
import uvicorn
from cryptography.hazmat.primitives import serialization

from exporter.web.toolkit.tls import RenewingContext, TlsSettings


async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


@contextmanager
def serving(context: RenewingContext, loop: str = "uvloop") -> Iterator[int]:
    """The port of a server with this context."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        loop=loop,
        lifespan="off",
        log_config=None,
        ssl_context_factory=lambda config, default: context,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server ended before it started to serve"
        time.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


def write_certificate(ca: trustme.CA, folder: Path) -> TlsSettings:
    """Files replaced as a whole, as certificate managers do it."""
    issued = ca.issue_cert("localhost")
    for name, pem in [("cert.pem", issued.cert_chain_pems[0]), ("key.pem", issued.private_key_pem)]:
        pem.write_to_path(folder / f"{name}.new")
        os.replace(folder / f"{name}.new", folder / name)
    return TlsSettings(folder / "cert.pem", folder / "key.pem")


def client(ca: trustme.CA, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


def get(port: int, context: ssl.SSLContext) -> tuple[bytes, str, str]:
    """The answer, the TLS version and the cipher it came by. Raises OSError when refused."""
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
    try:
        connection.request("GET", "/")
        version, cipher = connection.sock.version(), connection.sock.cipher()[0]
        return connection.getresponse().read(), version, cipher
    finally:
        connection.close()


def refused(port: int, context: ssl.SSLContext) -> bool:
    try:
        get(port, context)
    except (OSError, http.client.HTTPException):
        return True
    return False


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def settings(ca: trustme.CA, tmp_path: Path) -> TlsSettings:
    return write_certificate(ca, tmp_path)


@pytest.fixture
def client_ca(tmp_path: Path) -> trustme.CA:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "client-ca.pem")
    return authority


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_client_that_trusts_the_authority_is_served(
    ca: trustme.CA, settings: TlsSettings, loop: str
) -> None:
    with serving(RenewingContext(settings), loop) as port:
        assert get(port, client(ca))[0] == b"served"
        assert refused(port, client(trustme.CA()))


def test_certificates_may_be_given_as_text(ca: trustme.CA, settings: TlsSettings) -> None:
    assert isinstance(settings.certificate, Path)
    assert isinstance(settings.key, Path)
    inline = TlsSettings(settings.certificate.read_text(), settings.key.read_text())
    with serving(RenewingContext(inline)) as port:
        assert get(port, client(ca))[0] == b"served"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_required_client_certificate_is_verified(
    ca: trustme.CA, client_ca: trustme.CA, settings: TlsSettings, tmp_path: Path, loop: str
) -> None:
    mutual = replace(
        settings, client_ca=tmp_path / "client-ca.pem", client_certificates=ssl.CERT_REQUIRED
    )
    with serving(RenewingContext(mutual), loop) as port:
        assert get(port, client(ca, client_ca.issue_cert("pusher")))[0] == b"served"
        assert refused(port, client(ca))
        assert refused(port, client(ca, trustme.CA().issue_cert("pusher")))


def test_an_optional_client_certificate_is_verified_when_given(
    ca: trustme.CA, client_ca: trustme.CA, settings: TlsSettings, tmp_path: Path
) -> None:
    optional = replace(
        settings, client_ca=tmp_path / "client-ca.pem", client_certificates=ssl.CERT_OPTIONAL
    )
    with serving(RenewingContext(optional)) as port:
        assert get(port, client(ca))[0] == b"served"
        assert get(port, client(ca, client_ca.issue_cert("pusher")))[0] == b"served"
        assert refused(port, client(ca, trustme.CA().issue_cert("pusher")))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_only_allowed_alternative_names_get_in(
    ca: trustme.CA,
    client_ca: trustme.CA,
    settings: TlsSettings,
    tmp_path: Path,
    loop: str,
    version: ssl.TLSVersion,
) -> None:
    named = replace(
        settings,
        client_ca=tmp_path / "client-ca.pem",
        client_certificates=ssl.CERT_REQUIRED,
        allowed_sans=frozenset({"pusher.example", "2001:db8::1", "ada@example.org"}),
        maximum=version,
    )
    with serving(RenewingContext(named), loop) as port:
        for name in ("pusher.example", "2001:db8::1", "ada@example.org"):
            certificate = client_ca.issue_cert("other.example", name)
            assert get(port, client(ca, certificate))[0] == b"served"
        assert refused(port, client(ca, client_ca.issue_cert("other.example")))
        assert refused(port, client(ca, client_ca.issue_cert("sub.pusher.example")))


@pytest.mark.parametrize(
    ("minimum", "maximum", "offered", "served"),
    [
        ("TLSv1_2", "TLSv1_3", "TLSv1_2", "TLSv1.2"),
        ("TLSv1_2", "TLSv1_3", "TLSv1_3", "TLSv1.3"),
        ("TLSv1_3", "TLSv1_3", "TLSv1_2", None),
        ("TLSv1_2", "TLSv1_2", "TLSv1_3", None),
    ],
)
def test_versions_outside_the_range_are_refused(
    ca: trustme.CA,
    settings: TlsSettings,
    minimum: str,
    maximum: str,
    offered: str,
    served: str | None,
) -> None:
    bounded = replace(settings, minimum=ssl.TLSVersion[minimum], maximum=ssl.TLSVersion[maximum])
    context = client(ca)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[offered]
    with serving(RenewingContext(bounded)) as port:
        if served is None:
            assert refused(port, context)
        else:
            assert get(port, context)[1] == served


@pytest.mark.parametrize(
    ("prefer_server", "chosen"),
    [(True, "ECDHE-ECDSA-AES256-GCM-SHA384"), (False, "ECDHE-ECDSA-AES128-GCM-SHA256")],
)
def test_the_cipher_is_the_servers_or_the_clients_choice(
    ca: trustme.CA, settings: TlsSettings, prefer_server: bool, chosen: str
) -> None:
    ordered = replace(
        settings,
        maximum=ssl.TLSVersion.TLSv1_2,
        ciphers=("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        prefer_server_ciphers=prefer_server,
    )
    context = client(ca)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    with serving(RenewingContext(ordered)) as port:
        assert get(port, context)[2] == chosen
        context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
        assert refused(port, context)


def test_only_the_chosen_curve_is_spoken(ca: trustme.CA, settings: TlsSettings) -> None:
    context = client(ca)
    with serving(RenewingContext(replace(settings, curve="secp384r1"))) as port:
        context.set_ecdh_curve("secp384r1")
        assert get(port, context)[0] == b"served"
        context.set_ecdh_curve("X25519")
        assert refused(port, context)


def test_a_renewed_certificate_is_used_for_the_next_connection(
    ca: trustme.CA, settings: TlsSettings, tmp_path: Path
) -> None:
    with serving(RenewingContext(settings)) as port:
        assert get(port, client(ca))[0] == b"served"
        new_ca = trustme.CA()
        write_certificate(new_ca, tmp_path)
        assert get(port, client(new_ca))[0] == b"served"
        assert refused(port, client(ca))


def test_a_broken_renewal_keeps_the_certificate_in_use_and_is_logged_once(
    ca: trustme.CA, settings: TlsSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(RenewingContext(settings)) as port, caplog.at_level(logging.WARNING):
        (tmp_path / "cert.pem").write_text("half a certif")
        for _ in range(3):
            assert get(port, client(ca))[0] == b"served"
        assert [record.message.split(":")[0] for record in caplog.records] == [
            "keeping the TLS certificates in use, the changed ones fail"
        ]
        (tmp_path / "cert.pem").unlink()
        assert get(port, client(ca))[0] == b"served"
        new_ca = trustme.CA()
        write_certificate(new_ca, tmp_path)
        assert get(port, client(new_ca))[0] == b"served"


def test_a_removed_client_authority_is_no_longer_trusted(
    ca: trustme.CA, client_ca: trustme.CA, settings: TlsSettings, tmp_path: Path
) -> None:
    mutual = replace(
        settings, client_ca=tmp_path / "client-ca.pem", client_certificates=ssl.CERT_REQUIRED
    )
    old = client(ca, client_ca.issue_cert("pusher"))
    with serving(RenewingContext(mutual)) as port:
        assert get(port, old)[0] == b"served"
        new_ca = trustme.CA()
        new_ca.cert_pem.write_to_path(tmp_path / "client-ca.pem")
        assert refused(port, old)
        assert get(port, client(ca, new_ca.issue_cert("pusher")))[0] == b"served"


def test_replaced_settings_hold_for_the_next_connection(
    ca: trustme.CA, client_ca: trustme.CA, settings: TlsSettings, tmp_path: Path
) -> None:
    context = RenewingContext(settings)
    with serving(context) as port:
        assert get(port, client(ca))[0] == b"served"
        context.replace(
            replace(
                settings,
                client_ca=tmp_path / "client-ca.pem",
                client_certificates=ssl.CERT_REQUIRED,
                minimum=ssl.TLSVersion.TLSv1_3,
            )
        )
        assert refused(port, client(ca))
        trusted = client(ca, client_ca.issue_cert("pusher"))
        assert get(port, trusted)[0] == b"served"
        trusted.maximum_version = ssl.TLSVersion.TLSv1_2
        assert refused(port, trusted)


def test_settings_that_cannot_be_used_change_nothing(
    ca: trustme.CA, settings: TlsSettings, tmp_path: Path
) -> None:
    context = RenewingContext(settings)
    with serving(context) as port:
        with pytest.raises(FileNotFoundError):
            context.replace(replace(settings, certificate=tmp_path / "missing.pem"))
        assert get(port, client(ca))[0] == b"served"


def test_an_encrypted_key_is_an_error_instead_of_a_question_on_the_terminal(
    ca: trustme.CA, tmp_path: Path
) -> None:
    issued = ca.issue_cert("localhost")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    (tmp_path / "key.pem").write_bytes(encrypted)
    with pytest.raises(ssl.SSLError):
        RenewingContext(
            TlsSettings(issued.cert_chain_pems[0].bytes().decode(), tmp_path / "key.pem")
        )


def test_the_key_does_not_show_in_the_representation() -> None:
    assert "secret key" not in repr(TlsSettings("certificate", "secret key"))
