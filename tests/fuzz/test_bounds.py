"""What clients can make the exporter hold: names, limits and bodies all have an end."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cramjam
import pytest

from tests.e2e.running import Exporter, series

MIB = 1 << 20
LIMIT = MIB  # bytes of a body, see conftest


def memory(exporter: Exporter) -> int:
    """The most memory it ever had resident, in bytes."""
    status = Path(f"/proc/{exporter.process.pid}/status")
    if not status.exists():
        pytest.skip("no /proc to read a process's memory from")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found
    return int(found[1]) * 1024


def lines(*events: object) -> bytes:
    return "\n".join(map(json.dumps, events)).encode()


def push(exporter: Exporter, body: bytes, path: str = "/v1/usage") -> int:
    headers = {"content-type": "application/json"}
    return exporter.http.post(path, content=body, headers=headers).status_code


def test_a_hundred_thousand_names_fold_into_a_few_and_lose_no_token(exporter: Exporter) -> None:
    before = memory(exporter)
    for part in range(10):
        numbers = range(part * 10_000, (part + 1) * 10_000)
        providers = lines(*({"provider": f"p{n}", "tokens": 1} for n in numbers))
        models = lines(*({"provider": "openai", "model": f"m{n}", "tokens": 1} for n in numbers))
        assert push(exporter, providers) == 200
        assert push(exporter, models) == 200
    exposition = exporter.http.get("/metrics").text
    samples = series(exposition)
    tokens = {
        labels: value
        for (name, labels), value in samples.items()
        if name == "llm_quota_tokens_total"
    }
    assert sum(tokens.values()) == 200_000
    assert len({dict(labels)["provider"] for labels in tokens}) <= 202  # the cap, openai, other
    assert sum(dict(labels)["provider"] == "openai" for labels in tokens) <= 21
    assert len(exposition) < MIB
    assert len(exporter.http.get("/v1/providers").content) < MIB
    assert memory(exporter) - before < 100 * MIB


def test_names_far_too_long_are_not_kept(exporter: Exporter) -> None:
    push(exporter, lines({"provider": "x" * (LIMIT - 100), "tokens": 1}))
    before = memory(exporter)
    for number in range(150):
        name = str(number) + "x" * (LIMIT - 200)
        assert push(exporter, lines({"provider": name, "tokens": 1})) == 400
    assert memory(exporter) - before < 60 * MIB


def test_the_limits_of_one_provider_have_an_end(exporter: Exporter) -> None:
    for part in range(20):
        headers = {f"x-ratelimit-limit-n{part}-{number}": "5" for number in range(30)}
        signal = {"provider": "openai", "status": 200, "headers": headers}
        assert push(exporter, lines(signal), "/v1/signals") == 200
    shown = [name for name, _ in exporter.metrics() if name == "llm_quota_provider_limit"]
    assert 0 < len(shown) <= 64


@pytest.mark.parametrize("path", ["/v1/usage", "/v1/signals", "/v1/litellm"])
@pytest.mark.parametrize("item", ["1", "{}", '"x"', "[]"])
def test_a_body_of_worthless_items_is_refused_in_a_few_words(
    exporter: Exporter, path: str, item: str
) -> None:
    items = LIMIT // (len(item) + 1) - 1
    for body in (f"[{','.join([item] * items)}]", "\n".join([item] * items)):
        headers = {"content-type": "application/json"}
        answer = exporter.http.post(path, content=body, headers=headers)
        assert answer.status_code == 400
        assert len(answer.content) < 1000


@pytest.mark.parametrize(
    ("path", "opening", "item", "end"),
    [
        ("/v1/usage", "[", '{"provider":"openai","tokens":1,"model":"%s"}', "]"),
        ("/v1/usage", "[", "1", "]"),
        ("/v1/signals", "[", '{"provider":"openai","status":200,"body":"%s"}', "]"),
        ("/v1/litellm", "[", '{"custom_llm_provider":"openai","messages":"%s"}', "]"),
    ],
)
def test_many_large_bodies_at_once_need_bounded_memory(
    exporter: Exporter, path: str, opening: str, item: str, end: str
) -> None:
    unit = item.replace("%s", "x" * 40)
    body = opening + ",".join([unit] * ((LIMIT - 100) // (len(unit) + 1))) + end
    before = memory(exporter)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: push(exporter, body.encode(), path), range(8)))
    assert set(statuses) <= {200, 400, 429}
    assert memory(exporter) - before < 250 * MIB


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/traces", "/api/v1/write"])
def test_messages_of_two_bytes_take_no_memory(exporter: Exporter, path: str) -> None:
    body = (b"\x2a\x00" if path == "/api/v1/write" else b"\x0a\x00") * (LIMIT // 2)
    headers = {"content-type": "application/x-protobuf"}
    if path == "/api/v1/write":
        body = bytes(cramjam.snappy.compress_raw(body))
        headers["content-encoding"] = "snappy"
    # Forget the most it ever had: to be sure, another test may have taken more.
    Path(f"/proc/{exporter.process.pid}/clear_refs").write_text("5")
    before = memory(exporter)
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(exporter.http.post, path, content=body, headers=headers) for _ in range(30)
        ]
    assert {one.result().status_code for one in asked} <= {200, 400}
    assert memory(exporter) - before < 150 * MIB


@pytest.mark.parametrize(
    "name",
    [
        *('quo"te', "back\\slash", "new\nline", "tab\t", "nul\0", "carriage\rreturn", "\x1b[31m"),
        *(
            "ünïcode",
            "模型",
            "🦊",
            "\u202eright-to-left",
            "\ufeffbom",
            "a" * 128,
            "a" * 129,
            " ",
            "",
        ),
        *("{}", 'a{b="c"} 1', "#", "%s", "<script>alert(1)</script>", "../../etc/passwd", "a/b"),
        *("\\n", "\\", '"', "\u2028", "e\u0301", "\udcff"),
    ],
)
def test_any_name_is_shown_as_it_is_or_refused(exporter: Exporter, name: str) -> None:
    event = json.dumps({"provider": "openai", "model": name, "tokens": 1}).encode()
    status = push(exporter, event)
    samples = exporter.metrics()  # and so it still parses
    exact = frozenset({("provider", "openai"), ("model", name)})
    assert status in (200, 400)
    if status == 200 and name:
        folded = frozenset({("provider", "openai"), ("model", "other")})
        assert {exact, folded} & {
            labels for family, labels in samples if family == "llm_quota_requests_total"
        }
    openmetrics = exporter.http.get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert openmetrics.text.endswith("# EOF\n")
    assert "<script>" not in exporter.http.get("/").text
