"""Usage found in bodies that come in pieces."""

import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client.body import DocumentReader, ResponseUsage, StreamReader

ANTHROPIC = b"".join(
    b"event: " + kind + b"\r\ndata: " + json.dumps(data).encode() + b"\r\n\r\n"
    for kind, data in [
        (
            b"message_start",
            {
                "type": "message_start",
                "message": {
                    "id": "msg_1",
                    "model": "claude-x",
                    "content": [],
                    "usage": {"input_tokens": 25, "cache_read_input_tokens": 0, "output_tokens": 1},
                },
            },
        ),
        (b"content_block_delta", {"delta": {"text": 'about "usage": {"output_tokens": 9}'}}),
        (b"message_delta", {"usage": {"output_tokens": 5, "cache_read_input_tokens": None}}),
        (b"message_delta", {"usage": {"output_tokens": 15, "cache_read_input_tokens": 7}}),
    ]
)
GEMINI = json.dumps(
    [
        {"usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}, "responseId": "r1"},
        {
            "candidates": [{"content": {"parts": [{"text": "hi"}]}}],
            "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 2},
            "modelVersion": "gemini-x",
            "responseId": "r1",
        },
    ]
).encode()


def seen(reader_type, pieces) -> ResponseUsage:
    sighting = ResponseUsage()
    reader = reader_type(sighting.read)
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    return sighting


def cut(body: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(body)]
    return [body[a:b] for a, b in pairwise(edges)]


@given(st.lists(st.integers(0, len(ANTHROPIC)), max_size=20))
def test_the_last_value_of_each_field_wins_however_the_stream_is_cut(places):
    sighting = seen(StreamReader, cut(ANTHROPIC, places))
    assert sighting.usage == {
        "input_tokens": 25,
        "cache_read_input_tokens": 7,
        "output_tokens": 15,
    }
    assert (sighting.id, sighting.model) == ("msg_1", "claude-x")


@given(st.lists(st.integers(0, len(GEMINI)), max_size=20))
def test_a_streamed_array_counts_up_however_it_is_cut(places):
    sighting = seen(DocumentReader, cut(GEMINI, places))
    assert sighting.usage == {
        "promptTokenCount": 4,
        "totalTokenCount": 4,
        "candidatesTokenCount": 2,
    }
    assert (sighting.id, sighting.model) == ("r1", "gemini-x")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b'{"usage": 5}',
        b'{"usage": {"input_tokens": "many"}}',
        b'{"usage": {"input_tokens": 1',
        b"[1, 2]",
        b'"usage"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"response":' * 100_000,
    ],
)
def test_a_body_of_another_shape_says_nothing(body):
    assert seen(DocumentReader, [body]).usage == {}
    assert seen(StreamReader, [b"data: " + body]).usage == {}


def test_a_document_beyond_the_limit_is_let_go():
    found = []
    reader = DocumentReader(found.append, limit=10)
    for _ in range(100):
        reader.feed(b"12345")
    reader.end()
    assert found == [b""]


def test_a_line_beyond_the_limit_is_skipped_and_the_next_one_read():
    found = []
    reader = StreamReader(found.append, limit=40)
    for piece in (b'data: {"usage":"', b"x" * 50, b'"}\n', b'data: {"usage":1}\n'):
        reader.feed(piece)
    assert found == [b'{"usage":1}']


def test_a_long_stream_is_not_kept():
    delta = b'data: {"choices":[{"delta":{"content":"' + b"x" * 1000 + b'"}}]}\n\n'
    reader = StreamReader(ResponseUsage().read)
    tracemalloc.start()
    try:
        for _ in range(20_000):
            reader.feed(delta)
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()
