"""Rejections: of one item each, and bounded however many there are."""

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.intake import rejections
from exporter.intake.reading import MalformedBody, Rejection
from exporter.intake.rejections import MAX_ERROR, MAX_KEPT_BYTES, MAX_LINES, Rejected, RejectionLog

NOW = 1_790_000_000.0


@given(st.lists(st.builds(Rejection, st.integers(0, 10**6), st.text(max_size=600)), max_size=200))
def test_what_is_kept_is_bounded_and_says_how_many_more_there_are(those: list[Rejection]) -> None:
    kept = rejections.encode(those)
    # The first is kept in any case, and a character may take six bytes.
    assert len(kept) <= MAX_KEPT_BYTES + 6 * MAX_ERROR + 100
    found = rejections.decode(kept)
    assert len(found.listed) + found.more == len(those)
    assert [one.index for one in found.listed] == sorted(one.index for one in those)[
        : len(found.listed)
    ]


def test_few_rejections_are_kept_as_a_plain_list() -> None:
    those = [Rejection(3, "b"), Rejection(1, "a")]
    kept = rejections.encode(those)
    assert kept == b'[{"index":1,"error":"a"},{"index":3,"error":"b"}]'
    assert rejections.decode(kept) == Rejected([Rejection(1, "a"), Rejection(3, "b")])
    assert rejections.decode(b"[]") == Rejected([])


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("tokens: expected an integer, got -1"), "tokens: expected an integer, got -1"),
        (msgspec.ValidationError("Expected `int`"), "Expected `int`"),
        (RecursionError("deep"), "expected JSON nested less deeply"),
        (KeyError("a prompt"), "cannot be read (KeyError)"),
        (OverflowError("a prompt"), "cannot be read (OverflowError)"),
        (ZeroDivisionError("a prompt"), "cannot be read (ZeroDivisionError)"),
    ],
)
def test_whatever_a_reader_raises_is_the_rejection_of_one_item(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    rejected: list[Rejection] = []
    for index in range(3):
        with rejections.item(rejected, index):
            if index == 1:
                raise error
    assert rejected == [Rejection(1, said)]
    assert "a prompt" not in str([record.__dict__ for record in caplog.records])


def test_what_is_wrong_with_a_body_as_a_whole_is_no_items_rejection() -> None:
    with pytest.raises(MalformedBody), rejections.item([], 0):
        raise MalformedBody("body: expected JSON")


def test_the_log_has_a_line_a_minute_for_each_source_client_and_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = RejectionLog()
    with caplog.at_level(logging.WARNING):
        for second in range(100):
            log.add(
                "usage", "10.0.0.1", 1, f"tokens: expected an integer, got {second}", NOW + second
            )
        log.add("usage", "10.0.0.2", 5, "tokens: expected an integer, got 'a'", NOW)
        log.add("usage", "10.0.0.2", 5, "id: expected a text, got 3", NOW)
        log.add("litellm", "10.0.0.1", 1, "endTime: expected Unix seconds, got 'a'", NOW)
    said = [
        (fields["source"], fields["client"], fields["items"], fields.get("items_since_last_line"))
        for fields in (record.__dict__["fields"] for record in caplog.records)
    ]
    assert said == [
        ("usage", "10.0.0.1", 1, None),
        ("usage", "10.0.0.1", 1, 59),
        ("usage", "10.0.0.2", 5, None),
        ("usage", "10.0.0.2", 5, None),
        ("litellm", "10.0.0.1", 1, None),
    ]


def test_whatever_is_sent_a_minute_of_the_log_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    log = RejectionLog()
    with caplog.at_level(logging.WARNING):
        for number in range(MAX_LINES + 500):
            log.add("usage", f"10.0.{number}", 1, "why", NOW)
        assert len(caplog.records) == MAX_LINES
        log.add("usage", "10.0.1.1", 1, "why", NOW + 61)
        assert len(caplog.records) == MAX_LINES + 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("tokens: expected `int`, got 'a prompt'", "tokens: expected `int`"),
        (
            "Object contains unknown field `prompt_tokens`",
            "Object contains unknown field `prompt_tokens`",
        ),
        ("Object contains unknown field `tell me: a, b`", "Object contains unknown field"),
        (f"Object contains unknown field `{'a' * 33}`", "Object contains unknown field"),
        ("x" * 1000, "x" * MAX_ERROR + "…"),
    ],
)
def test_a_line_names_the_field_and_never_the_value(
    error: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    RejectionLog().add("usage", "", 1, error, NOW)
    assert caplog.records[0].__dict__["fields"]["error"] == said
