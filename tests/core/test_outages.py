"""When providers were out."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outages import MAX_SPANS, Outages, revised
from exporter.core.scope import Scope

NOW = 1_736_121_600.0
OPENAI = Scope("openai")


def test_an_outage_lasts_until_it_was_announced_to_or_was_seen_ending() -> None:
    outages = Outages()
    assert outages.note(OPENAI, NOW + 1000, NOW)
    assert outages.of(OPENAI) == ((NOW, NOW + 1000),)
    assert not outages.note(OPENAI, None, NOW + 3000)
    assert outages.note(OPENAI, NOW + 7000, NOW + 5000)
    assert not outages.note(OPENAI, NOW + 7000, NOW + 5500)
    assert outages.note(OPENAI, None, NOW + 6000)
    assert not outages.note(OPENAI, None, NOW + 6001)
    assert outages.of(OPENAI) == ((NOW, NOW + 1000), (NOW + 5000, NOW + 6000))


def test_another_end_of_the_same_outage_replaces_the_first() -> None:
    outages = Outages()
    outages.note(OPENAI, NOW + 1000, NOW)
    assert outages.note(OPENAI, NOW + 500, NOW + 10)
    assert not outages.note(OPENAI, NOW + 500, NOW + 20)
    assert outages.of(OPENAI) == ((NOW, NOW + 500),)


def test_an_end_that_moves_by_less_than_a_forecast_sees_is_no_news() -> None:
    outages = Outages()
    outages.note(OPENAI, NOW + 1000, NOW)
    assert not any(outages.note(OPENAI, NOW + 1000 + later, NOW + later) for later in range(300))
    assert outages.note(OPENAI, NOW + 1300, NOW + 300)
    assert outages.of(OPENAI) == ((NOW, NOW + 1300),)


def test_outages_in_quick_succession_are_one() -> None:
    outages = Outages()
    for second in range(0, 3000, 200):
        assert outages.note(OPENAI, NOW + second + 100, NOW + second)
    assert outages.of(OPENAI) == ((NOW, NOW + 2900),)


def test_who_was_never_out_has_no_spans() -> None:
    outages = Outages()
    assert not outages.note(OPENAI, None, NOW)
    assert outages.of(OPENAI) == ()
    assert outages.all() == {}


def test_what_is_older_than_the_history_and_what_is_too_much_is_forgotten() -> None:
    outages = Outages(kept_seconds=1000)
    outages.note(OPENAI, NOW + 1, NOW)
    outages.note(OPENAI, NOW + 2001, NOW + 2000)
    assert outages.of(OPENAI) == ((NOW + 2000, NOW + 2001),)
    outages = Outages()
    for number in range(MAX_SPANS + 2):
        outages.note(OPENAI, NOW + 600 * number + 1, NOW + 600 * number)
    assert len(outages.of(OPENAI)) == MAX_SPANS


def test_of_what_two_replicas_saw_the_later_word_on_each_time_stands() -> None:
    ours, theirs = ((1.0, 4.0), (6.0, 7.0)), ((2.0, 500.0), (0.0, 0.5), (7.0, 9.0), (20.0, 21.0))
    assert revised(ours, theirs) == ((0, 0.5), (1, 4), (6, 7), (20, 21))
    assert revised(ours, ours) == ours
    assert revised(((1.0, 2.0),), ((1.0, 900.0),)) == ((1, 2),)
    assert revised((), theirs) == ()
    many = tuple((10.0 * n, 10.0 * n + 1) for n in range(MAX_SPANS + 5))
    assert len(revised(many[:7], many[7:])) == MAX_SPANS


def test_a_forgotten_provider_takes_only_its_own_outages_along() -> None:
    outages, part, other = Outages(), Scope("openai", "gpt"), Scope("other")
    for scope in (OPENAI, part, other):
        outages.note(scope, NOW + 1, NOW)
    outages.forget("openai")
    assert set(outages.all()) == {other}


@given(
    st.lists(st.tuples(st.integers(0, 900), st.none() | st.integers(1, 2000)), max_size=40),
)
def test_spans_are_in_order_and_apart(said: list[tuple[int, int | None]]) -> None:
    outages, now = Outages(), NOW
    for passed, length in said:
        now += passed
        outages.note(OPENAI, None if length is None else now + length, now)
    for (begin, end), (following, _) in pairwise(outages.of(OPENAI)):
        assert begin <= end <= following
