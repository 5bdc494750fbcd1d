"""A real browser, before real exporters."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request, sync_playwright

from tests.e2e.running import Exporter
from tests.real import program

LONG = "azure-openai-sweden-central-production-shared-with-everybody-account-0001-and-some-more"
HOSTILE = '<img src="x" onerror="document.title=1">'
SLASHED = "team/a?b#c"

CONFIG = f"""\
budgets:
  openai:
    - 1_000_000
    - {{usd: 40, period: day}}
    - {{tokens: 900_000, period: day, model: gpt-5*}}
  '{HOSTILE}': 500_000
  {LONG}: {{tokens: 9_000_000, period: month}}
  spent: 100
  {SLASHED}: {{requests: 50, period: 5h}}
prediction: {{exhausted_at: off}}
"""

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for a module: while it is there, no other event loop can run in this thread."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """One with something of everything."""
    with Exporter(tmp_path_factory.mktemp("pages"), CONFIG) as running:
        now = time.time()
        running.push(
            *(
                {"provider": "openai", "model": "gpt-5", "consumer": who, "tokens": tokens,
                 "timestamp": now - hours * 3600, "cost_usd": 0.1}
                for hours in range(0, 24 * 15, 3)
                for who, tokens in (("search", 4000), (HOSTILE, 900))
            ),
            {"provider": HOSTILE, "model": HOSTILE, "tokens": 5},
            {"provider": LONG, "tokens": 77, "model": LONG, "consumer": LONG},
            {"provider": "spent", "tokens": 100},
            {"provider": SLASHED, "tokens": 5},
        )  # fmt: skip
        state = {
            "state": "quota_exhausted",
            "retry_after": now + 7200,
            "reason": f"paused {HOSTILE}",
        }
        running.http.put(f"/v1/providers/{LONG}/state", json=state)
        for provider, status, headers in (
            (
                "openai",
                200,
                {"x-ratelimit-limit-tokens": "80", "x-ratelimit-remaining-tokens": "9"},
            ),
            ("slow", 429, {"retry-after": "600"}),
        ):
            signal = {"provider": provider, "status": status, "headers": headers, "body": {}}
            assert running.http.post("/v1/signals", json=signal).status_code == 200
        yield running


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens an address; what the browser then complains of, unless `allowed`, fails the test."""
    complaints: list[str] = []
    expected: list[str] = []
    contexts = []

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # a page may drop what it no longer needs
            complaints.append(f"{request.url}: {request.failure}")

    def open(url: str, width: int = 1280, allowed: str = "", **settings: Any) -> Page:
        expected.extend([allowed] if allowed else [])
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", failed)
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.clock.install()
        page.goto(url)
        return page

    yield open
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(one in text for one in expected)] == []


@pytest.fixture(scope="session")
def violations() -> Callable[[Page], list[str]]:
    """What a page does that keeps somebody from using it, by axe-core's rules."""
    axe = Axe()

    def found(page: Page) -> list[str]:
        results = axe.run(page)
        return [
            f"{rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in results.response["violations"]
            for node in rule["nodes"]
        ]

    return found
