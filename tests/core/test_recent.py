"""Who used how much within the last hour."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.core.recent import RecentUse
from exporter.core.series import Series
from exporter.core.slots import COARSE_SECONDS, FINE_SECONDS, WIDTH, Increments, blocks_of, merge

NOW = 1_760_000_100.0
A, B = Series("openai", "gpt-5", "search"), Series("openai", "gpt-5", "batch")


def used(series: Series, seconds_ago: float, tokens: int) -> Increments:
    return {(series, int((NOW - seconds_ago) // FINE_SECONDS)): [tokens] + [0] * (WIDTH - 1)}


def tokens(recent: RecentUse, now: float = NOW) -> dict[Series, int]:
    return {series: counts[0] for series, counts in recent.totals(now).items()}


def test_every_series_has_what_it_used_within_the_hour() -> None:
    recent = RecentUse()
    for one in (used(A, 10, 5), used(A, 1800, 7), used(B, 3000, 11)):
        recent.add(one, NOW)
    assert tokens(recent) == {A: 12, B: 11}


def test_what_is_older_than_an_hour_is_neither_counted_nor_kept() -> None:
    recent = RecentUse()
    recent.add(used(A, 3600 + COARSE_SECONDS, 5), NOW)
    recent.add(used(B, 60, 7), NOW)
    assert tokens(recent) == {B: 7}
    assert tokens(recent, NOW + 3600) == {}


def test_a_total_does_not_change_with_later_use() -> None:
    recent = RecentUse()
    recent.add(used(A, 10, 5), NOW)
    before = recent.totals(NOW)
    recent.add(used(A, 10, 5), NOW)
    assert before[A][0] == 5


@given(
    st.lists(
        st.tuples(st.sampled_from([A, B]), st.integers(0, 7200), st.integers(1, 1000)), max_size=20
    )
)
def test_stored_history_says_what_counting_said(uses: list[tuple[Series, int, int]]) -> None:
    increments: Increments = {}
    for one in uses:
        merge(increments, used(*one))
    counted, loaded = RecentUse(), RecentUse()
    counted.add(increments, NOW)
    for block in blocks_of(increments, NOW):
        loaded.load(block, NOW)
    assert counted.totals(NOW) == loaded.totals(NOW)
