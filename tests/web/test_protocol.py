"""Pushes arrive the same however their bytes are cut, and whichever way they take."""

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Any, cast

import pytest
import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from exporter.intake.format import Client
from exporter.intake.ingest import Send
from exporter.intake.outcome import Outcome, Status
from exporter.web import protocol, turns
from exporter.web.address import Address
from exporter.web.fastpath.protocol import FastProtocol, serving
from exporter.web.lookups import Found, LookupHeaders
from exporter.web.outstanding import Outstanding
from exporter.web.reply import Reply, code_of, encode_reply, unless_known
from exporter.web.request_metrics import RequestMetrics

SMALL = b'{"provider":"a","tokens":1}'
LONGER = b'{"provider":"a","tokens":12345}'


class Transport:
    """Keeps what is answered."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> object:
        return None

    def pause_reading(self) -> None:
        """The other side waits."""

    def resume_reading(self) -> None:
        """The other side goes on."""


class SmallPushes:
    """Answers every push, in a later turn of the loop, with its key and body."""

    def push(self, body: bytes, client: Client, key: str, send: Send) -> None:
        said = Outcome(Status.STORED, error=f"quick {key} {body.decode()}")
        asyncio.get_running_loop().call_soon(send, said)


class Site:
    """Lets everybody in until it is told otherwise."""

    address = Address()
    body_bytes = 1000
    request_timeout = 30.0

    def __init__(self) -> None:
        self.outstanding = Outstanding(2**20)
        self.requests = RequestMetrics()
        self.admitted: set[bytes | None] = {None, b"Bearer one", b"Bearer two"}

    def admits(self, authorization: bytes | None) -> bool:
        return authorization in self.admitted

    def client(self, address: str, authorization: bytes | None) -> Client:
        return Client(address)

    def lookup(self, method: bytes, target: bytes, said: LookupHeaders) -> Found | None:
        if method not in (b"GET", b"HEAD") or target != b"/known?a=b":
            return None
        reply = unless_known(Reply(200, b"known", etag='"1"'), said.if_none_match)
        head = encode_reply(reply, b"", head_only=True)
        observed = self.requests.of("/known", reply.status)
        return Found(observed, head, head + reply.body, reply, inf)

    def answer_push(self, outcome: Outcome, seconds: float) -> bytes:
        self.requests.of("/v1/usage", code_of(outcome)).observe(seconds)
        return encode_reply(Reply(200, outcome.error.encode()), b"")


async def ordinary(scope: Any, receive: Any, send: Any) -> None:
    """What ASGI serves: answers with the body, or early without it."""
    early = (b"x-early", b"1") in scope["headers"]
    body, more = b"", not early
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    headers = [(b"content-length", b"%d" % (9 + len(body)))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ordinary " + body})


class Connection:
    """A client's, to a protocol that serves `site`: one of its own, or that of `beside`."""

    def __init__(self, site: Site, beside: "Connection | None" = None) -> None:
        config = uvicorn.Config(cast(Any, ordinary), access_log=False, log_config=None)
        config.load()
        kind = type(beside.protocol) if beside else serving(cast(Any, site))
        kind.pushes = cast(Any, SmallPushes())
        self.transport = Transport()
        self.protocol: FastProtocol = kind(config, ServerState(), {}, asyncio.get_running_loop())
        self.protocol.connection_made(self.transport)

    async def send(self, data: bytes) -> None:
        self.protocol.data_received(data)
        for _ in range(5):
            await asyncio.sleep(0)
        assert not self.protocol.pipeline  # that is uvicorn's, and has no bound

    def answers(self) -> list[bytes]:
        """The bodies of the answers so far."""
        pieces = self.transport.sent.split(b"HTTP/1.1 200 OK\r\n")
        assert pieces[0] == b""
        return [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:]]


def request(body: bytes, *lines: bytes) -> bytes:
    head = [b"POST /v1/usage HTTP/1.1", b"content-type: application/json", *lines]
    return b"\r\n".join([*head, b"content-length: %d" % len(body), b"", body])


KINDS = {
    request(SMALL): b"quick  " + SMALL,
    request(LONGER): b"quick  " + LONGER,
    request(b""): b"quick  ",
    request(SMALL, b"authorization: Bearer one"): b"quick  " + SMALL,
    request(SMALL, b"authorization: Bearer none"): b"ordinary " + SMALL,
    request(SMALL, b"idempotency-key: k"): b"quick k " + SMALL,
    request(SMALL, b"x-other: 1"): b"ordinary " + SMALL,
    request(b"\r\n\r\n" + SMALL): b"quick  \r\n\r\n" + SMALL,
    b"GET / HTTP/1.1\r\n\r\n": b"ordinary ",
    b"\r\n" + request(SMALL): b"quick  " + SMALL,
    request(request(SMALL)): b"quick  " + request(SMALL),
    request(request(SMALL), b"x-early: 1"): b"ordinary ",
}
CUTS = ("nowhere", "before", "after the head", "everywhere")


@settings(deadline=None)
@given(
    sent=st.lists(
        st.tuples(st.sampled_from(list(KINDS)), st.sampled_from(CUTS)), min_size=1, max_size=8
    )
)
@example([(request(SMALL), "before"), (request(SMALL), "before"), (request(SMALL), "nowhere")])
@example(
    [
        (request(SMALL), "before"),
        (request(request(SMALL), b"x-early: 1"), "after the head"),
    ]
)
def test_pushes_are_answered_in_order_however_their_bytes_are_cut(
    sent: Sequence[tuple[bytes, str]],
) -> None:
    pieces = [b""]
    for one, cut in sent:
        head, end, body = one.partition(b"\r\n\r\n")
        if cut != "nowhere":
            pieces.append(b"")
        if cut == "after the head":
            pieces[-1] += head + end
            pieces.append(body)
        elif cut == "everywhere":
            pieces += [one[at : at + 7] for at in range(0, len(one), 7)]
        else:
            pieces[-1] += one

    async def scenario() -> list[bytes]:
        connection = Connection(Site())
        for piece in pieces:
            await connection.send(piece)
        for _ in range(20 * len(sent)):  # turns of the loop, more than all of them can need
            await asyncio.sleep(0)
        return connection.answers()

    # A pipelined push waits its turn in uvicorn's own queue, and is answered the ordinary way.
    def told(answer: bytes) -> bytes:
        return answer.removeprefix(b"ordinary ").removeprefix(b"quick k ").removeprefix(b"quick  ")

    assert [told(one) for one in asyncio.run(scenario())] == [told(KINDS[one]) for one, _ in sent]


@pytest.mark.parametrize("kind", [b"x-other: 1", b"idempotency-key: k"])
def test_a_head_may_be_cut_after_it_has_told_the_size_of_the_body(kind: bytes) -> None:
    head = b"POST /v1/usage HTTP/1.1\r\ncontent-type: application/json\r\n"
    whole = head + b"content-length: %d\r\n" % len(SMALL) + kind + b"\r\n\r\n" + SMALL
    follows = b"GET / HTTP/1.1\r\n\r\n"

    async def scenario(cut: int) -> None:
        connection = Connection(Site())
        await connection.send(whole[:cut])
        await connection.send(whole[cut:] + follows + whole)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(connection.answers()) == 3

    for cut in range(len(head), len(whole)):
        asyncio.run(scenario(cut))


def test_a_push_takes_the_same_way_every_time_it_comes() -> None:
    async def scenario() -> None:
        connection = Connection(Site())
        for _ in range(3):
            for sent in KINDS:
                await connection.send(sent)
        assert connection.answers() == list(KINDS.values()) * 3

    asyncio.run(scenario())


def test_a_head_that_is_recognised_still_needs_the_right_to_push() -> None:
    async def scenario() -> None:
        site = Site()
        connection = Connection(site)
        push = request(SMALL, b"authorization: Bearer two")
        await connection.send(push)
        await connection.send(push)
        site.admitted.clear()
        await connection.send(push)
        site.admitted.add(b"Bearer two")
        site.body_bytes = len(SMALL) - 1
        await connection.send(push)
        quick, slow = b"quick  " + SMALL, b"ordinary " + SMALL
        assert connection.answers() == [quick, quick, slow, slow]

    asyncio.run(scenario())


def test_only_pushes_that_took_the_short_way_without_a_key_are_recognised() -> None:
    async def scenario() -> None:
        for sent, answer in KINDS.items():
            connection = Connection(Site())
            await connection.send(sent)
            assert connection.answers() == [answer]
            head = sent[: sent.index(b"\r\n\r\n") + 4]
            remembered = connection.protocol.push_headers.get(head) is not None
            assert remembered == answer.startswith(b"quick  "), sent

    asyncio.run(scenario())


def test_a_head_that_came_on_one_connection_is_recognised_on_another() -> None:
    async def scenario() -> None:
        site = Site()
        first = Connection(site)
        await first.send(request(SMALL))
        second = Connection(site, beside=first)
        cast(Any, second.protocol).parser = None  # it is not asked
        await second.send(request(SMALL))
        assert second.answers() == [b"quick  " + SMALL]

    asyncio.run(scenario())


def test_blank_lines_after_a_push_are_not_taken_for_another() -> None:
    async def scenario() -> None:
        site = Site()
        site.admitted = {b"Bearer one"}
        connection = Connection(site)
        blank = b"\r\n" * 20
        await connection.send(request(blank, b"authorization: Bearer one"))
        await connection.send(b"\r\n\r\n" + blank)
        await connection.send(b"\r\n\r\n" + SMALL.ljust(len(blank)))
        assert connection.transport.sent.count(b"quick") == 1
        assert b"HTTP/1.1 400" in connection.transport.sent

    asyncio.run(scenario())


def test_blank_lines_between_pushes_never_add_up_to_a_head_that_is_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "MAX_HEAD", 300)

    async def scenario() -> None:
        connection = Connection(Site())
        for _ in range(200):
            await connection.send(request(SMALL))
            await connection.send(b"\r\n")
        assert connection.answers() == [b"quick  " + SMALL] * 200

    asyncio.run(scenario())


CHUNKED = b"POST /v1/usage HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "answers"),
    [
        (CHUNKED + b"1\r\na\r\n" * 800 + b"0\r\n\r\n", [b"ordinary " + b"a" * 800]),
        (b"GET / HTTP/1.1\r\n" + b"a: \r\n" * 1000 + b"\r\n", [b"ordinary "]),
    ],
    ids=["chunks of a byte", "headers of nothing"],
)
def test_what_takes_long_to_parse_is_parsed_a_little_at_a_time(
    data: bytes, answers: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)  # so long that one piece takes all of it

    async def scenario() -> None:
        site = Site()
        connections = [Connection(site)]
        connections += [Connection(site, beside=connections[0]) for _ in range(3)]
        for connection in connections:
            connection.protocol.data_received(data)
        steps = 0
        while not all(connection.transport.sent for connection in connections):
            await asyncio.sleep(0)
            steps += 1
            assert steps < 100
        assert steps > len(connections) * (len(data) // protocol.MAX_FRAMING - 1)
        for connection in connections:
            assert connection.answers() == answers

    asyncio.run(scenario())
