"""Moments at which things end."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from exporter.expiry_queue import ExpiryQueue

KEYS = st.sampled_from("abc")
STEPS = st.lists(
    st.one_of(
        st.tuples(KEYS, st.integers(0, 20).map(float)),
        st.integers(0, 20).map(float),
    ),
    max_size=300,
)


@given(STEPS)
def test_every_key_ends_once_at_the_end_that_was_set_last(
    steps: list[tuple[str, float] | float],
) -> None:
    queue, expected = ExpiryQueue[str](), dict[str, float]()
    for step in steps:
        if isinstance(step, tuple):
            queue.set(*step)
            expected.update([step])
        else:
            ended = []
            while (key := queue.pop(step)) is not None:
                ended.append(key)
            assert sorted(ended) == sorted(one for one, end in expected.items() if end <= step)
            expected = {one: end for one, end in expected.items() if end > step}
        assert queue.next_end <= min(expected.values(), default=inf)


def test_nothing_ends_that_has_no_end() -> None:
    queue = ExpiryQueue[str]()
    queue.set("a", inf)
    assert queue.next_end == inf
    assert queue.pop(1e18) is None
