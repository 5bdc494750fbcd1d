"""The pages in a real Chromium, by mouse, by keyboard, on a phone, in the dark, without scripts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.running import Exporter
from tests.pages.conftest import HOSTILE, LONG, SLASHED, Open

Violations = Callable[[Page], list[str]]

SOON = 11_000  # milliseconds, after which a page has refreshed itself


def scopes(page: Page) -> list[str]:
    return page.locator("th.scope > a").all_inner_texts()


# -- reading --


@pytest.mark.parametrize("path", ["/", "/providers/openai"])
def test_nothing_needs_scripts_to_be_read(exporter: Exporter, opened: Open, path: str) -> None:
    with_scripts = opened(exporter.url + path).locator("#live").inner_text()
    without = opened(exporter.url + path, java_script_enabled=False).locator("#live").inner_text()
    times = re.compile(r"(in\s|for\s)?\d+\s(s|min|h)\b(\sago)?|\bnow\b|\d\d:\d\d|\s+")
    assert times.sub("", without) == times.sub("", with_scripts)


def test_the_worst_comes_first_and_says_why_and_until_when(
    exporter: Exporter, opened: Open
) -> None:
    page = opened(exporter.url)
    rows = page.locator("table.scopes tbody")
    assert set(scopes(page)[:2]) == {"spent", LONG}
    spent = rows.filter(has=page.get_by_role("link", name="spent", exact=True))
    expect(spent).to_contain_text(re.compile(r"out\s*budget spent\s*for\s\d+"))
    expect(spent).to_contain_text("100 of 100\xa0tokens")
    paused = rows.filter(has=page.get_by_role("link", name=LONG))
    expect(paused).to_contain_text(re.compile(r"by operator: paused <img.*for\s[12]\sh", re.S))
    slow = rows.filter(has=page.get_by_role("link", name="slow"))
    expect(slow).to_contain_text(re.compile(r"throttled\s+for\s\d+"))
    openai = rows.filter(has=page.get_by_role("link", name="openai", exact=True)).first
    expect(openai).to_contain_text("search")
    assert openai.locator("svg.curve-small .usual").count() == 2


def test_a_provider_has_a_page_with_everything_about_it(exporter: Exporter, opened: Open) -> None:
    page = opened(exporter.url)
    page.get_by_role("link", name="openai", exact=True).first.click()
    expect(page).to_have_url(exporter.url + "/providers/openai")
    expect(page.get_by_role("heading", level=1)).to_have_text("openai")
    charts = page.get_by_role("img", name="Course of")
    expect(charts).to_have_count(3)
    expect(page.locator("article").first).to_contain_text("earlier windows in 15 days")
    consumers = page.get_by_role("region", name="Table of consumers")
    expect(consumers.get_by_role("row", name="search")).to_contain_text("82")
    expect(consumers).to_contain_text(HOSTILE)
    expect(page.get_by_role("region", name="Table of models")).to_contain_text("gpt-5")
    expect(page.get_by_role("region", name="Table of limits")).to_contain_text("89")
    page.get_by_role("link", name="All scopes").click()
    expect(page.locator("th.scope").first).to_be_visible()


@pytest.mark.parametrize("name", [SLASHED, HOSTILE, LONG])
def test_a_provider_of_any_name_can_be_reached_and_left(
    exporter: Exporter, opened: Open, name: str
) -> None:
    page = opened(exporter.url)
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page).to_have_url(f"{exporter.url}/providers/{quote(name, safe='')}")
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    assert page.evaluate("getComputedStyle(document.body).margin") == "0px", "its style is missing"
    page.get_by_role("link", name="All scopes").click()
    expect(page).to_have_url(exporter.url + "/")


def test_an_address_typed_by_hand_needs_no_quoting(exporter: Exporter, opened: Open) -> None:
    page = opened(f"{exporter.url}/providers/team/a%3Fb%23c")
    expect(page.get_by_role("heading", level=1)).to_have_text(SLASHED)
    page.get_by_role("link", name="All scopes").click()
    expect(page).to_have_url(exporter.url + "/")


def test_names_are_text_whatever_is_in_them(exporter: Exporter, opened: Open) -> None:
    for path in ("/", f"/providers/{quote(HOSTILE, safe='')}", "/?q=" + quote(HOSTILE)):
        page = opened(exporter.url + path)
        assert page.locator("img").count() == 0
        assert "llm-quota-exporter" in page.title()
        expect(page.locator("#live")).to_contain_text(HOSTILE)


def test_no_script_but_its_own_runs_in_a_page(exporter: Exporter, opened: Open) -> None:
    page = opened(exporter.url, allowed="Executing inline script violates")
    blocked = page.evaluate(
        """() => new Promise((done) => {
          addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.body.append(script);
        })"""
    )
    assert blocked == "script-src-elem"
    assert page.evaluate("window.ran") is None


# -- asking --


def test_typing_searches_at_once_and_keeps_the_address(exporter: Exporter, opened: Open) -> None:
    page = opened(exporter.url)
    before = len(scopes(page))
    page.evaluate("window.same = true")
    page.get_by_role("searchbox").press_sequentially("gpt-5 open")
    page.clock.fast_forward(1000)
    expect(page.locator("th.scope")).to_have_count(1)
    expect(page.get_by_role("status")).to_have_text(re.compile("^1 of "))
    assert page.evaluate("window.same"), "the page was loaded anew"
    expect(page).to_have_url(exporter.url + "/?q=gpt-5+open")
    page.get_by_role("searchbox").fill("nobody has this name")
    page.clock.fast_forward(1000)
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("th.scope")).to_have_count(before)


def test_a_click_sorts_and_another_shows_one_condition(exporter: Exporter, opened: Open) -> None:
    page = opened(exporter.url)
    page.get_by_role("link", name="Scope", exact=True).click()
    expect(page.get_by_role("columnheader", name="Scope")).to_have_attribute(
        "aria-sort", "ascending"
    )
    assert scopes(page) == sorted(scopes(page))
    page.get_by_role("link", name=re.compile("^throttled")).click()
    expect(page.locator("th.scope")).to_have_text([re.compile("slow")])
    page.get_by_role("combobox").select_option("used")
    expect(page).to_have_url(re.compile(r"show=throttled"))
    expect(page).to_have_url(re.compile(r"sort=used"))


def test_search_and_sort_work_without_scripts(exporter: Exporter, opened: Open) -> None:
    page = opened(exporter.url, java_script_enabled=False)
    page.get_by_role("searchbox").fill("spent")
    page.get_by_role("button", name="Show").click()
    assert scopes(page) == ["spent"]
    page.get_by_role("link", name="Used of budget").click()
    expect(page).to_have_url(exporter.url + "/?q=spent&sort=used")
    assert scopes(page) == ["spent"]


def test_the_keyboard_is_enough(exporter: Exporter, opened: Open) -> None:
    page = opened(exporter.url)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("spent")
    page.keyboard.press("Enter")
    expect(page.locator("th.scope")).to_have_count(1)
    page.locator("th.scope a").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(exporter.url + "/providers/spent")


# -- staying up to date --


def test_a_page_refreshes_itself_and_leaves_the_focus_where_it_is(
    exporter: Exporter, opened: Open
) -> None:
    page = opened(exporter.url + "/?q=team/a")
    expect(page.locator("td.usage")).to_contain_text(re.compile(r"^\d+ of 50"))
    page.get_by_role("link", name=SLASHED).focus()
    exporter.push({"provider": SLASHED, "tokens": 1, "requests": 40})
    page.get_by_text("What was received").click()
    page.get_by_role("link", name=SLASHED).focus()
    page.clock.fast_forward(SOON)
    expect(page.locator("td.usage")).to_contain_text(re.compile(r"^4\d of 50"))
    expect(page.get_by_role("region", name="Table of what was received")).to_be_visible()
    expect(page.get_by_role("link", name=SLASHED)).to_be_focused()


def test_a_page_that_cannot_be_refreshed_says_since_when(tmp_path: Path, opened: Open) -> None:
    with Exporter(tmp_path, "budgets: {openai: 100}\n") as exporter:
        page = opened(exporter.url, allowed="the server responded with a status of 503")
        expect(page.locator("#stale")).to_be_hidden()
        page.route("**/*", lambda route: route.fulfill(status=503))
        page.clock.fast_forward(SOON)
        expect(page.get_by_role("alert")).to_contain_text(
            re.compile("^Not refreshed since .*: it answers 503")
        )
        page.unroute("**/*")
        page.clock.fast_forward(SOON)
        expect(page.locator("#stale")).to_be_hidden()
        page.close()


# -- on every screen, for everybody --

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
PATHS = {"status": "/", "provider": "/providers/openai", "long": f"/providers/{LONG}"}


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_wider_than_the_screen(exporter: Exporter, opened: Open, path: str) -> None:
    page = opened(exporter.url + PATHS[path])
    for width in (390, 768, 1024, 1280, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        rights = page.evaluate(
            """() => [...document.querySelectorAll("table.scopes :is(td, th)")]
              .map((cell) => cell.getBoundingClientRect().right)"""
        )
        assert max(rights, default=0) <= width


def test_a_phone_shows_used_budget_and_when_it_runs_out(exporter: Exporter, opened: Open) -> None:
    page = opened(exporter.url + "/?q=spent", 390)
    for text in ("100 of 100\xa0tokens", "Runs out", "Resets", "out"):
        shown = page.locator("table.scopes").get_by_text(text, exact=text == "out").first
        if text in ("Runs out", "Resets"):  # written by the style
            shown = page.locator(f'td[data-label="{text}"]').first
        box = shown.bounding_box()
        assert box is not None, text
        assert 0 <= box["x"] <= box["x"] + box["width"] <= 390, text
        assert box["y"] + box["height"] < 900, f"{text} is below the first screen"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_empty_meter_is_not_taken_for_a_full_one(
    exporter: Exporter, opened: Open, scheme: str
) -> None:
    page = opened(exporter.url, color_scheme=scheme)

    def light(selector: str, what: str) -> float:
        colour = page.locator(selector).first.evaluate(f"e => getComputedStyle(e).{what}")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 / 255

    background = light("body", "backgroundColor")
    track = abs(light(".meter .track", "fill") - background)
    fill = abs(light(".meter.calm .fill", "fill") - background)
    assert 0.05 < track < fill - 0.1


@pytest.mark.parametrize("path", [*PATHS.values(), "/?q=nothing", "/providers/nobody"])
def test_a_page_is_accessible(
    exporter: Exporter, opened: Open, violations: Violations, path: str
) -> None:
    allowed = "status of 404" if path == "/providers/nobody" else ""
    page = opened(exporter.url + path, allowed=allowed)
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == [], (width, scheme)


def test_a_misspelt_name_is_not_shown_as_a_healthy_provider(
    exporter: Exporter, opened: Open
) -> None:
    assert exporter.provider("opnai")["known"] is False
    page = opened(exporter.url + "/providers/opnai", allowed="status of 404")
    expect(page.locator("#live")).to_contain_text("Nothing is known of opnai")
    page.get_by_role("link", name="openai").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("openai")


def test_an_exporter_that_knows_nobody_says_so(
    tmp_path: Path, opened: Open, violations: Violations
) -> None:
    with Exporter(tmp_path) as exporter:
        page = opened(exporter.url)
        expect(page.get_by_text("Nothing has been pushed yet")).to_be_visible()
        assert violations(page) == []
