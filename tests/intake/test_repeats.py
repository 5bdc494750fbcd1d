"""A tool and its gateway report the same call: it counts once, whoever tells first."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.usage import ReportedCall, Tokens, Usage
from exporter.intake import litellm
from exporter.intake.naming import Naming
from exporter.intake.otlp import JSON
from exporter.intake.otlp_logs import read_logs
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_traces import read_traces
from exporter.intake.repeats import Repeats
from tests.intake.otlp_bodies import logs_body, record, span, traces_body

T = 1_795_436_000.0
NAMING = Naming({}, [], ["anthropic"])
SONNET = "claude-sonnet-4-5-20250929"
SESSION = "46f68fc6-3a29-4c9e-9c0e-2c9f59f2264d"


def claude_code(number: int, session: str = SESSION, output: int = 50) -> list[Usage]:
    """What Claude Code 2.1.197 logs of a call."""
    request = {
        "event.name": "api_request",
        "session.id": session,
        "model": SONNET,
        "input_tokens": 60,
        "output_tokens": output,
        "cache_read_tokens": 40,
        "cache_creation_tokens": 10,
        "request_id": f"req_{number}",
    }
    body = logs_body(
        [record(T, **request)], JSON, "claude-code", "com.anthropic.claude_code.events"
    )
    return read_logs(body, JSON, NAMING, Reports(Sources()), T).usages


def gateway(number: int, session: str = SESSION, **more: Any) -> list[Usage]:
    """What LiteLLM 1.110.2 posts of the same call; of streams without headers."""
    usage = {
        "prompt_tokens": 110,
        "completion_tokens": 50,
        "total_tokens": 160,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 10,
    }
    event = {
        "id": f"msg_{number}",
        "trace_id": session,
        "status": "success",
        "call_type": "anthropic_messages",
        "custom_llm_provider": "anthropic",
        "model": f"anthropic/{SONNET}",
        "endTime": T,
        "metadata": {"usage_object": usage},
        **more,
    }
    return litellm.read(json.dumps(event).encode(), NAMING, T).usages


def ids(usages: list[Usage]) -> list[str]:
    return [usage.id for usage in usages]


def test_a_streamed_call_is_known_by_its_session_and_what_it_used() -> None:
    repeats = Repeats()
    assert ids(repeats.counted(claude_code(2)).usages) == ["req_2"]
    assert ids(repeats.counted(gateway(2)).usages) == []
    assert ids(repeats.counted(gateway(3)).usages) == ["msg_3"]  # alike, but one more
    assert ids(repeats.counted(claude_code(3)).usages) == []


def test_a_call_is_known_by_the_id_of_its_request() -> None:
    repeats = Repeats()
    headers = {"additional_headers": {"llm_provider-request-id": "req_1"}}
    assert len(repeats.counted(gateway(1, "another", hidden_params=headers)).usages) == 1
    assert repeats.counted(claude_code(1)).usages == []


def test_a_call_is_known_by_the_id_of_its_response_whatever_the_provider_is_called() -> None:
    answered = {"gen_ai__provider__name": "azure.ai.openai", "gen_ai__response__id": "msg_7"}
    body = traces_body([span(1, T, gen_ai__usage__input_tokens=110, **answered)])
    application = read_traces(body, JSON, NAMING, Reports(Sources()), T).usages
    repeats = Repeats()
    assert len(repeats.counted(application).usages) == 1
    assert repeats.counted(gateway(7)).usages == []


def test_other_sessions_and_other_amounts_are_other_calls() -> None:
    repeats = Repeats()
    repeats.counted(claude_code(1, session="other"))
    repeats.counted(claude_code(2, output=51))
    assert len(repeats.counted(gateway(1)).usages) == 1


def test_one_reporter_alone_repeats_nothing() -> None:
    repeats = Repeats()
    for number in range(5):
        assert len(repeats.counted(claude_code(number)).usages) == 1


@given(
    calls=st.integers(1, 6),
    data=st.data(),
)
def test_in_any_order_and_with_retries_every_call_counts_once(
    calls: int, data: st.DataObject
) -> None:
    told = [(reporter, number) for reporter in (claude_code, gateway) for number in range(calls)]
    again = data.draw(st.lists(st.sampled_from(told), max_size=5))
    repeats, counted = Repeats(), set()
    for reporter, number in data.draw(st.permutations(told + again)):
        counted.update(ids(repeats.counted(reporter(number)).usages))
    assert len(counted) == calls


def test_what_has_neither_names_nor_an_id_counts() -> None:
    plain = Usage("openai", Tokens(5))
    unnamed = Usage("openai", Tokens(5), id="1", call=ReportedCall("shop", ()))
    assert Repeats().counted([plain, plain, unnamed]).usages == [plain, plain, unnamed]


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.intake.repeats.MAX_CALLS", 3)
    repeats = Repeats()
    for number in range(5):
        repeats.counted(claude_code(number, session=str(number)))
    assert len(repeats.counted(gateway(0, session="0")).usages) == 1  # long ago
    assert repeats.counted(gateway(4, session="4")).usages == []


def test_calls_that_only_look_alike_count_and_are_suspected() -> None:
    repeats = Repeats()
    assert repeats.counted(claude_code(1, session="one")).suspected == 0
    usages, suspected = repeats.counted(gateway(1, session="another"))
    assert (len(usages), suspected) == (1, 1)
    assert repeats.counted(gateway(1, session="another")).suspected == 0  # a retry


@pytest.mark.parametrize("more", [{"endTime": T + 300}, {"model": "anthropic/claude-opus-4-1"}])
def test_calls_at_other_times_or_of_other_models_are_not_alike(more: dict[str, Any]) -> None:
    repeats = Repeats()
    repeats.counted(claude_code(1, session="one"))
    assert repeats.counted(gateway(1, session="another", **more)).suspected == 0
