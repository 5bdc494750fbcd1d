"""The worst that a client can do with default limits: memory, and the longest answer to others.

    python -m tests.benchmarks.attacks [--seconds 10] [NAME…]

Each attack runs for so long against an exporter of its own on SQLite, with default limits and
without credentials. A process beside it asks for `/-/healthy` all the time. Exit 1 when an
exporter had more than BOUND bytes resident at any time, did not answer, or logged a traceback.
"""

import argparse
import asyncio
import contextlib
import gzip
import itertools
import json
import multiprocessing
import random
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import cramjam
import httpx
import trustme
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.benchmarks import processes, report

MIB = 1 << 20
BOUND = 1024 * MIB
"""Bytes resident that docs/security.md promises not to exceed with default limits."""

SLOWEST = 5.0
"""Seconds within which `/-/healthy` is answered on an idle machine, whatever happens."""

BODY = 10 * MIB
"""`limits.body_bytes`"""

CONNECTIONS = 1000
"""`limits.connections`"""

_CONFIG = (
    "budgets: {openai: 1_000_000, anthropic: [{usd: 50, per: model}, {tokens: 5, period: 5h}]}\n"
)


class Target:
    """The exporter under attack.

    Attributes:
        port: where it listens.
        until: event-loop time at which the attack ends.
        did: how many of its pieces the attack came through with.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.until = asyncio.get_running_loop().time() + seconds
        self.did = 0

    @property
    def goes_on(self) -> bool:
        """Whether there is time left."""
        return asyncio.get_running_loop().time() < self.until

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection that nobody reads from but its user."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=4096)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def post(
        self, path: str, body: bytes, clients: int = 8, **headers: str | Callable[[], str]
    ) -> None:
        """Post the same body again and again, from so many clients at once."""
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False
        ) as http:

            async def one() -> None:
                while self.goes_on:
                    sent = {
                        name.replace("_", "-"): value if isinstance(value, str) else value()
                        for name, value in {"content_type": "application/json", **headers}.items()
                    }
                    with contextlib.suppress(httpx.TransportError):
                        await http.post(path, content=body, headers=sent)
                        self.did += 1

            await asyncio.gather(*[one() for _ in range(clients)])

    async def each(self, count: int, work: Callable[[int], Awaitable[None]]) -> None:
        """Do `work` so many times at once, again and again; lost connections are no matter."""

        async def one(number: int) -> None:
            while self.goes_on:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await work(number)
                    self.did += 1
                await asyncio.sleep(0.01)

        await asyncio.gather(*[one(number) for number in range(count)])


Attack = Callable[[Target], Awaitable[None]]


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def push(body: bytes, path: str = "/v1/usage") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def packed(body: bytes) -> bytes:
    return gzip.compress(body, 9)


EVENT = b'{"provider":"openai","tokens":1}'


def filled(item: bytes, size: int = BODY - 1000) -> bytes:
    """An array of the item as large as may be."""
    return b"[" + b",".join([item] * (size // (len(item) + 1))) + b"]"


# -- connections --


def pipelined(request: bytes) -> Attack:
    """Requests whose answers are never read."""

    async def attack(target: Target) -> None:
        data = request * (MIB // len(request))

        async def flood(number: int) -> None:
            async with target.connection() as (_, writer):
                while target.goes_on and not writer.transport.is_closing():
                    writer.write(data)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(writer.drain(), 5)

        await target.each(200, flood)

    return attack


async def idle(target: Target) -> None:
    """Connections that say nothing."""

    async def silent(number: int) -> None:
        async with target.connection() as (reader, _):
            await asyncio.wait_for(reader.read(1), max(0.1, target.until - loop.time()))

    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        await target.each(2 * CONNECTIONS, silent)


async def slow_bodies(target: Target) -> None:
    """Bodies of which most comes at once, and the rest a byte at a time."""
    head = f"POST /v1/usage HTTP/1.1\r\nContent-Length: {BODY}\r\n\r\n".encode()

    async def slow(number: int) -> None:
        async with target.connection() as (_, writer):
            writer.write(head + b" " * (MIB if number % 2 else 200_000))
            while target.goes_on and not writer.transport.is_closing():
                writer.write(b" ")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(writer.drain(), 1)
                await asyncio.sleep(0.5)

    await target.each(900, slow)


async def slow_chunks(target: Target) -> None:
    """Bodies in chunks of a byte, each with a long extension."""
    head = b"POST /v1/usage HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def slow(number: int) -> None:
        async with target.connection() as (_, writer):
            writer.write(head)
            while target.goes_on and not writer.transport.is_closing():
                writer.write((b"1;" + b"x" * 1000 + b"\r\n \r\n") * 50)
                await asyncio.wait_for(writer.drain(), 60)

    await target.each(100, slow)


async def tiny_chunks(target: Target) -> None:
    """Bodies in chunks of a byte."""

    async def send(number: int) -> None:
        async with target.connection() as (_, writer):
            writer.write(b"POST /v1/usage HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            while target.goes_on and not writer.transport.is_closing():
                writer.write(b"1\r\n \r\n" * 20_000)
                await asyncio.wait_for(writer.drain(), 60)

    await target.each(100, send)


async def expectations(target: Target) -> None:
    """Requests that ask before they send, and then do not."""
    head = b"POST /v1/usage HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n"

    async def ask(number: int) -> None:
        async with target.connection() as (reader, writer):
            writer.write(head)
            await reader.readuntil(b"\r\n")

    await target.each(500, ask)


async def long_heads(target: Target) -> None:
    """Heads as long as they may be, a piece at a time."""

    async def head(number: int) -> None:
        async with target.connection() as (_, writer):
            writer.write(b"GET /metrics HTTP/1.1\r\n")
            for line in range(60):
                writer.write(b"x-%d: " % line + b"y" * 1000 + b"\r\n")
                await writer.drain()
            await asyncio.sleep(1)

    await target.each(900, head)


async def no_tls(target: Target) -> None:
    """Connections that never begin TLS: see `tls`."""
    await idle(target)


def slow_readers(path: str, names: bool) -> Attack:
    """Many that ask for something large, and take it slowly."""

    async def attack(target: Target) -> None:
        if names:
            await junk_names(target, 5.0)

        async def read(number: int) -> None:
            async with target.connection() as (reader, writer):
                writer.write(get(path) * 20)
                while target.goes_on and await reader.read(64):
                    await asyncio.sleep(0.2)

        await target.each(300, read)

    return attack


# -- bodies --


def bombs(path: str, item: bytes, clients: int = 16) -> Attack:
    """Small bodies that unpack to as much as they may."""
    body = packed(filled(item))

    async def attack(target: Target) -> None:
        await target.post(path, body, clients, content_encoding="gzip")

    return attack


def plain(path: str, body: bytes, clients: int = 8) -> Attack:
    """Large bodies as they are."""

    async def attack(target: Target) -> None:
        await target.post(path, body, clients)

    return attack


async def keyed_rejections(target: Target) -> None:
    """A new Idempotency-Key each time, for a hundred thousand rejections."""
    numbers = itertools.count()
    body = packed(filled(b"1", 199_000))
    key = lambda: f"key-{next(numbers)}-{'k' * 200}"  # noqa: E731 - named where it is used
    await target.post("/v1/usage", body, 8, content_encoding="gzip", idempotency_key=key)


async def keys_and_ids(target: Target) -> None:
    """A new Idempotency-Key and new ids each time."""
    loop, numbers = asyncio.get_running_loop(), itertools.count()

    async def many(number: int) -> None:
        async with target.connection() as (reader, writer):
            while target.goes_on:
                events = b"\n".join(
                    b'{"provider":"openai","tokens":1,"id":"%d"}' % next(numbers)
                    for _ in range(1000)
                )
                head = b"POST /v1/usage HTTP/1.1\r\nContent-Type: application/json\r\n"
                head += b"Idempotency-Key: %d\r\n" % next(numbers)
                writer.write(head + b"Content-Length: %d\r\n\r\n" % len(events) + events)
                await reader.read(4096)
                target.did += 1

    assert loop
    await target.each(8, many)


async def junk_names(target: Target, seconds: float = 0.0) -> None:
    """Names that nobody has heard of: providers, models and consumers."""
    numbers = itertools.count()
    until = asyncio.get_running_loop().time() + seconds if seconds else target.until

    async def one(number: int) -> None:
        async with target.connection() as (reader, writer):
            while asyncio.get_running_loop().time() < until:
                lines = []
                for n in (next(numbers) for _ in range(2000)):
                    name = f"{n}-{'x' * 100}"
                    lines.append(
                        json.dumps(
                            {
                                "provider": name if n % 3 == 0 else "openai",
                                "model": name if n % 3 == 1 else f"model-{n % 90}",
                                "consumer": name if n % 3 == 2 else f"team-{n % 90}",
                                "tokens": 1,
                            }
                        )
                    )
                writer.write(push("\n".join(lines).encode()))
                await reader.read(4096)
                target.did += 1

    await asyncio.gather(*[one(number) for number in range(4)])


async def junk_signals(target: Target) -> None:
    """Refusals of providers, models and consumers that nobody has heard of."""
    numbers = itertools.count()

    async def one(number: int) -> None:
        async with target.connection() as (reader, writer):
            while target.goes_on:
                told = []
                for n in (next(numbers) for _ in range(300)):
                    headers = {
                        "retry-after": "86400",
                        **{f"x-ratelimit-limit-{n}-{at}": "5" for at in range(20)},
                        **{f"x-ratelimit-remaining-{n}-{at}": "0" for at in range(20)},
                    }
                    told.append(
                        json.dumps(
                            {
                                "provider": f"p{n}" if n % 2 else "openai",
                                "model": f"m{n}",
                                "status": 429,
                                "headers": headers,
                                "body": '{"error":{"code":"insufficient_quota"}}',
                            }
                        )
                    )
                writer.write(push("\n".join(told).encode(), "/v1/signals"))
                await reader.read(4096)
                target.did += 1

    await target.each(4, one)


async def states(target: Target) -> None:
    """An operator's word about ever new providers, models and consumers."""
    numbers = itertools.count()

    async def one(number: int) -> None:
        async with target.connection() as (reader, writer):
            while target.goes_on:
                n = next(numbers)
                wish = {"state": "quota_exhausted", "retry_after": "30d", "reason": "x" * 200}
                wish |= {"model": f"m{n}", "consumer": f"c{n}"} if n % 2 else {}
                body = json.dumps(wish)
                writer.write(
                    f"PUT /v1/providers/p{n % 20_000}/state HTTP/1.1\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                await reader.read(65536)
                target.did += 1

    await target.each(50, one)


def attributes(count: int) -> list[dict[str, object]]:
    return [{"key": f"a{n}", "value": {"stringValue": "v" * 20}} for n in range(count)]


def otlp_metrics() -> bytes:
    """As many data points as fit, each a stream of its own."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add()
    metric.name = "gen_ai.client.token.usage"
    metric.histogram.aggregation_temporality = 2
    size = 0
    for number in itertools.count():
        point = metric.histogram.data_points.add()
        point.count, point.sum = 1, 5
        point.time_unix_nano = time.time_ns()
        for key, value in (
            ("gen_ai.system", "openai"),
            ("gen_ai.token.type", "input"),
            ("gen_ai.request.model", f"m{number}"),
        ):
            attribute = point.attributes.add()
            attribute.key, attribute.value.string_value = key, value
        size += point.ByteSize() + 4
        if size > BODY - 100_000:
            return request.SerializeToString()
    raise AssertionError


def otlp_empty() -> bytes:
    """As many empty resources as fit: the smallest message that makes the largest object."""
    return b"\x0a\x00" * (BODY // 2 - 10)


def otlp_deep() -> bytes:
    """A value within a value, as deep as protobuf goes."""
    value = AnyValue(string_value="x")
    for _ in range(48):
        outer = AnyValue()
        outer.array_value.values.add().CopyFrom(value)
        value = outer
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    while request.ByteSize() < BODY // 2:
        for _ in range(500):
            attribute = spans.add().attributes.add()
            attribute.key = "gen_ai.system"
            attribute.value.CopyFrom(value)
    return request.SerializeToString()


def protobuf(path: str, make: Callable[[], bytes], clients: int = 8, bomb: bool = True) -> Attack:
    """The same message again and again."""
    message = make()
    body, encoding = (packed(message), "gzip") if bomb else (message, "identity")
    kind = "application/x-protobuf"

    async def attack(target: Target) -> None:
        await target.post(path, body, clients, content_type=kind, content_encoding=encoding)

    return attack


def remote_write() -> bytes:
    """Series with as many labels as fit."""

    def field(number: int, body: bytes) -> bytes:
        size, length = len(body), b""
        while size > 127:
            length += bytes([size & 127 | 128])
            size >>= 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + body

    label = field(1, field(1, b"a") + field(2, b"b"))
    name = field(1, field(1, b"__name__") + field(2, b"litellm_total_tokens_metric_total"))
    sample = field(2, b"\x09" + struct.pack("<d", 5.0) + b"\x10\x01")
    many = field(1, name + label * 100_000 + sample)
    few = field(1, name + label + sample)
    return (many * 4 + few * ((BODY - 5 * len(many)) // len(few)))[: BODY - 1000]


def snappy(path: str, make: Callable[[], bytes]) -> Attack:
    body = bytes(cramjam.snappy.compress_raw(make()))

    async def attack(target: Target) -> None:
        kind = "application/x-protobuf"
        await target.post(path, body, 8, content_type=kind, content_encoding="snappy")

    return attack


def questions(path: str) -> Attack:
    """Many that ask for something that takes work, of an exporter that knows many names."""

    async def attack(target: Target) -> None:
        await junk_names(target, 5.0)

        async def ask(number: int) -> None:
            async with target.connection() as (reader, writer):
                writer.write(get(path))
                while target.goes_on and await reader.read(1 << 20):
                    pass

        await target.each(100, ask)

    return attack


async def watchers(target: Target) -> None:
    """Readers of the stream of changes that do not read, while everything changes."""

    async def watch(number: int) -> None:
        async with target.connection() as (_, writer):
            writer.write(get("/v1/watch"))
            while target.goes_on and not writer.transport.is_closing():
                await asyncio.sleep(0.5)

    await asyncio.gather(target.each(800, watch), states(target))


DEEP = b'{"provider":"a","usage":' + b'{"a":' * 1_000_000
ATTACKS: dict[str, Callable[[], Attack]] = {
    "pipelined pages": lambda: pipelined(get("/")),
    "pipelined metrics": lambda: pipelined(get("/metrics")),
    "pipelined lookups": lambda: pipelined(get("/v1/availability")),
    "pipelined pushes": lambda: pipelined(push(EVENT)),
    "pipelined large pushes": lambda: pipelined(push(filled(EVENT, 250_000))),
    "idle": lambda: idle,
    "TLS never begun": lambda: no_tls,
    "slow bodies": lambda: slow_bodies,
    "slow chunks": lambda: slow_chunks,
    "tiny chunks": lambda: tiny_chunks,
    "expectations": lambda: expectations,
    "long heads": lambda: long_heads,
    "bombs of events": lambda: bombs("/v1/usage", EVENT),
    "bombs of rejections": lambda: bombs("/v1/usage", b"1"),
    "bombs of small lists": lambda: bombs("/v1/usage", b"[]"),
    "bombs of signals": lambda: bombs(
        "/v1/signals", b'{"provider":"a","status":429,"headers":{"retry-after":"9"}}'
    ),
    "bombs of callbacks": lambda: bombs(
        "/v1/litellm", b'{"custom_llm_provider":"openai","total_tokens":1,"metadata":{}}'
    ),
    "usage": lambda: plain("/v1/usage", filled(EVENT)),
    "usage objects": lambda: plain(
        "/v1/usage", filled(b'{"provider":"a","usage":{"prompt_tokens":1,"x":[{},{},{}]}}')
    ),
    "long strings": lambda: plain(
        "/v1/usage", filled(b'{"provider":"a","tokens":1,"model":"' + b"\\u0041" * 50_000 + b'"}')
    ),
    "deep JSON": lambda: plain("/v1/usage", DEEP),
    "keyed rejections": lambda: keyed_rejections,
    "keys and ids": lambda: keys_and_ids,
    "junk names": lambda: junk_names,
    "junk signals": lambda: junk_signals,
    "states": lambda: states,
    "OTLP metrics": lambda: protobuf("/v1/metrics", otlp_metrics),
    "OTLP empty": lambda: protobuf("/v1/metrics", otlp_empty),
    "OTLP empty traces": lambda: protobuf("/v1/traces", otlp_empty),
    "OTLP deep": lambda: protobuf("/v1/traces", otlp_deep),
    "OTLP as JSON": lambda: bombs("/v1/traces", b'{"resourceSpans":[{"scopeSpans":[{}]}]}', 8),
    "remote write": lambda: snappy("/api/v1/write", remote_write),
    "many scrapes": lambda: questions("/metrics"),
    "many questions": lambda: questions("/v1/providers"),
    "slow readers": lambda: slow_readers("/v1/providers", names=True),
    "slow scrapes": lambda: slow_readers("/metrics", names=True),
    "watchers": lambda: watchers,
}


# -- what others see meanwhile --


def probe(url: str, told: Connection) -> None:
    """Ask for `/-/healthy` on a new connection each time until told to end; the longest time."""
    longest, failed = 0.0, 0
    while not told.poll(0.02):
        began = time.monotonic()
        try:
            httpx.get(url + "/-/healthy", timeout=60, trust_env=False, verify=False)
        except httpx.TransportError:
            failed += 1
        longest = max(longest, time.monotonic() - began)
    told.send((longest, failed))


def peak(pid: int) -> int:
    """The most bytes that a process had resident."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def attacked(name: str, seconds: float, folder: Path) -> tuple[list[str], list[str]]:
    """Run one attack; its row of the table, and what was missed."""
    attack = ATTACKS[name]()
    options = ["--log.level", "error"]
    if "TLS" in name:
        issued = trustme.CA().issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        (folder / "web.yml").write_text(
            "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n"
        )
        options += ["--web.config.file", str(folder / "web.yml")]
    target = processes.exporter(folder, _CONFIG, *options, tls="TLS" in name)
    with target:
        here, there = multiprocessing.Pipe()
        prober = multiprocessing.Process(target=probe, args=(target.url, there))
        prober.start()

        async def run() -> int:
            aim = Target(target.port, seconds)
            with contextlib.suppress(TimeoutError):  # some wait for answers that do not come
                await asyncio.wait_for(attack(aim), seconds + 60)
            return aim.did

        did = asyncio.run(run())
        here.send(None)
        longest, failed = here.recv()
        prober.join()
        most, left = peak(target.pid), target.resident_bytes()
        log = target.log()  # at its end it says which requests it does not wait for any longer
        ended = target.stop()
    missed = []
    if most > BOUND:
        missed.append(f"{name}: {most / MIB:.0f} MiB resident")
    if longest > SLOWEST:
        missed.append(f"{name}: /-/healthy took {longest:.1f} s")
    if ended != 0 or "Traceback" in log:
        missed.append(f"{name}: ended with {ended}, and said {log[-2000:]}")
    row = [name, f"{did:,}", f"{most / MIB:.0f}", f"{left / MIB:.0f}", f"{longest:.2f}"]
    return [*row, str(failed)], missed


def main() -> None:
    """Attack, and show what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(ATTACKS)}")
    options = parser.parse_args()
    random.seed(1)
    print(report.machine(), flush=True)
    rows, missed = [], list[str]()
    for name in options.names or ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            row, problems = attacked(name, options.seconds, Path(folder))
        print(" | ".join(row), flush=True)
        rows.append(row)
        missed += problems
    head = ("attack", "came through", "peak MiB", "after it MiB", "longest /-/healthy s", "failed")
    report.table(head, rows)
    report.finish(missed)


if __name__ == "__main__":
    main()
