"""Behind a proxy: routes below a prefix, links and redirects that lead through it."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from exporter.web.address import Address
from tests.e2e.running import Exporter, command
from tests.real import program
from tests.test_release import healthcheck

TOKENS = "authentication: {tokens: [{name: pusher, file: push.token, rights: [push]}]}\n"
EXTERNAL = "https://example.org/llm/quota"


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    folder = tmp_path_factory.mktemp("prefix")
    options = (f"--web.external-url={EXTERNAL}/", "--web.enable-lifecycle")
    with Exporter(folder, "budgets: {openai: 1000}\n", *options, prefix="/llm/quota") as running:
        yield running


def test_every_kind_of_route_is_below_the_prefix(exporter: Exporter) -> None:
    one = httpx.Client(base_url=f"http://localhost:{exporter.port}", trust_env=False)
    event = {"provider": "openai", "model": "m", "tokens": 5}
    for _ in range(3):  # the second time the head is known
        assert one.post("/llm/quota/v1/usage", json=event).json()["accepted"] == 1
        assert one.get("/llm/quota/-/healthy").status_code == 200
    assert one.post("/llm/quota/v1/usage", content=b"[").status_code == 400
    assert one.get("/llm/quota/v1/providers/openai").json()["quotas"][0]["used"] == 15
    assert one.get("/llm/quota/-/ready").status_code == 200
    assert one.post("/llm/quota/-/reload").status_code == 200
    assert one.put("/llm/quota/v1/providers/a%2Fstate/state", json={"state": "auto"}).json()
    for path in ("/metrics", "/-/healthy", "/v1/providers", "/llm/quotax/metrics", "/llm"):
        assert one.get(path).status_code == 404
    assert one.post("/v1/usage", json=event).status_code == 404
    answered = "llm_quota_exporter_http_requests_total"
    for route in ("/v1/usage", "/-/healthy"):  # by the short way: without the prefix
        assert exporter.value(answered, route=route, code="200") == 3
    assert "llm/quota" not in one.get("/llm/quota/metrics").text


def test_the_start_leads_below_the_prefix_as_clients_see_it(exporter: Exporter) -> None:
    one = httpx.Client(base_url=f"http://localhost:{exporter.port}", trust_env=False)
    for path in ("/", "/llm/quota"):
        answer = one.get(path)
        assert (answer.status_code, answer.headers["location"]) == (302, EXTERNAL + "/")
    slash = one.get("/llm/quota/metrics/")
    assert slash.status_code == 307
    assert slash.headers["location"].endswith("/llm/quota/metrics")
    document = one.get("/llm/quota/openapi.json").json()
    assert document["servers"] == [{"url": EXTERNAL}]


@pytest.mark.parametrize("prefix", ["/llm/quota", "/providers/llm"])
def test_the_pages_lead_below_the_prefix(prefix: str, tmp_path: Path) -> None:
    config = "budgets: {openai: 1000, team/a: 1000}\n"
    with Exporter(tmp_path, config, f"--web.route-prefix={prefix}", prefix=prefix) as exporter:
        start = f"http://localhost:{exporter.port}{prefix}/"
        names = ("openai", "team%2Fa", "team/a", "no/such%2Fone")
        for page in ("", "?q=team", *(f"providers/{name}" for name in names)):
            shown = httpx.get(start + page)
            assert shown.status_code == (404 if "no/such" in page else 200)
            links = set(re.findall(r'(?:href|src)="([^"#?]+)', shown.text))
            known = {link.replace("../", "") for link in links}
            assert {"openapi.json", "-/healthy", "v1/providers"} <= known
            assert sum(link.startswith("assets/") for link in known) == 4
            for link in links:
                found = httpx.get(str(httpx.URL(start + page).join(link)))
                assert found.status_code == 200, (page, link)


def test_the_pages_work_in_a_browser_below_the_prefix(exporter: Exporter) -> None:
    exporter.push({"provider": "team/a", "tokens": 5})
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = launched.new_page()
        failed: list[str] = []
        page.on("response", lambda one: failed.append(one.url) if one.status >= 400 else None)
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(f"{exporter.url}/")
        page.fill("#q", "team")
        expect(page).to_have_url(f"{exporter.url}/?q=team")
        expect(page.locator("table.scopes tbody")).to_have_count(1)
        page.locator("table.scopes th.scope a").click()
        page.wait_for_url(f"{exporter.url}/providers/team%2Fa")
        expect(page.locator("h1")).to_contain_text("team/a")
        page.locator(".brand a").click()
        page.wait_for_url(f"{exporter.url}/")
        launched.close()
    assert not failed


def test_commands_take_a_url_with_a_prefix(exporter: Exporter) -> None:
    done = command("status", "openai", "--url", f"http://localhost:{exporter.port}/llm/quota/")
    assert done.returncode == 0, done.stderr
    assert healthcheck(exporter.port, "/llm/quota") == 0
    assert healthcheck(exporter.port) == 1


def test_a_proxy_may_take_the_prefix_off(tmp_path: Path) -> None:
    options = (f"--web.external-url={EXTERNAL}", "--web.route-prefix=/")
    with Exporter(tmp_path, "", *options) as exporter:
        assert exporter.http.get("/openapi.json").json()["servers"] == [{"url": EXTERNAL}]
        assert exporter.http.get("/-/healthy").status_code == 200


def test_rights_are_those_of_the_route_below_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "push.token").write_text("push-secret")
    with Exporter(tmp_path, TOKENS, "--web.route-prefix=llm", prefix="/llm") as exporter:
        may = {"authorization": "Bearer push-secret"}
        event = {"provider": "openai", "tokens": 5}
        for _ in range(2):
            assert exporter.http.post("/v1/usage", json=event, headers=may).status_code == 200
        assert exporter.http.post("/v1/usage", json=event).status_code == 401
        assert exporter.http.get("/metrics", headers=may).status_code == 403
        assert exporter.http.get("/metrics").status_code == 401
        one = httpx.Client(base_url=f"http://localhost:{exporter.port}", trust_env=False)
        # What lies outside is told to nobody, and opens nothing.
        assert one.get("/metrics").status_code == 401
        assert one.get("/metrics", headers=may).status_code == 403
        assert one.post("/v1/usage", json=event, headers=may).status_code == 404
        assert one.get("/llm/llm/-/healthy").status_code == 401


@pytest.mark.parametrize(
    ("url", "prefix", "expected"),
    [
        (None, None, ("", "")),
        ("https://a.example", None, ("https://a.example", "")),
        ("https://a.example/b/c/", None, ("https://a.example/b/c", "/b/c")),
        ("https://a.example/b", "/", ("https://a.example/b", "")),
        ("https://a.example/b", "c/", ("https://a.example/b", "/c")),
        (None, "/c", ("", "/c")),
    ],
)
def test_a_prefix_is_the_path_of_the_url_unless_it_is_given(
    url: str | None, prefix: str | None, expected: tuple[str, str]
) -> None:
    assert Address.of(url, prefix) == expected


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--web.external-url=example.org", "web.external-url: expected http:// or https:// with a"),
        ("--web.external-url=http://a/?b", "web.external-url: expected http:// or https:// with a"),
        ("--web.external-url=http://a:x/", "web.external-url: expected http:// or https:// with a"),
        ("--web.route-prefix=/a b", "web.route-prefix: expected a path such as /quota, got '/a b'"),
        ("--web.route-prefix=/a?b", "web.route-prefix: expected a path such as /quota, got '/a?b'"),
    ],
)
def test_an_address_that_makes_no_sense_is_told(option: str, told: str) -> None:
    done = command("serve", "--storage.url=memory://", option)
    assert done.returncode == 1
    assert told in done.stderr
