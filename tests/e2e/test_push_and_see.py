"""What is pushed is seen: by Prometheus, by routers, and by people."""

import gzip
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import urljoin

import pytest

from tests.dashboard_expressions import ROOT
from tests.e2e.conftest import CONFIG, started
from tests.e2e.running import COMMAND, ORDINARY, Exporter, command, until

USAGE = "/v1/usage"
OPENAI_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 500,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 300},
}


@pytest.fixture(scope="module", params=[(COMMAND,), ORDINARY], ids=["fast path", "ordinary way"])
def exporter(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Exporter]:
    with started(tmp_path_factory.mktemp("exporter"), request.param) as running:
        yield running


def accepted(count: int, duplicates: int = 0) -> dict[str, object]:
    return {"accepted": count, "duplicates": duplicates, "rejected": []}


def tokens(exporter: Exporter, provider: str, model: str = "") -> dict[str, float]:
    """Tokens by kind."""
    return {
        dict(labels)["kind"]: value
        for (name, labels), value in exporter.metrics().items()
        if name == "llm_quota_tokens_total" and {("provider", provider), ("model", model)} <= labels
    }


# -- pushing --


def test_an_event_of_plain_tokens_is_counted(exporter: Exporter) -> None:
    answer = exporter.push({"provider": "plain", "tokens": 7})
    assert (answer.status_code, answer.json()) == (200, accepted(1))
    assert tokens(exporter, "plain") == {"unspecified": 7}
    assert exporter.value("llm_quota_requests_total", provider="plain", model="") == 1


def test_the_disjoint_kinds_are_counted_apart(exporter: Exporter) -> None:
    kinds = {"input": 1, "cache_read": 2, "cache_write": 3, "output": 4, "reasoning": 5}
    event = {"provider": "kinds", "model": "m", **{f"{k}_tokens": n for k, n in kinds.items()}}
    assert exporter.push(event).json() == accepted(1)
    assert tokens(exporter, "kinds", "m") == kinds


def test_a_providers_own_usage_object_is_taken_apart(exporter: Exporter) -> None:
    assert exporter.push({"provider": "own", "usage": OPENAI_USAGE}).json() == accepted(1)
    assert tokens(exporter, "own") == {
        "input": 600,
        "cache_read": 400,
        "output": 200,
        "reasoning": 300,
    }


@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson", "text/plain"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", ["one", "array", "lines"])
def test_every_shape_of_body_is_counted(
    exporter: Exporter, shape: str, packed: bool, kind: str
) -> None:
    provider = f"{shape}-{packed}-{kind.rpartition('/')[2]}"
    event = {"provider": provider, "tokens": 5}
    body, events = {
        "one": (json.dumps(event, indent=1), 1),
        "array": (json.dumps([event] * 3), 3),
        "lines": ("\n".join([json.dumps(event)] * 4) + "\n", 4),
    }[shape]
    headers = {"content-type": kind} | ({"content-encoding": "gzip"} if packed else {})
    content = gzip.compress(body.encode()) if packed else body.encode()
    assert exporter.http.post(USAGE, content=content, headers=headers).json() == accepted(events)
    assert tokens(exporter, provider) == {"unspecified": 5 * events}


def test_an_id_is_counted_once_however_often_it_is_sent(exporter: Exporter) -> None:
    event = {"provider": "ids", "tokens": 5, "id": "a"}
    assert exporter.push(event).json() == accepted(1)
    assert exporter.push(event).json() == accepted(0, 1)
    assert exporter.push(event, {**event, "id": "b"}, {**event, "id": "b"}).json() == accepted(1, 2)
    assert tokens(exporter, "ids") == {"unspecified": 10}


def test_the_same_id_at_two_providers_is_two_events(exporter: Exporter) -> None:
    events = [{"provider": name, "tokens": 5, "id": "same"} for name in ("left", "right")]
    assert exporter.push(*events).json() == accepted(2)


def test_an_idempotency_key_gets_the_first_answer_again(exporter: Exporter) -> None:
    first = exporter.push(
        {"provider": "keyed", "tokens": 5},
        {"provider": "keyed", "tokens": -1},
        **{"Idempotency-Key": "k1"},
    )
    assert first.json() == {
        "accepted": 1,
        "duplicates": 0,
        "rejected": [{"index": 1, "error": "tokens: expected `int` >= 0, got -1"}],
    }
    again = exporter.push({"provider": "keyed", "tokens": 99}, **{"Idempotency-Key": "k1"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert tokens(exporter, "keyed") == {"unspecified": 5}


def test_an_alias_counts_under_the_name_it_stands_for(exporter: Exporter) -> None:
    before = exporter.value("llm_quota_used_tokens", provider="openai", period="day")
    exporter.push({"provider": "gpt", "tokens": 11})
    after = exporter.value("llm_quota_used_tokens", provider="openai", period="day")
    assert (before, after) == (before, (before or 0) + 11)
    assert "gpt" not in exporter.http.get("/v1/providers").json()


def test_a_signal_takes_its_provider_out_until_the_time_it_names(exporter: Exporter) -> None:
    answer = exporter.http.post(
        "/v1/signals",
        json={
            "provider": "refused",
            "status": 429,
            "headers": {"retry-after": "7200"},
            "body": {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}},
        },
    )
    assert (answer.status_code, answer.json()) == (200, accepted(1))
    shown = exporter.provider("refused")
    assert (shown["state"], shown["reason"]) == ("quota_exhausted", "provider")
    ahead = datetime.fromisoformat(str(shown["retry_after"])) - datetime.now(UTC)
    assert timedelta(minutes=119) < ahead < timedelta(minutes=121)


def test_litellm_callbacks_are_counted(exporter: Exporter) -> None:
    recorded = json.loads((ROOT / "tests/intake/recorded/litellm.json").read_text())[0]
    event = recorded | {"startTime": time.time() - 1, "endTime": time.time(), "model": "by-litellm"}
    first, again = (exporter.http.post("/v1/litellm", json=[event]).json() for _ in range(2))
    assert (first["duplicates"], first["rejected"]) == (0, [])
    assert (again["duplicates"], again["rejected"]) == (1, [])
    assert sum(tokens(exporter, "openai", "by-litellm").values()) == recorded["total_tokens"]


def test_otlp_metrics_are_counted(exporter: Exporter) -> None:
    now = time.time_ns()
    attributes = {"gen_ai.provider.name": "by-otlp", "gen_ai.token.type": "output"}
    point = {
        "attributes": [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items()],
        "startTimeUnixNano": str(now - 10**9),
        "timeUnixNano": str(now),
        "count": "2",
        "sum": 30,
    }
    histogram = {"aggregationTemporality": 1, "dataPoints": [point]}
    metric = {"name": "gen_ai.client.token.usage", "unit": "{token}", "histogram": histogram}
    answer = exporter.http.post(
        "/v1/metrics", json={"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    )
    assert (answer.status_code, answer.json()) == (200, {})
    assert tokens(exporter, "by-otlp") == {"output": 30}


# -- asking --


def test_a_spent_budget_takes_its_provider_out_until_the_last_one_frees_up(
    exporter: Exporter,
) -> None:
    exporter.push({"provider": "claude-team", "tokens": 60_000})
    shown = exporter.provider("claude-team")
    assert (shown["state"], shown["reason"]) == ("quota_exhausted", "budget")
    periods = shown["periods"]
    assert isinstance(periods, dict)
    assert set(periods) == {"5h", "week"}
    assert shown["retry_after"] == max(
        periods["week"]["window_end"],
        (datetime.now(UTC) + timedelta(hours=4, minutes=59)).isoformat(),
    )
    assert exporter.http.get("/v1/exhausted").json()["claude-team"] == shown["retry_after"]
    assert exporter.value("llm_quota_exhausted_info", provider="claude-team", reason="budget") == 1


def test_an_operator_can_take_a_provider_out_and_put_it_back(exporter: Exporter) -> None:
    until_then = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    path = "/v1/providers/team/a/state"
    wish = {"state": "quota_exhausted", "retry_after": until_then.isoformat()}
    out = exporter.http.put(path, json=wish).json()
    assert (out["provider"], out["state"], out["reason"]) == (
        "team/a",
        "quota_exhausted",
        "operator",
    )
    assert datetime.fromisoformat(out["retry_after"]) == until_then
    assert "team/a" in exporter.http.get("/v1/exhausted").json()
    back = exporter.http.put(path, json={"state": "available"}).json()
    assert (back["state"], back["retry_after"]) == ("available", None)
    assert "team/a" not in exporter.http.get("/v1/exhausted").json()


def test_a_passed_retry_time_is_shown_until_a_success(exporter: Exporter) -> None:
    soon = time.time() + 0.5
    wish = {"state": "quota_exhausted", "retry_after": soon}
    exporter.http.put("/v1/providers/brief/state", json=wish)
    until(lambda: exporter.provider("brief")["state"] == "available", "end of the outage")
    assert "brief" not in exporter.http.get("/v1/exhausted").json()
    elapsed = exporter.http.get("/v1/exhausted?include_elapsed=true").json()
    assert datetime.fromisoformat(elapsed["brief"]).timestamp() == pytest.approx(soon, abs=1e-3)
    assert exporter.value("llm_quota_recovery_pending", provider="brief") == 1
    exporter.push({"provider": "brief", "tokens": 1})
    assert exporter.value("llm_quota_recovery_pending", provider="brief") == 0
    assert "brief" not in exporter.http.get("/v1/exhausted?include_elapsed=true").json()


def test_every_change_of_state_is_counted_and_logged_once(exporter: Exporter) -> None:
    wish = {"state": "quota_exhausted", "retry_after": time.time() + 3600}
    exporter.http.put("/v1/providers/logged/state", json=wish)
    exporter.http.put("/v1/providers/logged/state", json={"state": "available"})
    for state in ("quota_exhausted", "available"):
        labels = {"provider": "logged", "state": state, "reason": "operator"}
        assert exporter.value("llm_quota_transitions_total", **labels) == 1
    lines = [line for line in exporter.log().splitlines() if "provider=logged " in line]
    assert [line.partition(" retry_after=")[0].partition(" msg=")[2] for line in lines] == [
        '"state changed" provider=logged state=quota_exhausted reason=operator',
        '"state changed" provider=logged state=available reason=operator',
    ]


# -- people --


def test_push_and_status_work_from_a_shell(exporter: Exporter) -> None:
    pushed = command("push", "--url", exporter.url, "shell", "--input-tokens=12", "--model", "m")
    assert (pushed.returncode, pushed.stdout) == (0, "accepted 1, duplicates 0\n")
    lines = '{"provider":"shell","tokens":1}\n{"provider":"shell","tokens":-1}\n'
    piped = command("push", f"--url={exporter.url}", stdin=lines)
    assert (piped.returncode, piped.stdout, piped.stderr) == (
        1,
        "accepted 1, duplicates 0\n",
        "rejected [1]: tokens: expected `int` >= 0, got -1\n",
    )
    assert tokens(exporter, "shell", "m") == {"input": 12}

    as_json = command("status", "--url", exporter.url, "--json")
    assert json.loads(as_json.stdout).keys() == exporter.http.get("/v1/providers").json().keys()
    table = command("status", "--url", exporter.url).stdout.splitlines()
    assert table[0].split() == [
        *("PROVIDER", "STATE", "BUDGET", "USED", "%", "RUNS", "OUT", "RESETS"),
    ]
    assert any(line.split() == ["shell", "available", "none"] for line in table)
    assert any(line.startswith("openai ") and "1M" in line for line in table)


def test_every_link_of_the_landing_page_leads_somewhere(exporter: Exporter) -> None:
    exporter.push({"provider": "a/b", "tokens": 1})
    page = exporter.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    links = [part.partition('"')[0] for part in page.text.split('href="')[1:]]
    answers = {link: exporter.http.get(urljoin("/", unescape(link))).status_code for link in links}
    assert answers == dict.fromkeys(links, 200)
    assert {"metrics", "providers/openai", "providers/a%2Fb"} <= set(links)


# -- reloading --


@pytest.fixture
def restored(exporter: Exporter) -> Iterator[Exporter]:
    yield exporter
    exporter.config.write_text(CONFIG)
    assert exporter.http.post("/-/reload").status_code == 200


def budget(exporter: Exporter, provider: str) -> float | None:
    return exporter.value("llm_quota_budget_tokens", provider=provider, period="day")


RELOADED = "llm_quota_exporter_config_last_reload_successful"
RELOADED_AT = "llm_quota_exporter_config_last_reload_success_timestamp_seconds"


def test_a_hang_up_puts_a_new_configuration_in_force(restored: Exporter) -> None:
    restored.push({"provider": "late", "tokens": 40})
    assert budget(restored, "late") is None
    restored.config.write_text("budgets: {late: 50}\n")
    restored.hang_up()
    until(lambda: budget(restored, "late") == 50, "new budget")
    assert budget(restored, "openai") is None
    assert restored.value("llm_quota_used_tokens", provider="late", period="day") == 40


def test_a_post_puts_a_new_configuration_in_force(restored: Exporter) -> None:
    restored.config.write_text("budgets: {openai: 70}\naliases: {}\n")
    answer = restored.http.post("/-/reload")
    assert (answer.status_code, answer.json()) == (200, {"reloaded": True})
    assert budget(restored, "openai") == 70
    restored.push({"provider": "gpt", "tokens": 1})
    assert "gpt" in restored.http.get("/v1/providers").json()


def test_a_bad_configuration_changes_nothing_and_shows(restored: Exporter) -> None:
    before = restored.metrics()[RELOADED_AT, frozenset()]
    restored.config.write_text("budgets:\n  openai: -5\n")
    answer = restored.http.post("/-/reload")
    problem = f"{restored.config}:2: budgets.openai: "
    assert answer.status_code == 500
    assert answer.json()["error"].startswith(problem)
    assert budget(restored, "openai") == 1_000_000
    seen = restored.metrics()
    assert (seen[RELOADED, frozenset()], seen[RELOADED_AT, frozenset()]) == (0, before)
    assert 'msg="reload failed"' in restored.log()
    assert restored.http.get("/-/ready").status_code == 200

    restored.config.write_text(CONFIG)
    restored.hang_up()
    until(lambda: restored.value(RELOADED) == 1, "good reload")
    assert restored.metrics()[RELOADED_AT, frozenset()] > before
