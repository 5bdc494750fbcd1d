"""Pushes, or questions, at a steady rate, and how long each took from the moment it was due.

    python -m tests.benchmarks.paced HOST:PORT RATE SECONDS PROVIDERS [--kind usage]

A push that is sent late because earlier answers were late counts its wait too ("coordinated
omission" would leave it out). Timers tick in milliseconds here, which adds up to one to each.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from typing import NamedTuple, cast

import uvloop

CONNECTIONS = 256
TURN = 0.001  # seconds from one look at what is due to the next
PATIENCE = 30.0  # seconds for answers that are late


class Latency(NamedTuple):
    """Seconds within which that share of the pushes was answered; how many there were.

    Attributes:
        client: seconds by which the client itself was late at 99 % of the pushes, or less: it was
            busy, or another process had its processor.
    """

    p50: float
    p99: float
    longest: float
    client: float
    pushes: int


class _Load:
    def __init__(self, requests: list[bytes], rate: float, seconds: float) -> None:
        self._requests = requests
        self._interval = 1 / rate
        self._total = int(rate * seconds)
        self._sent = 0
        self._begun = time.perf_counter() + 0.1
        self.idle: list[_Connection] = []
        self.latencies: list[float] = []
        self.late: list[float] = []

    @property
    def finished(self) -> bool:
        return len(self.latencies) == self._total

    def pump(self, late: float) -> None:
        """Send what is due, `late` seconds after this was to be done."""
        now = time.perf_counter()
        while self.idle and self._sent < self._total:
            due = self._begun + self._sent * self._interval
            if due > now:
                return
            self.idle.pop().send(self._requests[self._sent % len(self._requests)], due)
            self._sent += 1
            self.late.append(late)


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.idle.append(self)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        # Answers are small: each comes in one piece.
        if not data.startswith(b"HTTP/1.1 2"):
            sys.exit(f"expected 2xx, got {data[:200]!r}")
        self._load.latencies.append(time.perf_counter() - self._due)
        self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._load.finished:
            sys.exit(f"connection lost: {exc}")


def _request(path: str, method: str, kind: str, body: str) -> bytes:
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _ours(number: int) -> bytes:
    body = f'{{"provider":"provider-{number}","model":"model-0","input_tokens":1500}}'
    return _request("/v1/usage", "POST", "application/json", body)


def _pushgateway(number: int) -> bytes:
    body = '# TYPE llm_tokens counter\nllm_tokens{model="model-0"} 1500\n'
    return _request(f"/metrics/job/provider-{number}", "PUT", "text/plain", body)


def _availability(number: int) -> bytes:
    target = f"/v1/availability?provider=provider-{number}&model=model-{number % 10}"
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def _healthy(number: int) -> bytes:
    return b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"


KINDS = {
    "usage": _ours,
    "pushgateway": _pushgateway,
    "availability": _availability,
    "healthy": _healthy,
}


async def _push(address: str, requests: list[bytes], rate: float, seconds: float) -> Latency:
    loop = asyncio.get_running_loop()
    load = _Load(requests, rate, seconds)
    host, _, port = address.rpartition(":")
    transports = [
        (await loop.create_connection(lambda: _Connection(load), host, int(port)))[0]
        for _ in range(CONNECTIONS)
    ]
    async with asyncio.timeout(seconds + PATIENCE):
        late = 0.0
        while not load.finished:
            load.pump(late)
            slept = time.perf_counter()
            await asyncio.sleep(TURN)
            late = time.perf_counter() - slept - TURN
    for transport in transports:
        transport.close()
    ordered, waits = sorted(load.latencies), sorted(load.late)
    count = len(ordered)
    most = count * 99 // 100
    return Latency(ordered[count // 2], ordered[most], ordered[-1], waits[most], count)


class Pushing:
    """The load in a process of its own."""

    def __init__(
        self, url: str, rate: float, seconds: float, providers: int, *, kind: str = "usage"
    ) -> None:
        command = [sys.executable, "-m", __spec__.name, url.removeprefix("http://")]
        command += [str(rate), str(seconds), str(providers), "--kind", kind]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def finish(self) -> Latency:
        """Wait for its end."""
        output, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError("pushing failed")
        return Latency(*json.loads(output))


def main() -> None:
    """Push, then print the latencies as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("address")
    parser.add_argument("rate", type=float)
    parser.add_argument("seconds", type=float)
    parser.add_argument("providers", type=int)
    parser.add_argument("--kind", choices=KINDS, default="usage")
    options = parser.parse_args()
    requests = [KINDS[options.kind](number) for number in range(options.providers)]
    gc.disable()
    push = _push(options.address, requests, options.rate, options.seconds)
    print(json.dumps(uvloop.run(push)))


if __name__ == "__main__":
    main()
