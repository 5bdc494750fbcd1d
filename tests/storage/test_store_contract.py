"""What every store promises, asked of every store."""

import asyncio
import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.series import Series
from exporter.core.slots import MAX_SUM, REQUESTS, WIDTH, Cell, Counts
from exporter.storage import open_store
from exporter.storage.contract import (
    Answer,
    Batch,
    Changes,
    Committed,
    CumulativeReport,
    DedupEntry,
    StorageError,
    Store,
)
from exporter.storage.group_commit import GroupCommit
from tests.storage.conftest import DEDUPLICATION, RETENTION, Place
from tests.storage.values import (
    GPT,
    NOW,
    OPENAI,
    SLOT,
    bins,
    cell_of,
    claim,
    claiming,
    counts,
    digest,
    events,
    expected,
    lapse,
    level,
    state,
    summed,
    tokens,
    union,
)

EXAMPLES = settings(max_examples=25, deadline=None)

series = st.builds(
    Series,
    st.sampled_from(["openai", "a {b}/ü", "}"]),
    st.sampled_from(["", "gpt:4", "ö"]),
    st.sampled_from(["", 'team "a"', "ö/"]),
)
cells = st.tuples(series, st.integers(SLOT - 1800, SLOT + 30))
numbers = st.lists(st.integers(0, 10**12), min_size=WIDTH, max_size=WIDTH).filter(any)
usage = st.lists(st.tuples(cells, numbers), max_size=12)


def in_groups(batches: Sequence[Batch], sizes: Sequence[int]) -> list[list[Batch]]:
    """The batches as commit groups of the given sizes, over and over."""
    groups, rest, turn = [], list(batches), 0
    while rest:
        size = sizes[turn % len(sizes)]
        groups.append(rest[:size])
        rest, turn = rest[size:], turn + 1
    return groups


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@EXAMPLES
@given(used=usage, sizes=sizes)
def test_totals_and_history_are_the_sum_of_all_events_however_batched(
    place: Place, used: list[tuple[Cell, Counts]], sizes: list[int]
) -> None:
    store = place.empty(NOW)
    for group in in_groups([Batch({cell: added}, 1) for cell, added in used], sizes):
        store.commit(group, NOW)
    assert state(store.load(NOW)) == expected(used)


@EXAMPLES
@given(data=st.data(), used=st.lists(st.tuples(cells, numbers), min_size=1, max_size=8))
def test_events_with_an_id_count_once_in_any_order_and_grouping(
    place: Place, data: st.DataObject, used: list[tuple[Cell, Counts]]
) -> None:
    claims = [DedupEntry(digest(index), *one) for index, one in enumerate(used)]
    resent = data.draw(st.permutations(claims + data.draw(st.lists(st.sampled_from(claims)))))
    split = data.draw(st.integers(1, len(resent)))
    batches = [claiming(*resent[at : at + split]) for at in range(0, len(resent), split)]
    store = place.empty(NOW)
    committed = [
        one for group in in_groups(batches, data.draw(sizes)) for one in store.commit(group, NOW)
    ]
    assert state(store.load(NOW)) == expected(used)
    assert sum(one.answer.accepted for one in committed) == len(claims)
    assert sum(one.answer.duplicates for one in committed) == len(resent) - len(claims)
    assert summed(one.increments for one in committed) == summed(
        {cell: added} for cell, added in used
    )


def test_an_id_is_remembered_within_a_batch_a_group_and_by_a_later_process(place: Place) -> None:
    store = place.empty(NOW)
    first, second = store.commit(
        [claiming(claim("a", 5), claim("a", 5)), claiming(claim("a", 5))], NOW
    )
    assert (first.answer.accepted, first.answer.duplicates) == (1, 1)
    assert (second.answer.accepted, second.answer.duplicates) == (0, 1)
    assert second.increments == {}
    if place.lasting:
        store = place.open(NOW + 60)
        (third,) = store.commit([claiming(claim("a", 5), claim("b", 7))], NOW + 60)
        assert third.answer == Answer(accepted=1, duplicates=1)
        assert tokens(store) == 12
    else:
        assert tokens(store) == 5


def test_a_batch_of_thousands_of_ids_is_counted_once(place: Place) -> None:
    store = place.empty(NOW)
    batch = claiming(*[claim(number, 1) for number in range(5000)])
    more = claiming(*[claim(number, 1) for number in range(2500, 7500)])
    first, second = store.commit([batch, more], NOW)
    assert first.answer == Answer(accepted=5000)
    assert second.answer == Answer(accepted=2500, duplicates=2500)
    assert tokens(store) == 7500


def test_a_request_repeated_under_its_key_gets_the_first_answer(place: Place) -> None:
    store = place.empty(NOW)

    def request() -> Batch:
        both = [claim("a", 1), claim("a", 1), claim("b", 1, cell_of("gemini", "", SLOT))]
        batch = claiming(*both, key=digest("key"), beside=events(3, 10))
        batch.reports, batch.rejected = [level(4)], b'[{"index":7,"error":"\xc3\xbc"}]'
        return batch

    (first,) = store.commit([request()], NOW)
    assert first.answer == Answer(6, 1, 0, b'[{"index":7,"error":"\xc3\xbc"}]')
    again, and_again = store.commit([request(), request()], NOW + 1)
    assert again.answer == and_again.answer == Answer(6, 1, 0, first.answer.rejected, True)
    assert again.increments == {}
    if place.lasting:
        store = place.open(NOW + 2)
        (later,) = store.commit([request()], NOW + 2)
        assert later.answer == again.answer
    assert tokens(store) == 35
    assert tokens(store, "gemini") == 1


def test_the_same_key_changes_nothing_whatever_comes_with_it(place: Place) -> None:
    store = place.empty(NOW)
    first, second = events(1, 10), events(2, 20, cell_of("gemini", "", SLOT))
    first.key = second.key = digest("key")
    second.documents = {"note": b"new"}
    answers = [one.answer for one in store.commit([first, second], NOW)]
    assert answers == [Answer(1), Answer(1, repeated=True)]
    loaded = store.load(NOW)
    assert list(loaded.totals) == [Series("openai", "gpt")]
    assert loaded.documents == {}


def test_a_key_keeps_an_answer_that_holds_nothing_but_rejections(place: Place) -> None:
    store = place.empty(NOW)
    refused = Batch(key=digest("key"), rejected=b'[{"index":0}]')
    (first,) = store.commit([refused], NOW)
    (again,) = store.commit([events(1, 1), refused], NOW)[1:]
    assert first.answer == Answer(0, rejected=b'[{"index":0}]')
    assert again.answer == Answer(0, rejected=b'[{"index":0}]', repeated=True)


@EXAMPLES
@given(data=st.data(), steps=st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_a_cumulative_counter_counts_its_highest_value_in_any_order(
    place: Place, data: st.DataObject, steps: list[int]
) -> None:
    values = [sum(steps[: end + 1]) for end in range(len(steps))]
    reports = data.draw(st.permutations(values + data.draw(st.lists(st.sampled_from(values)))))
    store = place.empty(NOW)
    for group in in_groups([Batch(reports=[level(value)]) for value in reports], data.draw(sizes)):
        store.commit(group, NOW)
    assert tokens(store) == max(values)


def test_a_counter_that_starts_anew_adds_its_whole_value(place: Place) -> None:
    store = place.empty(NOW)
    for tokens_now, started in ((10, NOW), (25, NOW), (4, NOW + 30.5), (9, NOW + 30.5)):
        (one,) = store.commit([Batch(reports=[level(tokens_now, started=started)])], NOW + 60)
        assert one.answer == Answer(accepted=1)
    assert tokens(store) == 25 + 9


def test_a_late_report_of_a_counter_that_has_restarted_adds_nothing(place: Place) -> None:
    store = place.empty(NOW)
    late = level(90, started=NOW)
    store.commit([Batch(reports=[level(4, started=NOW + 30)]), Batch(reports=[late])], NOW + 60)
    store.commit([Batch(reports=[level(5, started=NOW + 30)])], NOW + 60)
    assert tokens(store) == 5


def samples(store: Store, *seen: tuple[float, int]) -> list[int]:
    """What each of these samples of a counter whose beginning nobody knows adds."""
    added = []
    for at, value in seen:
        report = level(value, started=NOW + at, sampled=True)
        (one,) = store.commit([Batch(reports=[report])], NOW + at)
        added.append(sum(sum(total[:REQUESTS]) for total in one.increments.values()))
    return added


def test_a_sampled_counter_counts_from_its_first_sample_on(lasting: Place) -> None:
    store = lasting.empty(NOW)
    report = level(500, started=NOW + 1, sampled=True)
    (one,) = store.commit([Batch(reports=[report])], NOW + 1)
    assert one.answer == Answer(accepted=0, baselines=1)
    assert samples(store, (2, 510)) == [10]
    store = lasting.open(NOW + 10)
    assert samples(store, (10, 510), (11, 512)) == [0, 2]


def test_a_sampled_counter_that_falls_began_anew(place: Place) -> None:
    assert samples(place.empty(NOW), (1, 500), (2, 520), (3, 7), (4, 9)) == [0, 20, 7, 2]


def test_samples_that_two_send_of_one_counter_count_once(place: Place) -> None:
    seen = ((1.0, 500), (1.3, 503), (1.0, 500), (2.0, 510), (1.9, 509), (2.0, 510), (2.3, 513))
    assert samples(place.empty(NOW), *seen) == [0, 3, 0, 7, 0, 0, 3]


def test_a_late_sample_from_before_a_counter_began_anew_adds_nothing(place: Place) -> None:
    assert samples(place.empty(NOW), (1, 500), (3, 4), (2, 505), (4, 6)) == [0, 4, 0, 2]


def test_kinds_of_one_counter_rise_by_no_more_than_their_sum(place: Place) -> None:
    store = place.empty(NOW)
    # The second is late; the third tells cached tokens apart from the rest only afterwards.
    for kinds in ([10, 5], [8, 6], [11, 7], [6, 13]):
        report = CumulativeReport(
            digest("stream"), NOW, cell_of("openai", "", SLOT), [*kinds, 0, 0, 0, 0, 1, 0]
        )
        store.commit([Batch(reports=[report])], NOW)
    assert store.load(NOW).totals[Series("openai")] == [11, 8, 0, 0, 0, 0, 1, 0]


def test_a_counter_from_before_the_store_is_a_baseline_and_counts_from_then_on(
    lasting: Place,
) -> None:
    store = lasting.empty(NOW)
    old = NOW - 1000
    (first,) = store.commit([Batch(reports=[level(500, started=old)])], NOW)
    assert first.answer == Answer(accepted=0, baselines=1)
    assert first.increments == {}
    store = lasting.open(NOW + 10)
    (second,) = store.commit([Batch(reports=[level(530, started=old)])], NOW + 10)
    assert second.answer == Answer(accepted=1)
    assert tokens(store) == 30


def test_a_counter_older_than_the_retention_is_a_baseline_since_it_may_be_forgotten(
    place: Place,
) -> None:
    store = place.empty(NOW)
    later = NOW + RETENTION + 7200
    lapse(store, NOW, later)
    (one,) = store.commit([Batch(reports=[level(500, started=NOW + 1)])], later)
    assert one.answer == Answer(accepted=0, baselines=1)


def test_sums_stay_put_at_the_largest_alike_in_every_store(place: Place) -> None:
    store = place.empty(NOW)
    beside = cell_of("gemini", "", SLOT)
    most = [Batch({GPT: [MAX_SUM] * WIDTH}, 1)] * 9  # their sum has more than 64 bits
    for _ in range(2):
        *_, last = store.commit([*most, events(1, 7, beside)], NOW)
        assert last.answer == Answer(1)
    store.commit([claiming(claim("a", 2**53), claim("a", 2**53), key=digest("key"))], NOW)
    loaded = store.load(NOW)
    assert loaded.totals == {GPT[0]: [MAX_SUM] * WIDTH, beside[0]: [14, *[0] * 5, 2, 0]}
    assert {count for place, count in bins(loaded.blocks).items() if place[0] == GPT[0]} == {
        MAX_SUM
    }
    (again,) = store.commit([claiming(claim("a", 2**53))], NOW)
    assert again.answer == Answer(0, duplicates=1)


def test_the_largest_counters_count_and_keep_nobody_from_counting(place: Place) -> None:
    store = place.empty(NOW)
    beside = cell_of("gemini", "", SLOT)
    for value in (2**53 - 1, 2**53):
        report = CumulativeReport(digest("stream"), NOW, OPENAI, [value, *[0] * 5, value, value])
        *_, last = store.commit([Batch(reports=[report]), events(1, 7, beside)], NOW)
        assert last.answer == Answer(1)
    assert store.load(NOW).totals == {
        OPENAI[0]: [2**53, *[0] * 5, 2**53, 2**53],
        beside[0]: [14, *[0] * 5, 2, 0],
    }


def test_a_batch_that_cannot_be_stored_for_its_own_sake_fails_alone(place: Place) -> None:
    store = place.empty(NOW)
    unspeakable = cell_of("\ud800", "", SLOT)
    batches = [
        claiming(claim("a", 5), key=digest("key")),
        events(1, 1, unspeakable),
        claiming(claim("b", 7), claim("a", 5)),
    ]

    async def commit() -> list[Committed | StorageError]:
        loop = asyncio.get_running_loop()
        commits = GroupCommit(store, loop, lambda: NOW)
        told = [loop.create_future() for _ in batches]
        for batch, future in zip(batches, told, strict=True):
            commits.submit(batch, future.set_result)
        outcomes = await asyncio.wait_for(asyncio.gather(*told), 10)
        assert commits.health.up
        assert await commits.call(lambda store: tokens(store)) == 12
        await commits.close()
        return list(outcomes)

    first, failed, last = asyncio.run(commit())
    assert isinstance(first, Committed)
    assert isinstance(failed, StorageError)
    assert isinstance(last, Committed)
    assert (first.answer, last.answer) == (Answer(1), Answer(1, duplicates=1))
    place.empty(NOW)


def test_late_usage_is_added_to_the_block_of_its_time(lasting: Place) -> None:
    store = lasting.empty(NOW)
    old = cell_of("openai", "gpt", SLOT - 20 * 8640)  # twenty days
    for _ in range(2):
        store.commit([events(1, 7, old)], NOW)
        store = lasting.open(NOW)
    series, second = old[0], old[1] * 10
    assert bins(store.load(NOW).blocks) == {
        (series, "c", second // 86400, 0, second % 86400 // 300): 14,
        (series, "c", second // 86400, REQUESTS, second % 86400 // 300): 2,
    }


def test_history_past_its_time_is_dropped_and_totals_stay(lasting: Place) -> None:
    store = lasting.empty(NOW)
    store.commit([events(1, 7), events(1, 3, cell_of("openai", "gpt", SLOT - 30 * 8640))], NOW)
    store.load(NOW)
    before = 0
    for age, tiers in ((7 * 3600, ["c"] * 4), (10 * 86400, ["c"] * 2), (40 * 86400, [])):
        lapse(store, NOW + before, NOW + age)
        before = age
        store = lasting.open(NOW + age)
        assert sorted(tier for _, tier, *_ in bins(store.load(NOW + age).blocks)) == tiers
    assert store.load(NOW).totals == {Series("openai", "gpt"): [10, 0, 0, 0, 0, 0, 2, 0]}


@EXAMPLES
@given(
    steps=st.lists(st.floats(60, DEDUPLICATION), min_size=1, max_size=8), start=st.floats(0, 1e5)
)
def test_an_id_and_a_key_are_remembered_for_the_deduplication_period(
    place: Place, steps: list[float], start: float
) -> None:
    store = place.empty(NOW)
    now = NOW + start
    keyed = claiming(claim("a", 1), key=digest("key"))
    store.prune(now)
    store.commit([keyed], now)
    age = 0.0
    for step in steps:
        age += step
        store.prune(now + age)
        if age <= DEDUPLICATION:
            by_key, by_id = store.commit([keyed, claiming(claim("a", 1))], now + age)
            assert by_key.answer == Answer(1, repeated=True)
            assert by_id.answer == Answer(0, duplicates=1)


def test_an_id_is_forgotten_in_the_end(place: Place) -> None:
    store = place.empty(NOW)
    store.commit([claiming(claim("a", 1))], NOW)
    for periods in (1, 2, 3):
        lapse(store, NOW + (periods - 1) * DEDUPLICATION, NOW + periods * DEDUPLICATION)
        store.commit([events(1, 1)], NOW + periods * DEDUPLICATION)
    (again,) = store.commit([claiming(claim("a", 1))], NOW + 3 * DEDUPLICATION)
    assert again.answer == Answer(accepted=1)


@pytest.mark.parametrize("jump", [-400 * 86400, -86400, 86400, 400 * 86400])
def test_a_clock_set_wrong_for_hours_and_then_right_loses_nothing(
    lasting: Place, jump: float
) -> None:
    store = lasting.empty(NOW)
    month = [cell_of("openai", "gpt", SLOT - 8640 * day) for day in range(30)]
    store.commit([claiming(claim("a", 1)), *[events(1, 7, one) for one in month]], NOW)
    before = state(store.load(NOW))
    store = lasting.open(NOW + jump)  # a boot without a time server, then NTP
    store.load(NOW + jump)
    lapse(store, NOW + jump, NOW + jump + 2 * 3600)
    later = NOW + 2 * 3600
    store.prune(later)
    assert state(store.load(later)) == before
    (again,) = lasting.open(later).commit([claiming(claim("a", 1))], later)
    assert again.answer.duplicates == 1


def test_a_store_begun_under_a_clock_ahead_counts_new_counters_once_it_is_right(
    lasting: Place,
) -> None:
    lasting.empty(NOW + 86400)
    store = lasting.open(NOW)
    store.prune(NOW)
    (one,) = store.commit([Batch(reports=[level(5, started=NOW + 1)])], NOW + 2)
    assert one.answer == Answer(1)


def test_of_a_document_the_last_body_is_kept(lasting: Place) -> None:
    store = lasting.empty(NOW)
    bodies = [Batch(documents={"a/é": body, "b": b""}) for body in (b"1", b"\x00\xff2")]
    store.commit(bodies, NOW)
    store.commit([Batch(documents={"c:d": b"3"})], NOW)
    store = lasting.open(NOW)
    assert store.load(NOW).documents == {"a/é": b"\x00\xff2", "b": b"", "c:d": b"3"}


def test_a_document_is_merged_with_what_is_stored(place: Place) -> None:
    store = place.empty(NOW, union)
    store.commit([Batch(documents={"a": b"1", "b": b"x"}), Batch(documents={"a": b"2"})], NOW)
    store.commit([Batch(documents={"a": b"0"}), Batch(documents={"a": b"3", "c": b"y"})], NOW)
    assert store.load(NOW).documents == {"a": b"0 1 2 3", "b": b"x", "c": b"y"}


def test_documents_of_a_repeated_request_are_not_in_those_of_others(place: Place) -> None:
    store = place.empty(NOW, union)
    first = Batch(documents={"a": b"1"}, key=digest("key"))
    again = Batch(documents={"a": b"again"}, key=digest("key"))
    store.commit([first, again, Batch(documents={"a": b"2"})], NOW)
    store.commit([again, Batch(documents={"a": b"3"}), again], NOW)
    store.commit([Batch(documents={"a": b"4"})], NOW)
    assert store.load(NOW).documents == {"a": b"1 2 3 4"}


def test_a_store_remembers_when_it_began(lasting: Place) -> None:
    lasting.empty(NOW - 5000.5)
    assert lasting.open(NOW).created == NOW - 5000.5


def test_only_a_shared_store_reports_changes(place: Place) -> None:
    store = place.empty(NOW)
    store.load(NOW)
    store.commit([events(1, 7)], NOW)
    changes = store.changes(NOW)
    if store.shared:
        assert changes is not None
        assert changes == Changes({GPT: counts(7)})
    else:
        assert changes is None


def test_only_a_store_that_forgets_warns(place: Place) -> None:
    warnings = place.empty(NOW).warnings
    assert warnings == (
        () if place.lasting else ("memory://: all counts are lost when the process ends",)
    )


REPLICAS = "storage.url: replicas: expected a number, and none in a cluster, got "


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://x", "storage.url: expected sqlite:///path, memory:// or redis://host, got "),
        ("sqlite:///", "storage.url: sqlite:/// needs a path, got 'sqlite:///'"),
        ("redis://h?replicas=x", REPLICAS + "'x'"),
        ("redis+cluster://h?replicas=1", REPLICAS + "'1'"),
        ("redis://:se/cret@h", "storage.url: expected redis://[[user]:password@]host[:port]"),
        ("redis://:secret@127.0.0.1:1/?colour=red", "storage.url: redis://127.0.0.1:1/: "),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_the_reason(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        open_store(url, retention=RETENTION, deduplication=DEDUPLICATION, now=NOW)
    assert "cret" not in str(error.value)
