"""The backtest's report in a real Chromium."""

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from exporter.backtest.command import add_arguments, run
from tests.pages.conftest import HOSTILE, LONG, Open

DAY = 86_400
MIDNIGHT = 1_736_121_600


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a report on names of all kinds, some of which ran out on some days."""
    folder = tmp_path_factory.mktemp("report")
    lines = [
        f"{MIDNIGHT + day * DAY + hour * 3600},{name},{100 + hour * (day % 3)}"
        for name in ("openai", LONG, '"' + HOSTILE.replace('"', '""') + '"')
        for day in range(12)
        for hour in range(0, 24, 2)
    ]
    (folder / "usage.csv").write_text("timestamp,provider,tokens\n" + "\n".join(lines) + "\n")
    names = ("openai", LONG, f"'{HOSTILE}'")
    (folder / "budgets.yml").write_text(
        "budgets:\n" + "".join(f"  {name}: 1400\n" for name in names)
    )
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    files = ("usage", f"{folder}/usage.csv"), ("config.file", f"{folder}/budgets.yml")
    options = [f"--{name}={value}" for name, value in (*files, ("report", f"{folder}/r.html"))]
    assert run(parser.parse_args([*options, "--every=1h", "--method=linear"])) == 0
    return f"file://{Path(folder)}/r.html"


def test_it_has_a_row_for_every_budget_whatever_its_name(report: str, opened: Open) -> None:
    page = opened(report)
    rows = page.get_by_role("table").last.get_by_role("row")
    expect(rows).to_have_count(4)
    for name in ("openai", LONG, HOSTILE):
        expect(rows.get_by_role("cell", name=name, exact=True)).to_have_count(1)
    assert page.locator("img").count() == 0


def test_it_fits_every_screen_and_everybody_can_read_it(
    report: str, opened: Open, violations: Callable[[Page], list[str]]
) -> None:
    page = opened(report)
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.emulate_media(color_scheme="light")
        assert violations(page) == [], width
        page.emulate_media(color_scheme="dark")
        assert violations(page) == [], width


def test_no_text_of_a_chart_stands_on_another(report: str, opened: Open) -> None:
    page = opened(report)
    overlaps = page.evaluate(
        """() => [...document.querySelectorAll("svg.chart")].flatMap((chart) => {
          const notes = [...chart.querySelectorAll("text")]
            .map((text) => [text.textContent, text.getBoundingClientRect()]);
          return notes.flatMap(([one, a], at) => notes.slice(at + 1)
            .filter(([, b]) => a.left < b.right && b.left < a.right
                            && a.top + 3 < b.bottom && b.top + 3 < a.bottom)
            .map(([other]) => [one, other]));
        })"""
    )
    assert overlaps == []
