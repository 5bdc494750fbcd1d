"""The table of docs/intake.md: a run of some clients leaves the rows of the others."""

import pytest

from tests.clients.__main__ import HEAD, differing, written

GEMINI, OPENLIT, LANGFUSE = (
    f"| {name} | 1 | 150 |\n" for name in ("Gemini CLI", "OpenLIT", "Langfuse")
)


def page(*rows: str) -> str:
    return f"before\n\n{HEAD}{''.join(rows)}\nafter\n"


def test_a_row_takes_the_place_of_its_client() -> None:
    newer = OPENLIT.replace("150", "151")
    assert written(page(OPENLIT, GEMINI), [newer]) == page(newer, GEMINI)


def test_a_new_row_stands_where_the_client_does_among_the_others() -> None:
    assert written(page(LANGFUSE, GEMINI), [OPENLIT]) == page(OPENLIT, LANGFUSE, GEMINI)


def test_a_row_that_says_something_else_is_told_and_another_version_is_not() -> None:
    rows = [OPENLIT.replace("| 1 |", "| 2 |"), GEMINI.replace("150", "151"), LANGFUSE]
    assert differing(page(OPENLIT, GEMINI), rows) == ["Gemini CLI", "Langfuse"]


def test_a_page_without_a_table_is_told() -> None:
    with pytest.raises(ValueError, match=r"intake\.md: expected a table of clients, got none"):
        written("nothing\n", [OPENLIT])
