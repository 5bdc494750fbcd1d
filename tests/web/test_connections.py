"""Connections are accepted up to a limit, and end when their clients dawdle."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvicorn

from exporter.web.connections import Connections
from exporter.web.outstanding import Outstanding
from exporter.web.protocol import ServerProtocol, serving
from exporter.web.request_metrics import RequestMetrics
from exporter.web.server import WebServer

ASK = b"GET / HTTP/1.1\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\n\r\n"


class Site:
    """Limits that can be changed."""

    connections = 2
    request_timeout = 30.0

    def __init__(self) -> None:
        self.outstanding = Outstanding(2**20)
        self.requests = RequestMetrics()
        self.watchers = SimpleNamespace(close=lambda: None)  # nobody watches


class Server:
    """A server whose answers wait for `goes`.

    Attributes:
        site: its limits.
        goes: while it is not set, requests wait.
        begun: requests that wait or have waited.
    """

    def __init__(self) -> None:
        self.site = Site()
        self.goes = asyncio.Event()
        self.begun = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        await self.goes.wait()
        body = b"x" * (2**24 if scope["path"] == "/large" else 1)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, request: bytes = ASK) -> asyncio.StreamReader:
        reader, writer = await self.connect()
        writer.write(request)
        reader.kept = writer  # type: ignore[attr-defined] # closed with it, otherwise
        return reader

    @property
    def connections(self) -> Connections:
        return cast(Connections, self.web.servers[0])


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    running = Server()
    listener = socket.create_server(("127.0.0.1", 0))
    running.port = listener.getsockname()[1]
    config = uvicorn.Config(
        cast(Any, running.app),
        http=serving(cast(Any, running.site)),
        interface="asgi3",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    running.web = WebServer(config, cast(Any, running.site))
    task = asyncio.create_task(running.web.serve([listener]))
    try:
        yield running
    finally:
        running.goes.set()
        running.web.should_exit = True
        await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


def run(scenario: Callable[[Server], Any]) -> None:
    async def all_of_it() -> None:
        async with server() as running:
            await scenario(running)

    asyncio.run(all_of_it())


def test_a_newcomer_is_refused_while_all_others_wait_for_their_answers() -> None:
    async def scenario(running: Server) -> None:
        first = [await running.ask() for _ in range(2)]
        await until(lambda: running.begun == 2)
        refused = await (await running.ask()).read()
        assert refused.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1\r\n" in refused
        running.goes.set()
        for reader in first:
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        # Answered, they wait for their clients, and the oldest gives way.
        newcomer = await running.ask()
        assert (await newcomer.readline()) == b"HTTP/1.1 200 OK\r\n"

    run(scenario)


def test_a_request_counts_until_it_is_done_even_if_its_client_has_left() -> None:
    async def scenario(running: Server) -> None:
        for begun in (1, 2):
            reader = await running.ask()
            await until(lambda begun=begun: running.begun == begun)
            reset = struct.pack("ii", 1, 0)
            client = reader.kept.transport.get_extra_info("socket")
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            reader.kept.transport.abort()
        await until(lambda: not running.web.server_state.connections)
        assert (await (await running.ask()).readline()).startswith(b"HTTP/1.1 503")
        running.goes.set()
        await until(lambda: not running.web.server_state.tasks)
        assert (await (await running.ask()).readline()).startswith(b"HTTP/1.1 200")

    run(scenario)


def close_if_slow(running: Server, after: float) -> None:
    """Let `after` seconds pass for every connection."""
    now = asyncio.get_running_loop().time()
    for connection in list(running.web.server_state.connections):
        cast(ServerProtocol, connection).close_if_slow(now + after, running.site.request_timeout)


@pytest.mark.parametrize(
    "sent", [b"", b"GE", ASK[:-2], b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n1"]
)
def test_a_request_has_its_time_to_arrive(sent: bytes) -> None:
    async def scenario(running: Server) -> None:
        reader = await running.ask(sent)
        await until(lambda: len(running.web.server_state.connections) == 1)
        close_if_slow(running, 29)
        await asyncio.sleep(0)
        assert running.web.server_state.connections
        close_if_slow(running, 31)
        running.goes.set()
        await reader.read()
        await until(lambda: not running.web.server_state.connections)

    run(scenario)


def test_a_connection_that_is_closed_ends_even_if_its_answer_is_never_taken() -> None:
    async def scenario(running: Server) -> None:
        running.goes.set()
        kept = await running.ask(LARGE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        (connection,) = await blocked(running)
        assert connection.transport.is_closing()
        close_if_slow(running, 0)
        close_if_slow(running, 31)
        await until(lambda: not running.web.server_state.connections)
        assert kept.kept is not None  # collected, it would hang up

    run(scenario)


async def blocked(running: Server) -> list[ServerProtocol]:
    """The connections, one at least, once one of them cannot write."""
    found = cast("set[ServerProtocol]", running.web.server_state.connections)
    await until(lambda: any(one.blocked_since is not None for one in found))
    return list(found)


def test_an_answer_has_its_time_to_be_taken_and_more_while_enough_of_it_is() -> None:
    async def scenario(running: Server) -> None:
        running.goes.set()
        reader = await running.ask(LARGE)
        (connection,) = await blocked(running)
        begun = connection.blocked_since
        assert begun is not None
        unsent = connection.transport.get_write_buffer_size()
        await reader.readexactly(2**23)
        await until(lambda: connection.transport.get_write_buffer_size() < unsent - 2**20)
        connection.close_if_slow(begun + 31, 30)
        assert not connection.transport.is_closing()
        await until(lambda: connection.blocked_since != begun)
        connection.close_if_slow(begun + 62.5, 30)
        await until(lambda: not running.web.server_state.connections)

    run(scenario)


def test_whoever_waits_longest_in_the_middle_of_something_is_closed_when_bytes_run_out() -> None:
    async def scenario(running: Server) -> None:
        running.goes.set()
        kept = await running.ask(LARGE)  # collected, it would hang up
        (stuck,) = await blocked(running)
        idle, _ = await running.connect()
        await until(lambda: len(running.web.server_state.connections) == 2)
        running.connections.reclaim()
        await asyncio.sleep(0)
        assert not stuck.transport.is_closing()  # it has a few seconds to itself
        stuck.blocked_since = -1000.0
        assert running.site.outstanding.hold(2**21)
        assert not running.site.outstanding.hold(1)
        assert stuck.transport.is_closing()
        await until(lambda: len(running.web.server_state.connections) == 1)
        assert not idle.at_eof()
        assert kept.kept is not None
        running.site.outstanding.release(2**21)

    run(scenario)
