"""TLS for the listening socket: contexts from settings, renewed while connections are open."""

import contextlib
import ipaddress
import logging
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from exporter.config.files import check_file

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """What a server context is built from.

    A `Path` is a PEM file, read again when it changes; a `str` is PEM text itself.

    Attributes:
        certificate: the server's certificate chain.
        key: its private key, not encrypted.
        client_ca: who may sign client certificates.
        client_certificates: whether clients may (`CERT_OPTIONAL`) or must (`CERT_REQUIRED`) show
            one; what they show is always verified.
        allowed_sans: when not empty, a client certificate needs one of these alternative names.
        ciphers: OpenSSL names for TLS 1.2, preferred first; empty means OpenSSL's defaults.
        curve: OpenSSL name of the one curve for key exchange; None means OpenSSL's defaults.
    """

    certificate: Path | str
    key: Path | str = field(repr=False)
    client_ca: Path | str | None = None
    client_certificates: ssl.VerifyMode = ssl.CERT_NONE
    allowed_sans: frozenset[str] = frozenset()
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True
    curve: str | None = None


def build_context(settings: TlsSettings) -> ssl.SSLContext:
    """Raises OSError when a file cannot be read or used, without any of its content."""
    for file in (settings.certificate, settings.key, settings.client_ca):
        if isinstance(file, Path):
            check_file(file)  # OpenSSL waits for ever for the end of a pipe
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = settings.minimum
    context.maximum_version = settings.maximum
    with (
        _naming("certificate and key"),
        _as_file(settings.certificate) as certificate,
        _as_file(settings.key) as key,
    ):
        # Without an answer OpenSSL would ask the terminal for an encrypted key's password.
        context.load_cert_chain(certificate, key, password="")
    if settings.client_ca is not None:
        with _naming("client CA"), _as_file(settings.client_ca) as client_ca:
            context.load_verify_locations(client_ca)
    context.verify_mode = settings.client_certificates
    if settings.allowed_sans:
        context.sslobject_class = _checking(settings.allowed_sans)
    if settings.ciphers:
        with _naming("cipher suites"):
            context.set_ciphers(":".join(settings.ciphers))
    if settings.curve:
        context.set_ecdh_curve(settings.curve)
    if settings.prefer_server_ciphers:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


class RenewingContext(ssl.SSLContext):
    """A server context whose new connections use the settings and files of the moment.

    Open connections keep what they began with. A changed file that cannot be used is logged once
    and leaves the certificates in use. Changing one context in place would not do: OpenSSL can add
    a client CA to it but not take one away. Event loops make each connection with `wrap_bio`; the
    outer context holds no certificate, so one made any other way fails its handshake.
    """

    def __new__(cls, settings: TlsSettings) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, settings: TlsSettings) -> None:
        self.replace(settings)

    def replace(self, settings: TlsSettings) -> None:
        """Raises OSError, and changes nothing, when the settings cannot be used."""
        stamp = _stamp(settings)
        self._current = build_context(settings)
        self._settings = settings
        self._seen = stamp

    def adopt(self, other: "RenewingContext") -> None:
        """Use from now on what `other` uses."""
        self._current, self._settings, self._seen = other._current, other._settings, other._seen

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        self._renew()
        return self._current.wrap_bio(*args, **kwargs)

    def _renew(self) -> None:
        stamp = _stamp(self._settings)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._current = build_context(self._settings)
        except OSError as exc:
            log.warning("keeping the TLS certificates in use, the changed ones fail: %s", exc)


def _stamp(settings: TlsSettings) -> tuple[tuple[int, int, int] | None, ...]:
    """Changes whenever one of the files is written or replaced."""
    files = (settings.certificate, settings.key, settings.client_ca)
    return tuple(_file_stamp(file) for file in files if isinstance(file, Path))


def _file_stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@contextlib.contextmanager
def _naming(what: str) -> Iterator[None]:
    """OpenSSL's errors do not say which of the files they are about."""
    try:
        yield
    except ssl.SSLError as exc:
        raise ssl.SSLError(exc.errno, f"{what} cannot be used: {exc.reason or exc}") from exc


@contextlib.contextmanager
def _as_file(pem: Path | str) -> Iterator[Path]:
    """The ssl module takes certificates and keys only from files."""
    if isinstance(pem, Path):
        yield pem
        return
    with tempfile.TemporaryDirectory() as private:
        file = Path(private, "inline.pem")
        file.write_text(pem)
        yield file


def _checking(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    class CheckingConnection(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            names = self.getpeercert() or {}
            if allowed.isdisjoint(_alternative_names(names)):
                raise ssl.SSLCertVerificationError("client certificate has no allowed SAN")

    return CheckingConnection


def _alternative_names(certificate: dict[str, Any]) -> Iterator[str]:
    for kind, name in certificate.get("subjectAltName", ()):
        # OpenSSL writes IPv6 addresses out in full.
        yield str(ipaddress.ip_address(name)) if kind == "IP Address" else name
