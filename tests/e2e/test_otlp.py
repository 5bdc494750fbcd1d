"""OTLP over HTTP into the real program: what says most counts, also after a restart."""

import time
from pathlib import Path

from exporter.intake.otlp_reports import HOLD
from tests.e2e.running import Exporter, series, until
from tests.intake.otlp_bodies import (
    JSON,
    logs_body,
    metric,
    metrics_body,
    point,
    record,
    span,
    traces_body,
)

SDK = {"telemetry__sdk__language": "python"}
ASKED = {"gen_ai__provider__name": "openai", "gen_ai__request__model": "gpt-4o"}
CUMULATIVE = 2


def metrics(now: float) -> bytes:
    one = point(100, now - 5, now, gen_ai__token__type="input", **ASKED)
    name = "gen_ai.client.token.usage"
    return metrics_body([metric(name, [one], CUMULATIVE, "histogram")], JSON, **SDK)


def traces(now: float) -> bytes:
    usage = {"gen_ai__usage__input_tokens": 100, "gen_ai__usage__cache_read__input_tokens": 40}
    return traces_body([span(1, now - 1, **ASKED, **usage)], JSON, **SDK)


def post(exporter: Exporter, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = exporter.http.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {})


def counted(exporter: Exporter) -> dict[str, float]:
    return {
        dict(labels)["kind"]: value
        for (name, labels), value in series(exporter.http.get("/metrics").text).items()
        if name == "llm_quota_tokens_total" and value
    }


def test_spans_that_follow_metrics_within_moments_count_by_kind(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budgets: {openai: 1000}") as exporter:
        now = time.time() + 1
        post(exporter, "/v1/metrics", metrics(now))
        post(exporter, "/v1/traces", traces(now))
        until(lambda: counted(exporter), "tokens")
        assert counted(exporter) == {"input": 60, "cache_read": 40}

        def uncharged() -> bool:
            found = series(exporter.http.get("/metrics").text)
            why = {("source", "otlp_metrics"), ("reason", "counted_from_traces")}
            return found.get(("llm_quota_uncharged_total", frozenset(why))) == 1

        until(uncharged, "word of the metrics that yielded", HOLD + 20)
        assert counted(exporter) == {"input": 60, "cache_read": 40}


def test_metrics_that_wait_for_spans_count_after_a_reload(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budgets: {openai: 1000}", "--web.enable-lifecycle") as exporter:
        post(exporter, "/v1/metrics", metrics(time.time() + 5))
        exporter.http.post("/-/reload").raise_for_status()
        until(lambda: counted(exporter), "tokens", HOLD + 20)
        assert counted(exporter) == {"input": 100}


def test_a_reload_forgets_nothing_of_who_reports(tmp_path: Path) -> None:
    """Spans count, and after the reload no metrics that tell of the same."""
    with Exporter(tmp_path, "budgets: {openai: 1000}", "--web.enable-lifecycle") as exporter:
        now = time.time() + 1
        post(exporter, "/v1/traces", traces(now))
        exporter.http.post("/-/reload").raise_for_status()
        post(exporter, "/v1/metrics", metrics(now + 1))
        why = {("source", "otlp_metrics"), ("reason", "counted_from_traces")}
        found = series(exporter.http.get("/metrics").text)
        assert found["llm_quota_uncharged_total", frozenset(why)] == 1
        assert counted(exporter) == {"input": 60, "cache_read": 40}


def test_metrics_that_wait_for_spans_count_after_a_restart(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budgets: {openai: 1000}") as exporter:
        post(exporter, "/v1/metrics", metrics(time.time() + 5))
        exporter.kill()
        exporter.start()
        until(lambda: counted(exporter), "tokens", HOLD + 20)
        assert counted(exporter) == {"input": 100}


SESSION = "46f68fc6-3a29-4c9e-9c0e-2c9f59f2264d"


def tool(number: int) -> bytes:
    request = {
        "event.name": "api_request",
        "session.id": SESSION,
        "model": "claude-sonnet-4-5",
        "input_tokens": 60,
        "output_tokens": 50,
        "request_id": f"req_{number}",
    }
    records = [record(time.time(), **request)]
    return logs_body(records, JSON, "claude-code", "com.anthropic.claude_code.events")


def gateway(number: int) -> dict[str, object]:
    return {
        "id": f"msg_{number}",
        "trace_id": SESSION,
        "status": "success",
        "custom_llm_provider": "anthropic",
        "model": "claude-sonnet-4-5",
        "prompt_tokens": 60,
        "completion_tokens": 50,
        "total_tokens": 110,
    }


def test_a_tool_and_its_gateway_count_once(tmp_path: Path) -> None:
    with Exporter(tmp_path, "budgets: {anthropic: 1000}") as exporter:
        for number in range(3):
            post(exporter, "/v1/logs", tool(number))
            exporter.http.post("/v1/litellm", json=gateway(number)).raise_for_status()
        assert counted(exporter) == {"input": 180, "output": 150}
        why = {("source", "litellm"), ("reason", "repeated_by_another_reporter")}
        found = series(exporter.http.get("/metrics").text)
        assert found["llm_quota_uncharged_total", frozenset(why)] == 3


def test_a_tool_and_its_gateway_that_only_count_are_suspected(tmp_path: Path) -> None:
    def totals(service: str, name: str, used: int, now: float, **more: str) -> bytes:
        asked = {"gen_ai__request__model": "claude-sonnet-4-5", **more}
        points = [point(used, now - 60, now, **asked)]
        return metrics_body([metric(name, points, CUMULATIVE)], JSON, service)

    with Exporter(tmp_path) as exporter:
        used, now = 0, time.time() - 3000
        for minute in range(40):
            used, now = used + 1000 + 37 * minute, now + 60
            of_tool = totals("claude-code", "claude_code.token.usage", used, now, type="input")
            kind = {"gen_ai__token__type": "input", "gen_ai__system": "anthropic"}
            of_gateway = totals("router", "gen_ai.client.token.usage", used, now + 9, **kind)
            post(exporter, "/v1/metrics", of_tool)
            post(exporter, "/v1/metrics", of_gateway)

        def share() -> float:
            source = {"source": "otlp_metrics"}
            alike = exporter.value("llm_quota_suspected_duplicates_total", **source) or 0.0
            events = {"outcome": "accepted", **source}
            return alike / (exporter.value("llm_quota_events_total", **events) or 1.0)

        assert share() > 0.3  # of LLMQuotaCountedTwice


def test_a_hooked_program_and_its_gateway_count_once_by_the_id_of_the_response(
    tmp_path: Path,
) -> None:
    with Exporter(tmp_path) as exporter:
        for number in range(3):
            usage = {"input_tokens": 60, "output_tokens": 50}
            event = {"provider": "anthropic", "id": f"msg_{number}", "usage": usage}
            exporter.push({**event, "model": "claude-sonnet-4-5"}).raise_for_status()
            answer = exporter.http.post("/v1/litellm", json=gateway(number))
            assert answer.json() == {"accepted": 0, "duplicates": 1, "rejected": []}
        assert counted(exporter) == {"input": 180, "output": 150}


def test_a_rule_says_whose_word_counts(tmp_path: Path) -> None:
    config = "rules: [{match: {service: claude-code}, count: false}]"
    with Exporter(tmp_path, config) as exporter:
        post(exporter, "/v1/logs", tool(1))
        assert counted(exporter) == {}
        exporter.http.post("/v1/litellm", json=gateway(1)).raise_for_status()
        assert counted(exporter) == {"input": 60, "output": 50}
        why = {("source", "otlp_logs"), ("reason", "rule")}
        found = series(exporter.http.get("/metrics").text)
        assert found["llm_quota_uncharged_total", frozenset(why)] == 1
