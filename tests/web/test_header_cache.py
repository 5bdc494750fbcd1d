"""HeaderCache are remembered by their bytes, and lookup where a push comes by itself."""

import pytest

from exporter.intake.ingest import MAX_KEY
from exporter.web import header_cache
from exporter.web.header_cache import MAX_HEAD, HeaderCache, PushHeaders, read_push_headers

HEAD = b"POST /v1/usage HTTP/1.1\r\ncontent-length: 4\r\n\r\n"
SAID = PushHeaders(4, "", None)
ORDINARY = [(b"content-length", b"4"), (b"content-type", b"application/json")]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (ORDINARY, SAID),
        ([(b"host", b"a"), (b"user-agent", b"b"), (b"traceparent", b"c"), *ORDINARY], SAID),
        ([*ORDINARY, (b"idempotency-key", b"k")], PushHeaders(4, "k", None)),
        ([*ORDINARY, (b"idempotency-key", b"\xe9")], PushHeaders(4, "\xe9", None)),
        ([*ORDINARY, (b"idempotency-key", b"k" * MAX_KEY)], PushHeaders(4, "k" * MAX_KEY, None)),
        ([*ORDINARY, (b"authorization", b"Bearer a")], PushHeaders(4, "", b"Bearer a")),
        ([(b"content-length", b"0"), ORDINARY[1]], PushHeaders(0, "", None)),
        ([ORDINARY[0], (b"content-type", b"application/x-ndjson")], SAID),
        ([ORDINARY[0], (b"content-type", b"application/json; charset=utf-8")], SAID),
    ],
)
def test_an_ordinary_head_says_size_key_and_authorization(
    headers: list[tuple[bytes, bytes]], said: PushHeaders
) -> None:
    assert read_push_headers(headers) == said


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [ORDINARY[0]],
        [ORDINARY[1]],
        [ORDINARY[0], (b"content-type", b"text/plain")],
        [*ORDINARY, (b"content-encoding", b"gzip")],
        [*ORDINARY, (b"expect", b"100-continue")],
        [ORDINARY[1], (b"transfer-encoding", b"chunked")],
        [*ORDINARY, (b"idempotency-key", b"k" * (MAX_KEY + 1))],
    ],
)
def test_a_head_that_asks_for_more_is_not_an_ordinary_one(
    headers: list[tuple[bytes, bytes]],
) -> None:
    assert read_push_headers(headers) is None


def test_a_head_is_recognised_with_any_body_of_its_size() -> None:
    known = HeaderCache()
    assert known.lookup(HEAD + b"1234") is None
    known.remember(HEAD + b"1234", SAID)
    assert known.lookup(HEAD + b"1234") is SAID
    assert known.lookup(HEAD + b"\r\n\r\n") is SAID


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        HEAD,
        HEAD[:-1],
        HEAD + b"123",
        HEAD + b"12345",
        HEAD + b"1234" + HEAD + b"1234",
        b"\r\n" + HEAD + b"1234",
        HEAD.lower() + b"1234",
    ],
)
def test_bytes_that_are_not_a_remembered_push_by_itself_are_not_recognised(data: bytes) -> None:
    known = HeaderCache()
    known.remember(HEAD + b"1234", SAID)
    assert known.lookup(data) is None


@pytest.mark.parametrize(
    "before",
    [b"\r\n\r\n", HEAD + b"1234"],
)
def test_a_push_that_came_after_something_else_is_not_remembered(before: bytes) -> None:
    known = HeaderCache()
    known.remember(before + HEAD + b"1234", SAID)
    assert known.lookup(before + HEAD + b"1234") is None
    assert known.lookup(HEAD + b"1234") is None


def test_a_head_with_a_key_is_not_remembered() -> None:
    known = HeaderCache()
    known.remember(HEAD + b"1234", PushHeaders(4, "k", None))
    assert known.lookup(HEAD + b"1234") is None


@pytest.mark.parametrize(("length", "remembered"), [(MAX_HEAD, True), (MAX_HEAD + 1, False)])
def test_a_head_is_remembered_up_to_a_length(length: int, remembered: bool) -> None:
    known = HeaderCache()
    push = HEAD[:-4].ljust(length - 4, b"x") + b"\r\n\r\n1234"
    known.remember(push, SAID)
    assert (known.lookup(push) is SAID) == remembered


def test_the_newest_head_is_remembered_and_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header_cache, "MAX_HEADS", 3)
    known = HeaderCache()
    pushes = [b"POST /%d\r\n\r\n1234" % number for number in range(10)]
    for push in pushes:
        known.remember(push, SAID)
        assert known.lookup(push) is SAID
        assert sum(known.lookup(one) is not None for one in pushes) <= 3
