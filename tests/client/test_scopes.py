"""What follows for a request from what the exporter says of scopes."""

from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client import scopes
from exporter.client.event_stream import EventStream, ServerEvent
from exporter.client.scopes import Entry, ScopeTable, WholeState

PATTERNS = st.sampled_from([None, "", "a", "b", "a*", "*", "?"])
NAMES = st.sampled_from(["", "a", "b", "ab"])
entries = st.builds(
    Entry,
    provider=st.sampled_from(["p", "q"]),
    state=st.sampled_from(["available", "quota_exhausted"]),
    model=PATTERNS,
    consumer=PATTERNS,
    probability=st.sampled_from([None, 0.0, 0.5, 0.9]),
)
QUESTIONS = [(p, m, c) for p in "pq" for m in ("", "a", "b", "ab") for c in ("", "a", "b", "ab")]


@given(st.lists(entries), st.lists(entries))
def test_changes_one_by_one_come_to_what_the_whole_says(first, changes):
    table = ScopeTable(WholeState(first))
    for change in changes:
        for question in QUESTIONS[::5]:
            table.outlook(*question)
        table = table.with_changes([change])
    whole = ScopeTable(WholeState(first + changes))
    together = ScopeTable(WholeState(first)).with_changes(changes)
    for question in QUESTIONS:
        answer = table.answers.get(question) or table.outlook(*question)
        assert answer == whole.outlook(*question) == together.outlook(*question)


@given(st.lists(entries, max_size=5))
def test_a_scope_that_is_wider_refuses_whatever_a_narrower_one_does(given_entries):
    table = ScopeTable(WholeState(given_entries))
    wider = [Entry(one.provider, one.state, probability=one.probability) for one in given_entries]
    out = {one.provider for one in wider if one.state == "quota_exhausted"}
    for question in QUESTIONS:
        if table.outlook(*question).out_until > 0:
            assert question[0] in out


def test_answers_are_bounded(monkeypatch):
    monkeypatch.setattr(scopes, "MAX_ANSWERS", 3)
    table = ScopeTable()
    for number in range(10):
        table.outlook("p", str(number), "")
        assert len(table.answers) <= 3


def test_scopes_are_bounded(monkeypatch):
    monkeypatch.setattr(scopes, "MAX_SCOPES", 3)
    many = [Entry(str(number), "quota_exhausted") for number in range(4)]
    with pytest.raises(ValueError, match="more than 3 scopes"):
        ScopeTable(WholeState(many))
    with pytest.raises(ValueError, match="more than 3 scopes"):
        ScopeTable(WholeState(many[:3])).with_changes(many[3:])


STREAM = (
    b": hello\r\n\r\nevent: state\r\nid: 1\r\ndata: {\r\ndata:}\r\n\r\n"
    b": heartbeat\n\nretry: 5\n\nevent: change\ndata: [1]\n\nevent: nothing\n\ndata: unnamed\n\n"
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_in_pieces_of_any_size(cuts):
    stream, edges = EventStream(), sorted({0, len(STREAM), *cuts})
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert [event for piece in pieces for event in stream.feed(piece)] == [
        ServerEvent("state", b"{\n}"),
        ServerEvent("change", b"[1]"),
        ServerEvent("", b"unnamed"),
    ]


@pytest.mark.parametrize("pieces", [[b"data: 123456\n"] * 2, [b"12345678901"], [b": 12345"] * 2])
def test_an_event_without_end_is_refused(pieces):
    stream = EventStream(limit=10)
    with pytest.raises(ValueError, match="an event of more than 10 bytes"):
        list(chain.from_iterable(map(stream.feed, pieces)))
