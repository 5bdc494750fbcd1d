"""What all formats share: names, times, identities and the batches they become."""

import json
import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.series import Series
from exporter.core.slots import COST
from exporter.core.usage import Tokens, Usage
from exporter.intake.batching import (
    MAX_TOKENS,
    MAX_TOTAL,
    Batcher,
    check_label,
    check_time,
    digest,
    request_key,
)
from exporter.intake.reading import Rejection

NOW = 1_790_000_000.0
RETENTION = 35 * 86400.0
ONE = Tokens(unspecified=1)


def batcher() -> Batcher:
    return Batcher(Series, NOW, RETENTION, 16)


@given(st.text(max_size=40))
def test_a_label_that_passes_is_short_and_prints(text: str) -> None:
    try:
        check_label("provider", text, 16)
    except ValueError as error:
        said = str(error)
        assert said.startswith("provider: expected ")
        assert said.isprintable()
    else:
        assert len(text) <= 16
        assert text.isprintable()
        assert text == text.strip()


@given(st.floats())
def test_a_moment_that_passes_can_be_counted(timestamp: float) -> None:
    try:
        slot = batcher().slot(timestamp)
    except ValueError as error:
        said = str(error)
        assert said.startswith("timestamp: ")
    else:
        assert NOW - RETENTION <= timestamp <= NOW + 300
        assert slot * 10 <= timestamp < slot * 10 + 10


@pytest.mark.parametrize("timestamp", [math.nan, math.inf, -math.inf, 1e11])
def test_what_is_no_moment_is_refused_as_such(timestamp: float) -> None:
    with pytest.raises(ValueError, match="expected Unix seconds or RFC 3339, got"):
        check_time(timestamp, NOW, RETENTION)


@pytest.mark.parametrize(
    ("usage", "error"),
    [
        (Usage("", ONE), "provider: expected a name, got ''"),
        (Usage("p" * 17, ONE), "provider: expected at most 16 characters, got 17"),
        (
            Usage("a", ONE, model="m\n"),
            "model: expected printable characters without blanks around, got 'm\\n'",
        ),
        (
            Usage("a", Tokens(output=-1)),
            "output tokens: expected 0 to 1000000000000, got -1",
        ),
        (
            Usage("a", Tokens(input=MAX_TOKENS + 1)),
            "input tokens: expected 0 to 1000000000000, got 1000000000001",
        ),
        (
            Usage("a", ONE, timestamp=NOW + 301),
            "timestamp: 301 s ahead of this clock, at most 300 allowed, got 1790000301.0",
        ),
    ],
)
def test_usage_that_cannot_be_counted_is_rejected_at_its_index(usage: Usage, error: str) -> None:
    batch = batcher().batch([(0, Usage("a", ONE)), (7, usage)], [Rejection(3, "before")])
    assert json.loads(batch.rejected) == [
        {"index": 3, "error": "before"},
        {"index": 7, "error": error},
    ]
    assert (batch.events, batch.rejected_count) == (1, 2)


def test_usage_becomes_an_increment_a_claim_or_a_level() -> None:
    batch = batcher().batch(
        [
            (0, Usage("a", ONE)),
            (1, Usage("a", ONE)),
            (2, Usage("a", ONE, id="x")),
            (3, Usage("a", ONE, stream="s", started=5.0)),
        ],
        [],
    )
    cell = (Series("a"), int(NOW // 10))
    assert batch.increments == {cell: [0, 0, 0, 0, 0, 3, 3, 0]}
    assert batch.events == 2
    assert [(one.cell, one.counts) for one in batch.claims] == [(cell, [0, 0, 0, 0, 0, 1, 1, 0])]
    assert [(one.cell, one.started) for one in batch.reports] == [(cell, 5.0)]
    assert batch.rejected == b"[]"


def test_an_id_is_one_providers_own() -> None:
    usages = [(0, Usage("a", ONE, id="x")), (1, Usage("b", ONE, id="x"))]
    first, second = batcher().batch(usages, []).claims
    assert first.digest != second.digest


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_identities_are_16_bytes_of_any_text(some: list[str], others: list[str]) -> None:
    assert len(digest(*some)) == 16
    assert (digest(*some) == digest(*others)) == ("\0".join(some) == "\0".join(others))


def test_a_key_belongs_to_its_source_and_client() -> None:
    keys = {request_key(*one) for one in product(("usage", "litellm"), ("", "a", "b"), ("k", "l"))}
    assert len(keys) == 2 * 3 * 2
    assert request_key("usage", "", "\udcff") == request_key("usage", "", "\udcff")


def test_what_an_event_costs_is_bounded_whatever_its_price() -> None:
    dear = Batcher(Series, NOW, RETENTION, 16, prices=lambda *asked: 10**30)
    usage = Usage("openai", ONE, id="a")
    batch = dear.batch([(0, usage)], [])
    assert next(iter(batch.claims)).counts[COST] == MAX_TOTAL
