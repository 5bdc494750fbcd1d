"""Heads are remembered by their bytes."""

import pytest

from exporter.intake.ingest import MAX_KEY
from exporter.web.fastpath.header_cache import (
    MAX_BYTES,
    MAX_HEAD,
    HeaderCache,
    PushHeaders,
    read_lookup_headers,
    read_push_headers,
)
from exporter.web.lookups import LookupHeaders

HEAD = b"POST /v1/usage HTTP/1.1\r\ncontent-length: 4\r\n\r\n"
SAID = PushHeaders(4, "", None, lasting=True)
ORDINARY = [(b"content-length", b"4"), (b"content-type", b"application/json")]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (ORDINARY, SAID),
        ([(b"host", b"a"), (b"user-agent", b"b"), *ORDINARY], SAID),
        ([*ORDINARY, (b"idempotency-key", b"k")], PushHeaders(4, "k", None, False)),
        ([*ORDINARY, (b"idempotency-key", b"\xe9")], PushHeaders(4, "\xe9", None, False)),
        (
            [*ORDINARY, (b"idempotency-key", b"k" * MAX_KEY)],
            PushHeaders(4, "k" * MAX_KEY, None, False),
        ),
        ([*ORDINARY, (b"authorization", b"Bearer a")], PushHeaders(4, "", b"Bearer a", True)),
        ([(b"content-length", b"0"), ORDINARY[1]], PushHeaders(0, "", None, True)),
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


@pytest.mark.parametrize("name", [b"date", b"traceparent", b"tracestate", b"x-request-id"])
def test_a_head_that_will_not_come_again_is_an_ordinary_one_and_says_so(name: bytes) -> None:
    push = read_push_headers([*ORDINARY, (name, b"1")])
    assert push is not None
    assert not push.lasting
    assert read_lookup_headers([(name, b"1")]) == LookupHeaders(lasting=False)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([], LookupHeaders()),
        ([(b"host", b"a"), (b"accept", b"*/*")], LookupHeaders()),
        ([(b"if-none-match", b'"1"')], LookupHeaders(if_none_match=b'"1"')),
        ([(b"authorization", b"Bearer a")], LookupHeaders(authorization=b"Bearer a")),
        ([(b"content-length", b"0"), (b"content-type", b"text/plain")], LookupHeaders()),
        ([(b"x-forwarded-for", b"10.0.0.1")], LookupHeaders(lasting=False)),
        (
            [(b"x-provider", b"a"), (b"x-model", b"\xe9"), (b"x-consumer", b"c")],
            LookupHeaders(asked=("a", "\xe9", "c")),
        ),
        ([(b"x-provider", b"a"), (b"x-provider", b"b")], LookupHeaders(asked=("a", "", ""))),
        ([(b"content-length", b"1")], None),
        ([(b"transfer-encoding", b"chunked")], None),
        ([(b"expect", b"100-continue")], None),
        ([(b"upgrade", b"websocket")], None),
        ([(b"if-none-match", b'"1"'), (b"if-none-match", b'"2"')], None),
        ([(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")], None),
    ],
)
def test_a_lookup_has_no_body_and_asks_for_nothing_special(
    headers: list[tuple[bytes, bytes]], said: LookupHeaders | None
) -> None:
    assert read_lookup_headers(headers) == said


def test_a_head_is_recognised_by_all_of_its_bytes() -> None:
    known: HeaderCache[PushHeaders] = HeaderCache()
    assert known.get(HEAD) is None
    known.remember(HEAD, SAID)
    assert known.get(HEAD) is SAID
    assert known.get(HEAD[:-1]) is None
    assert known.get(HEAD.lower()) is None


def test_a_head_that_will_not_come_again_is_not_remembered() -> None:
    known: HeaderCache[PushHeaders] = HeaderCache()
    known.remember(HEAD, PushHeaders(4, "k", None, lasting=False))
    assert known.get(HEAD) is None


@pytest.mark.parametrize(("length", "remembered"), [(MAX_HEAD, True), (MAX_HEAD + 1, False)])
def test_a_head_is_remembered_up_to_a_length(length: int, remembered: bool) -> None:
    known: HeaderCache[PushHeaders] = HeaderCache()
    head = HEAD[:-4].ljust(length - 4, b"x") + b"\r\n\r\n"
    known.remember(head, SAID)
    assert (known.get(head) is SAID) == remembered


def test_the_newest_head_is_remembered_and_never_too_many() -> None:
    known: HeaderCache[PushHeaders] = HeaderCache()
    heads = [b"POST /%d\r\n\r\n" % number for number in range(20_000)]
    for head in heads:
        known.remember(head, SAID)
        assert known.get(head) is SAID
    remembered = sum(known.get(head) is not None for head in heads)
    assert 0 < remembered <= MAX_BYTES / 512
