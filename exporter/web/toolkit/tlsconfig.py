"""The `tls_server_config` of the web configuration file."""

import ssl
from pathlib import Path

from exporter.config.document import Table, Value
from exporter.config.files import check_file
from exporter.config.problems import Invalid
from exporter.config.readers import file as named_file
from exporter.web.toolkit.tls import TlsSettings, build_context
from exporter.web.toolkit.webreaders import boolean, choice, each, filled_in, text

_TLS_KEYS = (
    "cert_file",
    "cert",
    "key_file",
    "key",
    "client_auth_type",
    "client_ca_file",
    "client_ca",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
)
# OpenSSL 3 speaks nothing older.
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH_TYPES = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED_AUTH_TYPES = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_CURVES = {
    "X25519": "X25519",
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
}
# The suites of Go's crypto/tls.CipherSuites() by their OpenSSL names; TLS 1.3 has a fixed set.
_CIPHER_SUITES = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}


def tls_settings(section: Value) -> TlsSettings | None:
    """What the section says; None when it says nothing. The files are tried, too."""
    table = filled_in(section.table(*_TLS_KEYS))
    if not table.entries:
        return None
    problems = len(section.document.problems)
    certificate, key, client_ca = (_pem(table, name) for name in ("cert", "key", "client_ca"))
    for name in ("cert", "key"):
        if not table.entries.keys() & {name, f"{name}_file"}:
            section.note(f"the key {name}_file is missing")

    verify = table.read("client_auth_type", _client_auth_type, ssl.CERT_NONE)
    authorities = not table.entries.keys().isdisjoint({"client_ca", "client_ca_file"})
    if verify and not authorities:
        table.entries["client_auth_type"].note("certificates are verified against client_ca_file")
    if authorities and "client_auth_type" not in table.entries:
        section.note("client_ca_file is of no use without client_auth_type")
    if "client_allowed_sans" in table.entries and verify is not ssl.CERT_REQUIRED:
        table.entries["client_allowed_sans"].note(
            "needs client_auth_type RequireAndVerifyClientCert"
        )

    minimum = table.read("min_version", choice(_VERSIONS), ssl.TLSVersion.TLSv1_2)
    maximum = table.read("max_version", choice(_VERSIONS), ssl.TLSVersion.TLSv1_3)
    suites = table.read("cipher_suites", each(choice(_CIPHER_SUITES)), [])
    ciphers = tuple(filter(None, suites))
    if suites and not ciphers:
        # Without a suite for it, TLS 1.2 is not on offer.
        minimum = ssl.TLSVersion.TLSv1_3
    if minimum > maximum:
        section.note("nothing is left between min_version, max_version and cipher_suites")

    settings = TlsSettings(
        certificate=certificate or "",
        key=key or "",
        client_ca=client_ca,
        client_certificates=verify,
        allowed_sans=frozenset(table.read("client_allowed_sans", _names, [])),
        minimum=minimum,
        maximum=maximum,
        ciphers=ciphers,
        prefer_server_ciphers=table.read("prefer_server_cipher_suites", boolean, True),
        curve=table.read("curve_preferences", _curve, None),
    )
    if len(section.document.problems) == problems:
        try:
            build_context(settings)
        except OSError as exc:
            section.note(exc.strerror or str(exc))
    return settings


def _pem(table: Table, name: str) -> Path | str | None:
    if f"{name}_file" not in table.entries:
        return table.read(name, _hidden, None)
    if name in table.entries:
        table.entries[name].note(f"give either {name} or {name}_file, not both")
    return table.read(f"{name}_file", _readable_file, None)


def _readable_file(value: Value) -> Path:
    file = named_file(value)
    try:
        check_file(file)
    except OSError as exc:
        raise Invalid("expected a file that can be read", f"{file}: {exc.strerror}") from exc
    return file


def _client_auth_type(value: Value) -> ssl.VerifyMode:
    if value.raw in _UNVERIFIED_AUTH_TYPES:
        # Python's ssl verifies every certificate it asks for.
        raise Invalid("expected a type that verifies certificates")
    return choice(_CLIENT_AUTH_TYPES)(value)


def _names(value: Value) -> list[str]:
    names = each(text)(value)
    if not all(names) or not names:
        raise Invalid("expected a list of names", "none or an empty one")
    return names


def _curve(value: Value) -> str | None:
    curves = list(value.items())
    if len(curves) != 1:
        raise Invalid("expected one curve, since Python's ssl takes no more", str(len(curves)))
    return curves[0].read(choice(_CURVES), None)


def _hidden(value: Value) -> str:
    if not value.tagged("str"):
        raise Invalid("expected PEM text", "something else")
    return value.raw
