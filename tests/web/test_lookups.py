"""Questions of routers: answered at once, and byte for byte as the ordinary way answers them."""

import socket
from collections.abc import Callable, Iterator

import pytest

from exporter.web.authorize import METHODS
from exporter.web.toolkit.auth import Right, right_for
from tests.e2e.running import Exporter

CONFIG = """
budgets:
  openai: 1000
  gemini: {requests: 5, per: model}
  a/b c: 10
prediction: {exhausted_at: off}
"""
WEB = """
http_server_config:
  headers: {X-Frame-Options: deny}
"""
SLOW = "upgrade: other"  # a header that the short way leaves to the ordinary one

KNOWN = [
    "/-/healthy",
    "/v1/exhausted",
    "/v1/exhausted?include_elapsed=true",
    "/v1/availability",
    "/v1/availability?provider=openai",
    "/v1/availability?provider=google&model=gemini-3&consumer=team%20a",
    "/v1/availability?provider=never+heard+of",
    "/v1/providers/openai",
    "/v1/providers/google",
    "/v1/providers/a%2Fb%20c",
    "/v1/providers/a/b%20c",
    "/v1/providers/never-heard-of",
    "/v1/providers/%ff",
]
SENSELESS = [
    "/v1/providers/",
    "/v1/providers/openai/state",
    "/v1/providers/%20x",
    "/v1/providers/" + "p" * 200,
    "/v1/availability?model=gpt",
    "/v1/availability?provider=",
    "/v1/availability?provider=openai&team=a",
    "/v1/availability?provider=a&provider=b",
    "/v1/exhausted?include_elapsed=maybe",
    "/v1/exhausted/",
    "/v1/watch/",
    "/v1/availability?" + "x" * 2000,
]


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    folder = tmp_path_factory.mktemp("exporter")
    web = folder / "web.yml"
    web.write_text(WEB)
    with Exporter(folder, CONFIG, f"--web.config.file={web}") as running:
        running.push({"provider": "openai", "tokens": 1000})
        running.push(*[{"provider": "gemini", "model": "gemini-3", "tokens": 1}] * 5)
        yield running


def raw(exporter: Exporter, method: str, target: str, *lines: str) -> bytes:
    """The answer as it comes over the wire."""
    head = "".join(line + "\r\n" for line in lines)
    with socket.create_connection(("127.0.0.1", exporter.port), 10) as connection:
        request = f"{method} {target} HTTP/1.1\r\nhost: x\r\n{head}\r\n"
        # A second request, whose answer says that the first one's is complete.
        connection.sendall(request.encode() + b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n")
        got = b""
        while not got.endswith(b"is healthy.\n") or (
            method != "HEAD" and got.count(b"HTTP/1.1") < 2
        ):
            piece = connection.recv(65536)
            assert piece, got
            got += piece
    return got[: got.rindex(b"HTTP/1.1 200 OK")]


def settled(check: Callable[[], object], ask: Callable[[], bytes]) -> None:
    """Check what several answers have in common; again where what they say has changed meanwhile:
    a second has passed, or everybody was measured."""
    for _ in range(3):
        before = ask()
        try:
            check()
        except AssertionError:
            if ask() == before:
                raise
        else:
            return
    check()


def etag(answer: bytes) -> str:
    return answer.partition(b"etag: ")[2].partition(b"\r\n")[0].decode()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", KNOWN + SENSELESS)
def test_both_ways_answer_the_same(exporter: Exporter, method: str, target: str) -> None:
    def check() -> None:
        short = raw(exporter, method, target)
        assert short == raw(exporter, method, target, SLOW)
        assert short == raw(exporter, method, target)  # from now on its head is recognised
        assert (b" 200 OK" in short) == (target in KNOWN or target.endswith("provider=b"))
        assert b"x-frame-options: deny" in short
        assert method == "GET" or short.endswith(b"\r\n\r\n")

    settled(check, lambda: raw(exporter, method, target))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("provider", ["openai", "google", "azure", "never heard of", "\xe9", " "])
@pytest.mark.parametrize(
    "path",
    ["", "?denied=403", "?denied=500", "/v1/chat?a=b", "/a%0Ab", "/?", "x", "/" + "x" * 2000, "#?"],
)
def test_gateways_are_answered_the_same_by_both_ways(
    exporter: Exporter, method: str, path: str, provider: str
) -> None:
    target, lines = "/v1/authorize" + path, [f"x-provider: {provider}", "x-model: gemini-3"]

    def check() -> None:
        short = raw(exporter, method, target, *lines)
        assert short == raw(exporter, method, target, *lines, SLOW)
        assert short == raw(exporter, method, target, *lines)
        assert short == raw(exporter, method, target, "x-other: 1", *lines)

    settled(check, lambda: raw(exporter, method, target, *lines))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", KNOWN[1:])
def test_who_has_the_answer_already_is_told_so(
    exporter: Exporter, method: str, target: str
) -> None:
    def check() -> None:
        tag = etag(raw(exporter, "GET", target))
        for held in (tag, f'"other", W/{tag}', "*"):
            known = f"if-none-match: {held}"
            short = raw(exporter, method, target, known)
            assert short.startswith(b"HTTP/1.1 304 Not Modified\r\n")
            assert etag(short) == tag
            assert short == raw(exporter, method, target, known, SLOW)

    settled(check, lambda: raw(exporter, "GET", target))
    assert b" 200 OK" in raw(exporter, method, target, 'if-none-match: "other"')


def test_the_routes_are_counted_under_their_templates(exporter: Exporter) -> None:
    for target in KNOWN:
        raw(exporter, "GET", target)
    counted = {
        dict(labels)["route"]
        for name, labels in exporter.metrics()
        if name == "llm_quota_exporter_http_requests_total"
    }
    assert {"/v1/providers/{provider}", "/v1/exhausted", "/v1/availability"} <= counted
    assert not any("openai" in route or "?" in route for route in counted)


def test_all_of_them_need_the_right_to_read() -> None:
    for target in KNOWN[1:]:
        for method in ("GET", "HEAD"):
            assert right_for(method, target.partition("?")[0]) is Right.READ
