"""Providers whatever they are called: pushed, read, overruled, asked for, and forgotten."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.e2e.running import Exporter

NAMES = [
    *("a/state", "state", "a/state/state", "/", "/a", "a/", "a//b", "state/state"),
    *(
        "a?b=c",
        "a#b",
        "a%2Fb",
        "a%2fstate",
        "100%",
        "%",
        "%00",
        "a b",
        "a+b",
        "a&b",
        "a;b",
        "a:b@c",
    ),
    *(
        "modèle",
        "模型",
        "🦊",
        "e\u0301",
        "\u00e9",
        "ﬁ",
        "K",
        "ſ",
        "a\\b",
        '"',
        "'",
        "<b>",
        "{}",
        "*",
    ),
    *("a.", "a..b", "~", "metrics", "exhausted", "v1/providers/x/state", "1e5", "null", "-", "="),
]


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with Exporter(tmp_path_factory.mktemp("named"), storage="memory://") as running:
        yield running
        assert "Traceback" not in running.log(), running.log()[-4000:]


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_is_reached_under_its_name_percent_encoded(
    exporter: Exporter, name: str
) -> None:
    http, path = exporter.http, "/v1/providers/" + quote(name, safe="")
    assert exporter.push({"provider": name, "tokens": 7}).status_code == 200
    assert exporter.value("llm_quota_requests_total", provider=name, model="") == 1

    out = {"state": "quota_exhausted", "retry_after": "2h"}
    put = http.put(path + "/state", json=out)
    assert (put.status_code, put.json()["state"]) == (200, "quota_exhausted")
    assert http.get(path).json()["state"] == "quota_exhausted"
    assert http.head(path).status_code == 200
    assert exporter.value("llm_quota_state", provider=name, state="quota_exhausted") == 1
    assert list(http.get("/v1/exhausted").json()) == [name]

    asked = http.get("/v1/availability?provider=" + quote(name, safe="")).json()
    assert (asked["provider"], asked["state"]) == (name, "quota_exhausted")
    (listed,) = http.get("/v1/availability").json()["scopes"]
    assert (listed["provider"], listed["state"]) == (name, "quota_exhausted")

    back = http.put(path + "/state", json={"state": "available"})
    assert (back.status_code, back.json()["state"]) == (200, "available")
    assert http.delete(path).status_code == 204
    assert http.get("/v1/providers").json() == {}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_the_state_of_a_provider_can_only_be_put(exporter: Exporter, method: str) -> None:
    answer = exporter.http.request(method, "/v1/providers/a/state")
    assert (answer.status_code, answer.headers["allow"]) == (405, "PUT")


def test_a_provider_cannot_be_put(exporter: Exporter) -> None:
    for name in ("a", "a%2Fstate", "state"):
        answer = exporter.http.put(f"/v1/providers/{name}", json={})
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE"}


def test_no_provider_is_named_by_nothing(exporter: Exporter) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("PUT", "/state")):
        body = {"state": "available"} if method == "PUT" else None
        answer = exporter.http.request(method, f"/v1/providers/{path}", json=body)
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "provider: expected a name, got ''"},
        )
