"""The pages over HTTP: what is sent along, what is sent again, what is refused."""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.web.test_routes import NOON, House, house

Given = Callable[[House], Awaitable[None]]


def answer(path: str, given: Given | None = None, **headers: str) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with house("budgets: {openai: 1000, gemini: 1000}\n") as running:
            if given is not None:
                await given(running)
            return await running.http.get(path, headers=headers)

    return asyncio.run(asked())


@pytest.mark.parametrize("path", ["/", "/providers/openai", "/providers/nobody"])
def test_a_page_forbids_whatever_is_not_its_own(path: str) -> None:
    headers = answer(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/providers/openai"])
def test_no_style_and_no_script_stands_in_a_page(path: str) -> None:
    text = answer(path).text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)
    assert re.findall(r"<script(.*?)>(.*?)</script>", text, re.S) == [
        (re.search(r"<script(.*?)>", text)[1], "")
    ]


def test_what_a_browser_has_is_not_sent_again_until_something_changes() -> None:
    async def asked() -> list[tuple[int, int]]:
        async with house("budgets: {openai: 1000}\n") as running:
            first = await running.http.get("/")
            known = {"if-none-match": first.headers["etag"]}
            same = await running.http.get("/", headers=known)
            await running.push({"provider": "openai", "tokens": 500})
            changed = await running.http.get("/", headers=known)
            return [(one.status_code, len(one.content)) for one in (same, changed)]

    (same, nothing), (changed, size) = asyncio.run(asked())
    assert (same, nothing, changed) == (304, 0, 200)
    assert size > 1000


def test_a_page_is_packed_for_who_can_unpack_it() -> None:
    plain, packed = answer("/", **{"accept-encoding": ""}), answer("/")
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["vary"] == "accept-encoding"
    assert packed.text == plain.text
    assert len(gzip.compress(plain.content)) < len(plain.content) / 2


def test_files_of_a_page_may_be_kept_for_ever_and_others_are_not_found() -> None:
    [style] = re.findall(r'href="(assets/page\.[0-9a-f]+\.css)"', answer("/").text)
    found = answer("/" + style)
    assert (found.status_code, found.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in found.headers["cache-control"]
    for other in ("page.css", "..%2Frendering.py", "page.000000000000.css"):
        assert answer("/assets/" + other).status_code == 404


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/?sort=luck", "sort: expected one of worst, name, used, resets, probability, got 'luck'"),
        ("/?page=-1", "page: expected 1 to 9999999, got '-1'"),
        ("/providers/" + "x" * 129, "provider: expected at most 128 characters, got 129"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_reason(path: str, error: str) -> None:
    refused = answer(path)
    assert (refused.status_code, refused.json()) == (400, {"error": error})


def test_parameters_of_others_are_ignored() -> None:
    assert answer("/?utm_source=mail&q=open").status_code == 200


def test_an_unknown_name_is_not_found_and_a_like_one_is_named() -> None:
    found = answer("/providers/opnai")
    assert found.status_code == 404
    assert 'Did you mean <a href="../providers/openai">openai</a>?' in found.text


def test_a_provider_shows_under_every_name_it_has() -> None:
    assert "<h1>gemini</h1>" in answer("/providers/google_genai").text


def test_what_was_refused_and_what_became_of_it_is_counted() -> None:
    async def given(running: House) -> None:
        body = {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}
        signal = {
            "provider": "openai",
            "model": "gpt-5",
            "status": 429,
            "headers": {},
            "body": body,
        }
        for _ in range(2):
            assert (await running.http.post("/v1/signals", json=signal)).status_code == 200

    text = answer("/providers/openai", given).text
    rows = [re.sub(r"<[^>]+>|\s+", " ", row) for row in re.findall(r"<tr>.*?</tr>", text, re.S)]
    said = [" ".join(row.split()) for row in rows]
    assert "refused: billing gpt-5 2" in said
    assert any(row.startswith("became quota exhausted (provider)") for row in said)


def test_what_was_received_is_counted_by_source() -> None:
    async def given(running: House) -> None:
        await running.push({"provider": "openai", "tokens": 1}, {"provider": "", "tokens": 1})

    text = " ".join(re.sub(r"<[^>]+>", " ", answer("/", given).text).split())
    assert "last usage stored now" in text
    assert "Accepted Duplicate Rejected Uncharged Not counted because usage 1 0 1 0" in text


def test_an_operators_raise_and_silence_show_with_their_end_and_reason() -> None:
    async def given(running: House) -> None:
        raised = {"amount": 3000, "until": "2h", "reason": "launch <day>"}
        answered = await running.http.put("/v1/providers/openai/budget", json=raised)
        assert answered.status_code == 200, answered.text
        silence = await running.http.put(
            "/v1/providers/openai/silence", json={"until": NOON + 3600}
        )
        assert silence.status_code == 200, silence.text

    for path in ("/", "/providers/openai"):
        text = " ".join(re.sub(r"<[^>]+>", " ", answer(path, given).text).split())
        assert "changed from 1k by operator for 2 h until 14:00 UTC : launch &lt;day&gt;" in text
        assert "predictions silenced for 1 h until 13:00 UTC" in text
