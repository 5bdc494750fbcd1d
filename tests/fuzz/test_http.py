"""The HTTP server against clients that are broken, impatient or hostile."""

import gzip
import json
import os
import socket
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.running import Exporter, until
from tests.fuzz.conftest import wire

EVENT = b'{"provider":"a","tokens":1}'
BAD = b'{"provider":"a"}'
ACCEPTED = b'{"accepted":1,"duplicates":0,"rejected":[]}'
QUICK, ORDINARY = b"/v1/usage", b"/v1/usage?"  # a query takes a push out of the short way


def post(
    body: bytes = EVENT,
    path: bytes = QUICK,
    *headers: bytes,
    method: bytes = b"POST",
    version: bytes = b"1.1",
    length: bytes | None = None,
) -> bytes:
    """A push."""
    size = b"%d" % len(body) if length is None else length
    lines = [
        method + b" " + path + b" HTTP/" + version,
        *(b"Host: x", b"Content-Type: application/json", b"Content-Length: " + size),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def ask(exporter: Exporter, request: bytes, count: int = 1) -> list[tuple[int, bytes]]:
    with wire(exporter) as client:
        client.send(request)
        return client.answers(count)


def counted(exporter: Exporter, provider: str) -> float:
    return exporter.value("llm_quota_requests_total", provider=provider, model="") or 0.0


@pytest.mark.parametrize(
    "request_",
    [
        b"HELLO\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # somebody speaks TLS
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nA: \x00\r\n\r\n",
        post(method=b"post"),
        post(method=b"B R E W"),
        post(length=b"-5"),
        post(length=b"+5"),
        post(length=b"0x10"),
        post(length=b"5, 5"),
        post(length=b"99999999999999999999999999"),
        post(EVENT, QUICK, b"Content-Length: 3"),
        post(EVENT, QUICK, b"Content-Length: 27"),
        post(EVENT, QUICK, b"Transfer-Encoding: chunked"),
        post(EVENT, QUICK, b"Idempotency-Key: a\rX-Injected: b"),
        post(EVENT, QUICK, b"Idempotency-Key: a\x00b"),
        post(EVENT, QUICK, b" folded: x"),
        b"POST /v1/usage HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/usage HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n" + EVENT,
    ],
)
def test_what_is_not_http_is_refused_and_hung_up_on(exporter: Exporter, request_: bytes) -> None:
    with wire(exporter) as client:
        client.send(request_)
        statuses = [status for status, _ in client.answers(1)]
        assert statuses == [400]
        assert client.ended()


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /" + b"a" * 2_000_000,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 2_000_000,
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 300_000,
        b"\r\n" * 1_000_000,
        b"POST /v1/usage HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 2_000_000,
    ],
    ids=["path", "header", "headers", "line ends", "chunk extension"],
)
def test_a_head_without_end_is_cut_off(exporter: Exporter, endless: bytes) -> None:
    with wire(exporter) as client:
        client.send(endless)
        # The answer is lost where the kernel resets a connection with unread data.
        assert [status for status, _ in client.answers(1)] in ([431], [400], [])
        assert client.ended()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (post(), (200, ACCEPTED)),
        (post(EVENT, ORDINARY), (200, ACCEPTED)),
        (post(EVENT, b"http://elsewhere/v1/usage"), (200, ACCEPTED)),
        (post(version=b"1.0"), (200, ACCEPTED)),
        (post(EVENT, QUICK, b"Connection: close"), (200, ACCEPTED)),
        (post(EVENT, QUICK, b"Idempotency-Key: \xff\xfe"), (200, ACCEPTED)),
        (post(gzip.compress(EVENT), QUICK, b"Content-Encoding: gzip"), (200, ACCEPTED)),
        (
            b"POST /v1/usage HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"5;x=y\r\n" + EVENT[:5] + b"\r\n16\r\n" + EVENT[5:] + b"\r\n0\r\nTrailer: z\r\n\r\n",
            (200, ACCEPTED),
        ),
    ],
)
def test_every_valid_way_to_push_is_understood(
    exporter: Exporter, request_: bytes, answer: tuple[int, bytes]
) -> None:
    before = counted(exporter, "a")
    assert ask(exporter, request_) == [answer]
    assert counted(exporter, "a") == before + 1


def test_a_head_request_gets_the_head_alone(exporter: Exporter) -> None:
    with wire(exporter) as client:
        client.send(b"HEAD /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        said = b""
        while piece := client.socket.recv(65536):
            said += piece
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n")


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(exporter: Exporter) -> None:
    with wire(exporter) as client:
        client.send(post(b"", QUICK, b"Expect: 100-continue", length=b"%d" % len(EVENT)))
        assert client.answers(1) == [(100, b"")]
        client.send(EVENT)
        assert client.answers(1) == [(200, ACCEPTED)]


pushes = st.sampled_from(
    [
        (post(), 200),
        (post(EVENT, ORDINARY), 200),
        (post(BAD), 400),
        (post(BAD, ORDINARY), 400),
        (post(EVENT, QUICK, b"Idempotency-Key: again"), 200),
        (post(EVENT, b"/v1/nowhere"), 404),
        (post(EVENT, QUICK, b"X-Unusual: 1"), 200),
        (b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"DELETE /v1/usage HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (post(b"x" * 2_000, b"/v1/signals"), 400),
        (post(b" " * 70_000 + EVENT), 200),
    ]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(pushes, min_size=1, max_size=12), cuts=st.lists(st.integers(1, 400)))
def test_pipelined_requests_are_answered_in_their_order(
    exporter: Exporter, sent: list[tuple[bytes, int]], cuts: list[int]
) -> None:
    stream = b"".join(request for request, _ in sent)
    pieces = []
    for cut in cuts:
        pieces.append(stream[:cut])
        stream = stream[cut:]
    with wire(exporter) as client:
        client.send(*pieces, stream)
        found = client.answers(len(sent))
    assert [status for status, _ in found] == [status for _, status in sent]


@pytest.mark.parametrize("last", [post(), post(EVENT, ORDINARY)], ids=["short", "ordinary"])
def test_answers_owed_are_given_before_garbage_ends_the_connection(
    exporter: Exporter, last: bytes
) -> None:
    with wire(exporter) as client:
        client.send(post() + post(EVENT, ORDINARY) + last + b"GARBAGE\r\n\r\n")
        assert client.answers(4)[:3] == [(200, ACCEPTED)] * 3


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    request=st.sampled_from([post(), post(EVENT, ORDINARY), post(EVENT, QUICK, b"Expect: x")]),
    place=st.integers(0, 200),
    junk=st.binary(min_size=1, max_size=8),
    replaced=st.integers(0, 8),
)
def test_damaged_requests_leave_the_server_unharmed(
    exporter: Exporter, request: bytes, place: int, junk: bytes, replaced: int
) -> None:
    with wire(exporter) as client:
        client.send(request[:place] + junk + request[place + replaced :])
        client.socket.shutdown(socket.SHUT_WR)
        assert all(100 <= status < 500 for status, _ in client.answers(3))


@pytest.mark.parametrize("path", [QUICK, ORDINARY, b"/v1/signals", b"/v1/metrics"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing_behind(
    exporter: Exporter, path: bytes, reset: bool
) -> None:
    event = b'{"provider":"left","tokens":1}'
    with wire(exporter) as client:
        client.send(post(event, path, length=b"1000"))
        if reset:
            linger = struct.pack("ii", 1, 0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    assert ask(exporter, post()) == [(200, ACCEPTED)]
    assert counted(exporter, "left") == 0


@pytest.mark.parametrize("path", [QUICK, ORDINARY])
def test_a_push_counts_even_if_nobody_waits_for_the_answer(exporter: Exporter, path: bytes) -> None:
    name = f"gone{len(path)}"
    event = json.dumps({"provider": name, "tokens": 1}).encode()
    for _ in range(20):
        with wire(exporter) as client:
            client.send(post(event, path))
            client.answers(0)
        with wire(exporter) as client:  # the next turn of the loop: the request has been read
            client.send(post())
            client.answers(1)
    until(lambda: counted(exporter, name) > 0, "count")


def test_a_client_that_never_reads_its_answers_does_not_pile_them_up(exporter: Exporter) -> None:
    with wire(exporter) as client:
        client.socket.settimeout(0.5)
        requests = post() * 1000
        sent = 0
        try:
            while sent < 64 << 20:
                sent += client.socket.send(requests)
        except TimeoutError:
            pass  # the exporter has stopped reading
        assert sent < 64 << 20
    assert ask(exporter, post()) == [(200, ACCEPTED)]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([b"Content-Encoding: gzip"], b"not gzip", 400),
        ([b"Content-Encoding: gzip"], b"", 400),
        ([b"Content-Encoding: gzip"], gzip.compress(EVENT)[:-9], 400),
        ([b"Content-Encoding: gzip"], gzip.compress(EVENT) + b"more", 400),
        ([b"Content-Encoding: gzip"], gzip.compress(EVENT) * 2, 400),
        ([b"Content-Encoding: gzip"], gzip.compress(b" " * (2 << 20)), 413),
        ([b"Content-Encoding: gzip"], os.urandom(2 << 20), 413),
        ([b"Content-Encoding: br"], EVENT, 415),
        ([b"Content-Encoding: gzip, gzip"], EVENT, 415),
        ([b"Idempotency-Key: " + b"k" * 257], EVENT, 400),
        ([], EVENT + b" " * (2 << 20), 413),
    ],
)
def test_bodies_are_bounded_and_not_trusted(
    exporter: Exporter, headers: list[bytes], body: bytes, status: int
) -> None:
    assert [found for found, _ in ask(exporter, post(body, QUICK, *headers))] == [status]


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/signals", "/v1/litellm", "/v1/metrics"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"provider":"a","usage":[', b"\xff["])
def test_no_depth_of_nesting_harms(exporter: Exporter, path: str, opening: bytes) -> None:
    body = opening * (500_000 // len(opening))
    answer = exporter.http.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_a_deeply_nested_push_does_no_harm_to_those_beside_it(exporter: Exporter) -> None:
    deep = b'{"provider":"a","usage":' + b"[" * 5000 + b"}"
    with wire(exporter) as client, wire(exporter) as hostile:
        for _ in range(20):
            hostile.send(post(deep))
            client.send(post())
            assert client.answers(1) == [(200, ACCEPTED)]
            assert [status for status, _ in hostile.answers(1)] == [400]


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text;version=abc",
        "application/openmetrics-text; version=99.0.0; escaping=values",
        "text/plain;version=1.x.y",
        "text/plain;version=\xb2.0.0",
        ";;;=,=;version;,",
        "*/*;q=",
        "application/openmetrics-text;version=" + "9" * 6000,
    ],
)
def test_metrics_are_served_whatever_is_accepted(exporter: Exporter, accept: str) -> None:
    answer = exporter.http.get("/metrics", headers={"accept": accept.encode("latin-1")})
    assert answer.status_code == 200
    assert b"llm_quota_state" in answer.content
