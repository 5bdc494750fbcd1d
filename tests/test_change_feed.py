"""Readers of changes, each at its own pace."""

import pytest

from exporter import change_feed
from exporter.change_feed import ChangeFeed


def test_a_reader_gets_what_was_added_since_with_its_numbers() -> None:
    feed = ChangeFeed()
    for change in (b"a", b"b", b"c"):
        feed.add(change)
    assert feed.since(0) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert feed.since(2) == [(3, b"c")]
    assert feed.since(feed.position) == []


def test_a_reader_that_is_too_far_behind_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_feed, "MAX_KEPT", 2)
    feed = ChangeFeed()
    for change in (b"a", b"b", b"c"):
        feed.add(change)
    assert feed.since(0) is None
    assert feed.since(1) == [(2, b"b"), (3, b"c")]
    assert feed.since(4) is None  # of another feed


def test_changes_are_bounded_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_feed, "MAX_KEPT_BYTES", 10)
    feed = ChangeFeed()
    for _ in range(5):
        feed.add(b"1234")
    assert feed.since(2) is None
    assert feed.since(3) == [(4, b"1234"), (5, b"1234")]


def test_nobody_goes_on_over_a_restart() -> None:
    feed = ChangeFeed()
    feed.add(b"a")
    before = feed.position
    feed.restart()
    assert feed.since(before) is None
    feed.add(b"b")
    assert feed.since(feed.position - 1) == [(feed.position, b"b")]


@pytest.mark.parametrize("text", ["", "1", "x-1", "-", "{}-", "{}-x", "{}--1", "{}-²", "{}-1x"])
def test_an_id_that_is_not_of_this_feed_leads_nowhere(text: str) -> None:
    feed = ChangeFeed()
    feed.add(b"a")
    epoch = feed.id_of(1).partition("-")[0]
    assert feed.position_of(feed.id_of(1)) == 1
    assert ChangeFeed().position_of(feed.id_of(1)) is None
    assert feed.position_of(text.format(epoch)) is None
