"""The exporter's own format: what counts, what is refused, and that both ways of reading agree."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.core.series import Series
from exporter.core.slots import COST, Counts, Increments
from exporter.core.usage import Tokens
from exporter.intake import native
from exporter.intake.batching import MAX_TOKENS, Batcher
from exporter.intake.reading import MalformedBody
from exporter.storage.contract import Batch

NOW = 1_790_000_000.0
DAY = 86400.0
MOST = 1000
GOOD = b'{"provider":"a","tokens":1}'
DEEP = b"[" * 100_000


def batcher() -> Batcher:
    return Batcher(Series, NOW, 35 * DAY, 128)


def same(provider: str, model: str) -> str:
    return provider


def read(body: bytes, key: bytes = b"") -> Batch:
    return native.read(body, same, batcher(), key, MOST)


def reasons(body: bytes) -> list[tuple[int, str]]:
    return [(one["index"], one["error"]) for one in json.loads(read(body).rejected)]


def totals(*batches: Batch) -> Increments:
    """Everything that batches count, ids or none."""
    found: Increments = {}
    for batch in batches:
        for cell, counts in batch.increments.items():
            held = found.setdefault(cell, [0] * len(counts))
            held[:] = [have + more for have, more in zip(held, counts, strict=True)]
    return found


CELL = (Series("a"), int(NOW // 10))


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        ('{"provider":"a","tokens":7}', [0, 0, 0, 0, 0, 7, 1, 0]),
        ('{"provider":"a","tokens":0}', [0, 0, 0, 0, 0, 0, 1, 0]),
        ('{"provider":"a","input_tokens":3,"output_tokens":4}', [3, 0, 0, 4, 0, 0, 1, 0]),
        ('{"provider":"a","cache_read_tokens":5}', [0, 5, 0, 0, 0, 0, 1, 0]),
        ('{"provider":"a","cache_write_tokens":5,"input_tokens":1}', [1, 0, 5, 0, 0, 0, 1, 0]),
        ('{"provider":"a","reasoning_tokens":5,"output_tokens":1}', [0, 0, 0, 1, 5, 0, 1, 0]),
        (
            '{"provider":"a","usage":{"prompt_tokens":9,"completion_tokens":2,'
            '"prompt_tokens_details":{"cached_tokens":4}}}',
            [5, 4, 0, 2, 0, 0, 1, 0],
        ),
        ('{"provider":"a","tokens":1,"tokens":2}', [0, 0, 0, 0, 0, 2, 1, 0]),
        ('{"provider":"a","tokens":7,"requests":3}', [0, 0, 0, 0, 0, 7, 3, 0]),
        ('{"provider":"a","requests":3}', [0, 0, 0, 0, 0, 0, 3, 0]),
        ('{"provider":"a","cost_usd":0.1}', [0, 0, 0, 0, 0, 0, 1, 100_000_000]),
        ('{"provider":"a","tokens":7,"cost_usd":1e-9}', [0, 0, 0, 0, 0, 7, 1, 1]),
        (
            '{"provider":"a","usage":{"prompt_tokens":9,"completion_tokens":2,"cost":0.95}}',
            [9, 0, 0, 2, 0, 0, 1, 950_000_000],
        ),
        (
            '{"provider":"a","cost_usd":2,"usage":{"prompt_tokens":9,"cost":0.95}}',
            [9, 0, 0, 0, 0, 0, 1, 2_000_000_000],
        ),
    ],
)
def test_an_event_counts_its_tokens_by_kind_requests_and_cost(event: str, counts: Counts) -> None:
    assert read(event.encode()).increments == {CELL: counts}


def test_an_event_counts_for_its_consumer_or_the_one_of_its_request() -> None:
    body = b'{"provider":"a","tokens":1,"consumer":"web"}\n{"provider":"a","tokens":2}'
    asked = Batcher(Series, NOW, 35 * DAY, 128, consumer="batch")
    cells = native.read(body, same, asked, b"", MOST).increments
    assert {series: counts[5] for (series, _), counts in cells.items()} == {
        Series("a", "", "web"): 1,
        Series("a", "", "batch"): 2,
    }


def price(provider: str, model: str, tokens: Tokens, cache_write_1h: int) -> int | None:
    return None if model == "free" else sum(tokens) * 10 + cache_write_1h * 1000


@pytest.mark.parametrize("identity", [{}, {"id": "x"}])
def test_what_does_not_say_its_cost_is_priced_and_what_cannot_be_is_counted(
    identity: dict[str, str],
) -> None:
    priced = Batcher(Series, NOW, 35 * DAY, 128, prices=price)
    written = {"input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 2}}
    sent = [
        {"provider": "a", "tokens": 7},
        {"provider": "a", "tokens": 7, "cost_usd": 1},
        {"provider": "a", "usage": written},
        {"provider": "a", "model": "free", "tokens": 7, "requests": 2},
    ]
    body = json.dumps([{**event, **identity} for event in sent]).encode()
    batch = native.read(body, same, priced, b"", MOST)
    costs = {series.model: counts[COST] for (series, _), counts in batch.increments.items()}
    assert costs == {"": 70 + 1_000_000_000 + 30 + 2000, "free": 0}
    assert priced.unpriced == {("a", "free"): 2}
    assert sum(claim.counts[COST] for claim in batch.claims) == (costs[""] if identity else 0)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ("1", "expected `object`, got `int`"),
        ("null", "expected `object`, got `null`"),
        ('"text"', "expected `object`, got `str`"),
        ("[{}]", "expected `object`, got `array`"),
        ("{}", "object missing required field `provider`"),
        ('{"tokens":1}', "object missing required field `provider`"),
        (
            '{"provider":"a"}',
            "expected tokens, kinds of tokens, usage, requests or cost_usd, got none of them",
        ),
        ('{"provider":"","tokens":1}', "provider: expected `str` of length >= 1, got ''"),
        ('{"provider":5,"tokens":1}', "provider: expected `str`, got 5"),
        (
            '{"provider":" a","tokens":1}',
            "provider: expected printable characters without blanks around, got ' a'",
        ),
        (
            '{"provider":"a\\nb","tokens":1}',
            "provider: expected printable characters without blanks around, got 'a\\nb'",
        ),
        (
            '{"provider":"a\\u202eb","tokens":1}',
            "provider: expected printable characters without blanks around, got 'a\\u202eb'",
        ),
        (
            '{"provider":"' + "a" * 129 + '","tokens":1}',
            "provider: expected at most 128 characters, got 129",
        ),
        (
            '{"provider":"a","model":"' + "m" * 129 + '","tokens":1}',
            "model: expected at most 128 characters, got 129",
        ),
        (
            '{"provider":"a","model":"m\\u0000","tokens":1}',
            "model: expected printable characters without blanks around, got 'm\\x00'",
        ),
        ('{"provider":"a","model":7,"tokens":1}', "model: expected `str`, got 7"),
        ('{"provider":"a","id":5,"tokens":1}', "id: expected `str`, got 5"),
        (
            '{"provider":"a","id":"' + "i" * 513 + '","tokens":1}',
            f"id: expected `str` of length <= 512, got '{'i' * 63}",
        ),
        ('{"provider":"a","tokens":-5}', "tokens: expected `int` >= 0, got -5"),
        (
            '{"provider":"a","tokens":1000000000001}',
            "tokens: expected `int` <= 1000000000000, got 1000000000001",
        ),
        ('{"provider":"a","tokens":1.5}', "tokens: expected `int | null`, got 1.5"),
        ('{"provider":"a","tokens":"1"}', "tokens: expected `int | null`, got '1'"),
        ('{"provider":"a","tokens":true}', "tokens: expected `int | null`, got True"),
        ('{"provider":"a","input_tokens":-1}', "input_tokens: expected `int` >= 0, got -1"),
        ('{"provider":"a","output_tokens":{}}', "output_tokens: expected `int`, got {}"),
        (
            '{"provider":"a","tokens":1,"output_tokens":1}',
            "expected tokens, kinds of tokens or usage, got tokens and kinds of tokens",
        ),
        (
            '{"provider":"a","tokens":1,"usage":{"prompt_tokens":1}}',
            "expected tokens, kinds of tokens or usage, got tokens and usage",
        ),
        ('{"provider":"a","usage":null}', "usage: expected `object`, got `null`"),
        ('{"provider":"a","usage":"text"}', "usage: expected `object`, got `str`"),
        (
            '{"provider":"a","usage":{"words":1}}',
            "usage: no token counts of a known format, got fields ['words']",
        ),
        (
            '{"provider":"a","usage":{"prompt_tokens":-1}}',
            "usage: prompt_tokens: expected a whole number from 0 to 9007199254740992, got -1",
        ),
        (
            '{"provider":"a","usage":{"prompt_tokens":9007199254740992}}',
            "input tokens: expected 0 to 1000000000000, got 9007199254740992",
        ),
        (
            '{"provider":"a","tokens":1,"prompt":"text"}',
            "object contains unknown field `prompt`",
        ),
        (
            '{"provider":"a","tokens":1,"timestamp":"yesterday"}',
            "timestamp: expected Unix seconds or RFC 3339 with a zone, got 'yesterday'",
        ),
        (
            '{"provider":"a","tokens":1,"timestamp":"2026-09-21T13:33:20"}',
            "timestamp: expected Unix seconds or RFC 3339 with a zone, got '2026-09-21T13:33:20'",
        ),
        (
            '{"provider":"a","tokens":1,"timestamp":true}',
            "timestamp: expected `float | str | null`, got True",
        ),
        (
            '{"provider":"a","tokens":1,"timestamp":1e300}',
            "timestamp: expected Unix seconds or RFC 3339, got 1e+300",
        ),
        (
            '{"provider":"a","tokens":1,"timestamp":1e999}',
            "timestamp: number out of range",
        ),
        (
            '{"provider":"a","tokens":1,"timestamp":1790000301}',
            "timestamp: 301 s ahead of this clock, at most 300 allowed, got 1790000301.0",
        ),
        (
            '{"provider":"a","tokens":1,"timestamp":1786975999}',
            "timestamp: older than the retention of 35d, got 1786975999.0",
        ),
        ('{"provider":"a","tokens":NaN}', "JSON is malformed: invalid character (byte 25)"),
        ('{"provider":"a","tokens":1', "input data was truncated"),
        ('{"provider":"a","tokens":1}}', "JSON is malformed: trailing characters (byte 27)"),
        ('{"provider":"a","tokens":1},', "JSON is malformed: trailing characters (byte 27)"),
        ("\ufeff" + GOOD.decode(), "JSON is malformed: invalid character (byte 0)"),
        (
            '{"provider":"\\ud800","tokens":1}',
            "JSON is malformed: unexpected end of escaped utf-16 surrogate pair (byte 19)",
        ),
        ('{"provider":"a","usage":' + "[" * 5000, "expected JSON nested less deeply"),
    ],
)
def test_a_bad_event_is_refused_by_what_is_wrong_where_and_the_value(
    event: str, error: str
) -> None:
    found = reasons(b"\n".join((GOOD, event.encode(), GOOD)))
    assert [index for index, _ in found] == [1]
    # Where a line ends, the decoder may be one byte further.
    assert found[0][1].replace("(byte 28)", "(byte 27)") == error


def test_what_is_not_utf8_is_refused_by_its_first_bad_byte() -> None:
    assert reasons(b'{"provider":"\xff","tokens":1}') == [(0, "expected UTF-8, got the byte 0xff")]


def test_a_refusal_repeats_little_of_what_was_sent() -> None:
    names = b'{"provider":"a","tokens":1,"' + b"x" * 100_000 + b'":1}'
    values = b'{"provider":"a","tokens":"' + b"x" * 100_000 + b'"}'
    assert len(read(names + b"\n" + values).rejected) < 500


def test_good_events_count_beside_bad_ones_in_the_order_they_came() -> None:
    batch = read(b"[1," + GOOD + b',{"provider":""},' + GOOD + b"]")
    assert batch.increments == {CELL: [0, 0, 0, 0, 0, 2, 2, 0]}
    assert [one["index"] for one in json.loads(batch.rejected)] == [0, 2]
    assert (batch.events, batch.rejected_count) == (2, 2)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "expected a usage event, an array of them or NDJSON, got nothing"),
        (b" \n\r\n ", "expected a usage event, an array of them or NDJSON, got nothing"),
        (b"[]", "expected a usage event, an array of them or NDJSON, got nothing"),
        (b"[" + GOOD, "expected a JSON array of events: input data was truncated"),
        (
            b"[" + GOOD + b",]",
            "expected a JSON array of events: JSON is malformed: trailing comma in array (byte 29)",
        ),
        (DEEP, "expected a JSON array of events: expected JSON nested less deeply"),
        (b"\n".join([GOOD] * (MOST + 1)), "expected at most 1000 events in a request, got more"),
        (b"1\n" * (MOST + 1), "expected at most 1000 events in a request, got more"),
    ],
)
def test_a_body_without_a_usable_event_is_malformed(body: bytes, error: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        read(body)
    assert str(refused.value) == error


@pytest.mark.parametrize("joint", ["\n", "\r\n", " ", "", "\n\n", "\t\n "])
def test_a_fault_changes_nothing_for_the_events_around_it(joint: str) -> None:
    pretty = '{\n  "provider": "a",\n  "tokens": 1\n}'
    with_usage = '{"provider":"a","usage":{"total_tokens":1}}'
    batch = read(joint.join([GOOD.decode(), pretty, with_usage, GOOD.decode()]).encode())
    assert batch.increments == {CELL: [0, 0, 0, 0, 0, 4, 4, 0]}


# -- properties --

names = st.sampled_from(["a", "b", "Ä", "x/y", 'say "hi"'])
amounts = st.integers(0, MAX_TOKENS)
kinds = st.sampled_from(
    ["input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"]
)
tokens = st.one_of(
    amounts.map(lambda amount: {"tokens": amount}),
    st.dictionaries(kinds, amounts, min_size=1),
    st.tuples(amounts, st.integers(0, 10**6)).map(
        lambda pair: {"usage": {"prompt_tokens": pair[0], "completion_tokens": pair[1]}}
    ),
)
moments = st.one_of(
    st.integers(int(NOW - 30 * DAY), int(NOW + 300)),
    st.sampled_from(["2026-09-20T12:00:00Z", "2026-09-20T14:00:00.5+02:00"]),
)
optional = st.fixed_dictionaries(
    {},
    optional={
        "model": names,
        "id": st.text(max_size=5),
        "timestamp": moments,
        "consumer": names,
        "requests": st.integers(0, 10),
        "cost_usd": st.floats(0, 1e6),
    },
)
events = st.builds(
    lambda provider, said, more: {"provider": provider, **said, **more}, names, tokens, optional
)


def encoded(event: Any) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


@given(st.lists(events, min_size=1, max_size=8), st.sampled_from([b"\n", b"", b"\r\n", b" "]))
def test_events_count_the_same_however_they_are_sent(
    sent: Sequence[dict[str, Any]], joint: bytes
) -> None:
    bodies = [encoded(event) for event in sent]
    alone = [read(body) for body in bodies]
    assert all(one.rejected_count == 0 for one in alone)
    for body in (joint.join(bodies), b"[" + b",".join(bodies) + b"]"):
        together = read(body)
        assert totals(together) == totals(*alone)
        assert together.events == sum(one.events for one in alone)
        assert list(together.claims) == [claim for one in alone for claim in one.claims]


@given(st.lists(events, min_size=1, max_size=8))
def test_the_quick_way_and_the_careful_way_agree(sent: Sequence[dict[str, Any]]) -> None:
    body = b"\n".join(encoded(event) for event in sent)
    quick, careful = read(body), read(body + b"\n0")  # the fault makes it be read with care
    assert totals(quick) == totals(careful)
    assert quick.events == careful.events
    assert json.loads(careful.rejected) == [
        {"index": len(sent), "error": "expected `object`, got `int`"}
    ]


fragments = st.sampled_from(
    [
        *(
            b'{ } [ ] , : " \\ 1 -0 1e9 NaN null true 1e400 \\u0000 \\ud800 \xff \xef\xbb\xbf \x00'
        ).split(b" "),
        *(b'"provider" "tokens" "usage" "id" "timestamp" "a" {"provider":"a","tokens":').split(
            b" "
        ),
        *(
            b"\n",
            b"\r",
            b" ",
            b'{"provider":"a","tokens":1}',
            b'{"provider":"a","id":"x","tokens":1}',
        ),
        *(
            b'{"provider":"',
            b'","tokens":5}',
            b'"usage":{"prompt_tokens":',
            b"9" * 400,
            b"[" * 2000,
        ),
    ]
)
junk = st.lists(fragments, max_size=12).map(b"".join) | st.binary(max_size=40)


@given(junk)
@example(DEEP)
@example(b'{"a":' * 100_000)
@example(b'{"provider":"a","usage":' + DEEP + b"}")
@example(b'{"provider":"a","tokens":' + DEEP + b"]" * len(DEEP) + b"}")
def test_no_body_does_more_harm_than_being_refused(body: bytes) -> None:
    try:
        batch = read(body)
    except MalformedBody:
        return
    assert batch.events + len(batch.claims) + batch.rejected_count > 0
    assert len(json.loads(batch.rejected)) == batch.rejected_count


@given(junk)
def test_events_beside_a_fault_are_those_that_count_without_it(body: bytes) -> None:
    try:
        batch = read(body)
    except MalformedBody:
        return
    if batch.rejected_count or body.lstrip()[:1] == b"[":
        return
    beside = read(body + b"\n0")
    assert totals(beside) == totals(batch)
    assert beside.rejected_count == 1


singles = junk.map(lambda body: b"{" + body + b"}") | events.map(encoded)


@given(st.lists(singles, min_size=2, max_size=5))
@example([b'{"provider":"a}', b'{","tokens":5}', GOOD + b" " + GOOD])
@example([b'{"provider":"a","usage":{}', b'{"x":1}}', GOOD])
@example(
    [b'{"provider":"a","tokens":1}', b'{"provider":"a","tokens":1}{"provider":"b","tokens":2}']
)
def test_events_read_together_get_what_each_would_get_alone(bodies: Sequence[bytes]) -> None:
    bodies = [body for body in bodies if b"\n" not in body]
    together = native.read_plain(b"\n".join(bodies), same, batcher())
    if together is None or together.events != len(bodies):
        return  # then each is read alone
    alone = [read(body) for body in bodies]
    assert [(one.events, len(one.claims), one.rejected_count) for one in alone] == [
        (1, 0, 0)
    ] * len(bodies)
    assert totals(together) == totals(*alone)
