"""OTLP over gRPC: the three collector services in front of the intake that HTTP has, too.

https://opentelemetry.io/docs/specs/otlp/#otlpgrpc. Its library is needed only where this is asked
for: `pip install llm-quota-exporter[grpc]`.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from exporter.intake import otlp, otlp_logs, otlp_metrics, otlp_traces
from exporter.intake.format import Client, Format, Push
from exporter.intake.outcome import Outcome, Status
from exporter.web.body import unpacked
from exporter.web.site import Site
from exporter.web.toolkit.auth import Decision
from exporter.web.toolkit.tls import TlsSettings

SERVICES: dict[str, Format] = {
    "opentelemetry.proto.collector.trace.v1.TraceService": otlp_traces.FORMAT,
    "opentelemetry.proto.collector.metrics.v1.MetricsService": otlp_metrics.FORMAT,
    "opentelemetry.proto.collector.logs.v1.LogsService": otlp_logs.FORMAT,
}

MAX_READING = 8
"""Messages received at the same time: the library counts none of their bytes until one is whole.
Others wait their turn, and all of it takes `limits.request_timeout` at most."""

_GZIP = b"\x1f\x8b"
"""How a packed message begins; an unpacked one begins with the tag of its first field."""


class GrpcServer:
    """Answers the three services under the present configuration of a site.

    Raises ValueError when it is made without the library, or with TLS settings that gRPC cannot
    keep.
    """

    def __init__(self, site: Site, tls: TlsSettings | None) -> None:
        try:
            import grpc
            import grpc.aio
        except ImportError as error:
            raise ValueError(
                "otlp.grpc-address: needs grpcio: pip install llm-quota-exporter[grpc]"
            ) from error
        self._grpc = grpc
        self._reading = asyncio.Semaphore(MAX_READING)
        self._site = site
        self._tls = tls
        self._server = grpc.aio.server(
            options=[
                # Messages arrive as they were sent: they are unpacked under our own bound, and
                # only of clients that may.
                ("grpc.per_message_decompression", 0),
                ("grpc.max_receive_message_length", site.body_bytes),
                ("grpc.so_reuseport", 0),
                # What a client may send before it is read: by itself it grows to megabytes.
                ("grpc.http2.bdp_probe", 0),
            ],
            maximum_concurrent_rpcs=site.connections,
        )
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    # A stream of one message is the same on the wire, and is read when we say so.
                    service,
                    {"Export": grpc.stream_unary_rpc_method_handler(self._export(service, form))},
                )
                for service, form in SERVICES.items()
            ]
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; the port, which is a free one for 0.

        Raises:
            OSError: the address is in use or not ours; the message names it.
        """
        shown = f"[{host or '::'}]" if ":" in (host or "::") else host
        address = f"{shown}:{port}"
        try:
            if self._tls is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, _credentials(self._grpc, self._tls))
        except RuntimeError as error:
            raise OSError(f"otlp.grpc-address: cannot listen on {address}") from error
        await self._server.start()
        return int(bound)

    async def stop(self, grace: float) -> None:
        """Take no more calls, and wait up to `grace` seconds for those that are open."""
        await self._server.stop(grace)

    def _export(self, service: str, form: Format) -> Callable[[Any, Any], Awaitable[bytes]]:
        route = f"/{service}/Export"

        async def export(messages: Any, context: Any) -> bytes:
            began, code = time.monotonic(), 500
            try:
                outcome = await self._push(form, context)
                code = _HTTP[outcome.status] if outcome.answer is None else 200
                if outcome.answer is not None:
                    return form.encoding.answer(outcome.answer, otlp.PROTOBUF)
                await self._abort(context, code, outcome.error)
            except HTTPException as error:
                code = error.status_code
                await self._abort(context, code, error.detail)
            finally:
                self._site.requests.of(route, code).observe(time.monotonic() - began)
            raise AssertionError("an aborted call goes no further")

        return export

    async def _push(self, form: Format, context: Any) -> Outcome:
        site, held = self._site, 0
        client = await self._client(context, form)

        def hold(size: int) -> None:
            nonlocal held
            if not site.outstanding.hold(size, held):
                raise HTTPException(429, "other requests hold too many bytes")
            held += size

        try:
            body = await self._read(context, hold)
            return await site.ingest.push(form, Push(body, otlp.PROTOBUF, client))
        except HTTPException as error:
            if error.status_code != 429:  # that one is to come again
                site.ingest.reject(form, client, 1, error.detail)
            raise
        finally:
            site.outstanding.release(held)

    async def _client(self, context: Any, form: Format) -> Client:
        """Who calls, once it is granted that it may.

        Raises:
            HTTPException: it may not, or not now.
        """
        site = self._site
        if self._tls is not None and self._tls.allowed_sans:
            names = context.auth_context().get("x509_subject_alternative_name", ())
            if self._tls.allowed_sans.isdisjoint(name.decode("latin-1") for name in names):
                raise HTTPException(401, "client certificate has no allowed SAN")
        if not site.within_rate():
            raise HTTPException(429, "too many requests")
        given = [value for name, value in context.invocation_metadata() if name == "authorization"]
        if len(given) > 1:
            raise HTTPException(400, f"authorization: expected one, got {len(given)}")
        authorization = given[0].encode() if given else None
        decision = site.authoriser.allowed(authorization, form.right)
        if decision is Decision.UNVERIFIED and authorization is not None:
            decision = await site.authoriser.verify(authorization, form.right)
        if decision is Decision.UNAUTHENTICATED:
            raise HTTPException(401, "a credential with the right to do this is needed")
        if decision is Decision.FORBIDDEN:
            raise HTTPException(403, "this credential does not have the right to do this")
        if decision is not Decision.GRANTED:
            raise HTTPException(429, "too many passwords are waiting to be checked")
        return site.client(_address(context.peer()), authorization)

    async def _read(self, context: Any, hold: Callable[[int], object]) -> bytes:
        limit = self._site.body_bytes
        try:
            async with asyncio.timeout(self._site.request_timeout), self._reading:
                message = await context.read()
                if message is not self._grpc.aio.EOF:
                    hold(len(message))
        except TimeoutError as error:
            raise HTTPException(408, "expected a message sooner") from error
        if message is self._grpc.aio.EOF:
            raise HTTPException(400, "expected a message, got none")
        if len(message) > limit:
            raise HTTPException(413, f"body: expected at most {limit} bytes, got more")
        if not message.startswith(_GZIP):
            return bytes(message)
        return await unpacked(bytearray(message), limit, hold)

    async def _abort(self, context: Any, code: int, error: str) -> None:
        """End a call. What is to come again is UNAVAILABLE: exporters retry that, and
        RESOURCE_EXHAUSTED only with a time in it."""
        status = {
            400: self._grpc.StatusCode.INVALID_ARGUMENT,
            401: self._grpc.StatusCode.UNAUTHENTICATED,
            403: self._grpc.StatusCode.PERMISSION_DENIED,
            408: self._grpc.StatusCode.DEADLINE_EXCEEDED,
            413: self._grpc.StatusCode.RESOURCE_EXHAUSTED,
        }.get(code, self._grpc.StatusCode.UNAVAILABLE)
        await context.abort(status, error)


_HTTP = {
    Status.STORED: 200,
    Status.MALFORMED: 400,
    Status.OVERLOADED: 429,
    Status.UNAVAILABLE: 503,
}


def _credentials(grpc: Any, tls: TlsSettings) -> Any:
    """Server credentials that are read anew when a file changes.

    Raises:
        ValueError: the settings ask for what gRPC has no way to do.
        OSError: a file cannot be read.
    """
    if tls.minimum > ssl.TLSVersion.TLSv1_2 or tls.ciphers or tls.curve:
        raise ValueError(
            "otlp.grpc-address: expected no min_version above TLS12, cipher_suites or "
            "curve_preferences in tls_server_config, which gRPC cannot keep"
        )
    if tls.client_certificates is ssl.CERT_OPTIONAL:
        raise ValueError(
            "otlp.grpc-address: expected client_auth_type RequireAndVerifyClientCert or none, "
            "gRPC has nothing between"
        )

    def configuration() -> Any:
        pairs = [(_pem(tls.key), _pem(tls.certificate))]
        authority = None if tls.client_ca is None else _pem(tls.client_ca)
        return grpc.ssl_server_certificate_configuration(pairs, root_certificates=authority)

    seen = [_stamps(tls)]

    def renewed() -> Any:
        stamps = _stamps(tls)
        if stamps == seen[0]:
            return None
        try:
            found = configuration()
        except OSError:
            return None  # those in use stay, as with HTTP
        seen[0] = stamps
        return found

    required = tls.client_certificates is ssl.CERT_REQUIRED
    return grpc.dynamic_ssl_server_credentials(configuration(), renewed, required)


def _pem(source: Path | str) -> bytes:
    return source.read_bytes() if isinstance(source, Path) else source.encode()


def _stamps(tls: TlsSettings) -> tuple[float, ...]:
    files = (tls.certificate, tls.key, tls.client_ca)
    try:
        return tuple(file.stat().st_mtime_ns for file in files if isinstance(file, Path))
    except OSError:
        return ()


def _address(peer: str) -> str:
    """The IP address in `ipv4:127.0.0.1:1234` or `ipv6:[::1]:1234`, whose brackets are escaped."""
    host = peer.partition(":")[2].rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")
