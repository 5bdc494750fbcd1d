"""What each library's spans say of a call, under the names that they use; seen in real ones."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.model import Rule
from exporter.core.usage import Tokens
from exporter.intake.naming import Naming
from exporter.intake.otlp import JSON, PROTOBUF
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.otlp_traces import read_traces
from exporter.intake.reading import Reading
from exporter.intake.spans.conventions import CONVENTIONS
from tests.intake.otlp_bodies import span, traces_body

T = 1_795_436_000.0
NAMING = Naming({}, [], ["openai"], ["team", "service"])
CHAT = Tokens(input=60, cache_read=40, output=30, reasoning=20)
MESSAGES = Tokens(input=60, cache_read=40, cache_write=10, output=50)
SONNET = "claude-sonnet-4-5-20250929"


def read(
    spans: list[dict[str, Any]],
    sources: Sources | None = None,
    kind: str = JSON,
    library: str = "test",
) -> Reading:
    body = traces_body(spans, kind, library=library)
    return read_traces(body, kind, NAMING, Reports(sources or Sources()), T + 60)


def of(number: int, attributes: dict[str, Any], **ids: int) -> dict[str, Any]:
    return span(number, T + number, **ids, **attributes)


OPENINFERENCE = {
    "openinference.span.kind": "LLM",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o",
    "llm.token_count.total": 150,
    "llm.token_count.prompt": 100,
    "llm.token_count.completion": 50,
    "llm.token_count.prompt_details.cache_read": 40,
    "llm.token_count.completion_details.reasoning": 20,
}
LANGFUSE = {
    "langfuse.observation.type": "generation",
    "langfuse.observation.model.name": "gpt-4o",
    "langfuse.observation.usage_details": json.dumps(
        {
            "completion_tokens": 50,
            "prompt_tokens": 100,
            "total_tokens": 150,
            "completion_tokens_details": {"reasoning_tokens": 20},
            "prompt_tokens_details": {"cached_tokens": 40},
        }
    ),
}
LITELLM = {
    "litellm.cache_hit": False,
    "litellm.provider.model": "openai/gpt-4o",
    "gen_ai.operation.name": "acompletion",
    "gen_ai.system": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.usage.total_tokens": 150,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.cost.total_cost": 0.0007,
    "metadata.user_api_key_team_alias": "search",
    "metadata.usage_object": "{'completion_tokens': 50, 'prompt_tokens': 100, 'total_tokens': 150, "
    "'completion_tokens_details': {'reasoning_tokens': 20}, "
    "'prompt_tokens_details': {'cached_tokens': 40}}",
}
LITELLM_MESSAGES = {
    **LITELLM,
    "litellm.provider.model": SONNET,
    "gen_ai.operation.name": "anthropic_messages",
    "gen_ai.system": "",
    "gen_ai.request.model": SONNET,
    "gen_ai.usage.input_tokens": 110,
    "gen_ai.usage.total_tokens": 160,
    "metadata.usage_object": "{'completion_tokens': 50, 'prompt_tokens': 110, 'total_tokens': 160, "
    "'completion_tokens_details': {'reasoning_tokens': 0, 'text_tokens': 50}, "
    "'prompt_tokens_details': {'cached_tokens': 40}, 'cache_creation_input_tokens': 10}",
}
VERCEL = {
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.model.provider": "openai.chat",
    "ai.model.id": "gpt-4o",
    "gen_ai.system": "openai.chat",
    "gen_ai.request.model": "gpt-4o",
    "ai.usage.inputTokens": 100,
    "ai.usage.inputTokenDetails.noCacheTokens": 60,
    "ai.usage.inputTokenDetails.cacheReadTokens": 40,
    "ai.usage.outputTokens": 50,
    "ai.usage.outputTokenDetails.textTokens": 30,
    "ai.usage.outputTokenDetails.reasoningTokens": 20,
    "ai.usage.totalTokens": 150,
    "ai.usage.cachedInputTokens": 40,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 50,
}
TRACELOOP = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.total_tokens": 150,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.reasoning_tokens": 20,
}

CALLS = [
    pytest.param(OPENINFERENCE, "openai", "gpt-4o", CHAT, id="OpenInference"),
    pytest.param(
        {
            "openinference.span.kind": "LLM",
            "llm.provider": "anthropic",
            "llm.request.model_name": SONNET,
            "llm.model_name": SONNET,
            "llm.token_count.prompt": 110,
            "llm.token_count.completion": 50,
            "llm.token_count.prompt_details.cache_read": 40,
            "llm.token_count.prompt_details.cache_write": 10,
        },
        "anthropic",
        SONNET,
        MESSAGES,
        id="OpenInference, Anthropic",
    ),
    pytest.param(
        {
            "openinference.span.kind": "EMBEDDING",
            "llm.system": "openai",
            "embedding.model_name": "text-embedding-3-small",
            "llm.token_count.total": 9,
            "llm.token_count.prompt": 9,
        },
        "openai",
        "text-embedding-3-small",
        Tokens(input=9),
        id="OpenInference, embeddings",
    ),
    pytest.param(LANGFUSE, "openai", "gpt-4o", CHAT, id="Langfuse, OpenAI's usage"),
    pytest.param(
        {
            **LANGFUSE,
            "langfuse.observation.usage_details": json.dumps(
                {
                    "input": 60,
                    "input_cached_tokens": 40,
                    "output": 30,
                    "output_reasoning_tokens": 20,
                    "total": 150,
                }
            ),
        },
        "openai",
        "gpt-4o",
        CHAT,
        id="Langfuse, its own kinds",
    ),
    pytest.param(
        {
            "langfuse.observation.type": "embedding",
            "langfuse.observation.model.name": "text-embedding-3-small",
            "langfuse.observation.usage_details": '{"input": 9}',
        },
        "openai",
        "text-embedding-3-small",
        Tokens(input=9),
        id="Langfuse, embeddings",
    ),
    pytest.param(LITELLM, "openai", "gpt-4o", CHAT, id="LiteLLM, acompletion"),
    pytest.param(LITELLM_MESSAGES, "anthropic", SONNET, MESSAGES, id="LiteLLM, anthropic_messages"),
    pytest.param(
        {**LITELLM, "gen_ai.operation.name": "aresponses", "gen_ai.system": ""},
        "openai",
        "gpt-4o",
        CHAT,
        id="LiteLLM, aresponses, which name no provider",
    ),
    pytest.param(VERCEL, "openai", "gpt-4o", CHAT, id="Vercel AI SDK, chat"),
    pytest.param(
        {
            **VERCEL,
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.provider": "openai.responses",
        },
        "openai",
        "gpt-4o",
        CHAT,
        id="Vercel AI SDK, responses",
    ),
    pytest.param(
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.provider": "anthropic.messages",
            "ai.model.id": SONNET,
            "ai.usage.inputTokens": 110,
            "ai.usage.inputTokenDetails.cacheReadTokens": 40,
            "ai.usage.inputTokenDetails.cacheWriteTokens": 10,
            "ai.usage.outputTokens": 50,
        },
        "anthropic",
        SONNET,
        MESSAGES,
        id="Vercel AI SDK, messages",
    ),
    pytest.param(
        {
            "ai.operationId": "ai.embed.doEmbed",
            "ai.model.provider": "openai.embedding",
            "ai.model.id": "text-embedding-3-small",
            "ai.usage.tokens": 9,
        },
        "openai",
        "text-embedding-3-small",
        Tokens(input=9),
        id="Vercel AI SDK, embeddings",
    ),
    pytest.param(TRACELOOP, "openai", "gpt-4o", CHAT, id="OpenLLMetry"),
    pytest.param(
        {**TRACELOOP, "gen_ai.operation.name": "messages"},
        "openai",
        "gpt-4o",
        CHAT,
        id="the operation of Anthropic's interface",
    ),
]


@pytest.mark.parametrize("content_type", [JSON, PROTOBUF])
@pytest.mark.parametrize(("attributes", "provider", "model", "tokens"), CALLS)
def test_a_call_counts_by_kind_for_its_provider_and_model(
    attributes: dict[str, Any], provider: str, model: str, tokens: Tokens, content_type: str
) -> None:
    reading = read([of(1, attributes)], kind=content_type)
    assert reading.rejected == []
    assert reading.uncharged == {}
    (found,) = reading.usages
    assert (found.provider, found.model, found.tokens, found.requests) == (
        provider,
        model,
        tokens,
        1,
    )


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({**OPENINFERENCE, "openinference.span.kind": "AGENT"}, "not_inference"),
        ({**OPENINFERENCE, "openinference.span.kind": "CHAIN"}, "not_inference"),
        ({**LANGFUSE, "langfuse.observation.type": "agent"}, "not_inference"),
        ({**VERCEL, "ai.operationId": "ai.generateText"}, "not_inference"),
        ({**VERCEL, "ai.operationId": "ai.streamText"}, "not_inference"),
        ({**TRACELOOP, "traceloop.span.kind": "workflow"}, "not_inference"),
        ({**LITELLM, "litellm.cache_hit": True}, "cache_hit"),
        ({"acme.usage.input": 100}, "unknown_convention"),
        ({"acme.llm.tokens_in": 100}, "unknown_convention"),
    ],
)
def test_what_is_not_counted_says_why(attributes: dict[str, Any], reason: str) -> None:
    reading = read([of(1, attributes)])
    assert reading.usages == []
    assert reading.uncharged == {reason: 1}


def test_spans_that_have_nothing_to_do_with_usage_are_passed_over() -> None:
    plain = [
        {"http.method": "GET"},
        {"gen_ai.request.max_tokens": 100},
        {"ai.operationId": "ai.toolCall"},
        {"llm.openai.usage": "{'prompt_tokens': 5}"},  # LiteLLM's copy of the answer
    ]
    assert read([of(number, one) for number, one in enumerate(plain)]) == Reading()


def test_what_a_gateway_says_of_cost_and_team_is_taken_up() -> None:
    (found,) = read([of(1, LITELLM)]).usages
    assert found.cost_nano_usd == 700_000
    assert found.consumer == "search"
    assert found.id == "chatcmpl-1"


def test_an_unknown_model_without_a_provider_is_uncharged_unless_a_rule_names_one() -> None:
    spans = [of(1, {**LANGFUSE, "langfuse.observation.model.name": "mine"})]
    assert read(spans) == Reading(uncharged={"unknown_provider": 1})
    naming = Naming({}, [Rule(match={"model": "mine"}, provider="our-own")], [])
    reading = read_traces(traces_body(spans, JSON), JSON, naming, Reports(Sources()), T)
    assert [usage.provider for usage in reading.usages] == ["our-own"]


@pytest.mark.parametrize(
    ("usage", "error"),
    [
        ("[]", "langfuse.observation.usage_details: expected a JSON object, "),
        ("{", "langfuse.observation.usage_details: expected a JSON object, "),
        ('{"input": -1}', "langfuse.observation.usage_details: input: expected a whole number"),
    ],
)
def test_langfuses_usage_that_is_none_is_rejected(usage: str, error: str) -> None:
    attributes = {**LANGFUSE, "langfuse.observation.usage_details": usage}
    (rejection,) = read([of(1, attributes)]).rejected
    assert rejection.error.startswith(error)


def test_every_convention_has_a_name_and_marks_of_its_own() -> None:
    assert len({one.name for one in CONVENTIONS}) == len(CONVENTIONS)
    assert all(one.marks for one in CONVENTIONS)


OPENLIT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": SONNET,
    "gen_ai.usage.input_tokens": 60,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.cache_creation.input_tokens": 10,
}


def test_openlit_has_the_cache_of_anthropics_models_beside_the_input() -> None:
    (usage,) = read([of(1, OPENLIT)], library="openlit.instrumentation.anthropic").usages
    assert usage.tokens == MESSAGES
    (usage,) = read([of(1, OPENLIT)]).usages
    assert usage.tokens == Tokens(input=10, cache_read=40, cache_write=10, output=50)


PYDANTIC_AI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
    "gen_ai.usage.input_tokens": 100,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.details.reasoning_tokens": 20,
    "gen_ai.usage.details.cache_read_tokens": 40,
    "operation.cost": 0.0007,
}


def test_of_pydantic_ai_the_call_counts_with_its_reasoning_and_cost_and_not_the_agent() -> None:
    agent = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.aggregated_usage.input_tokens": 100,
        "gen_ai.aggregated_usage.output_tokens": 50,
    }
    reading = read([of(1, PYDANTIC_AI), of(2, agent)], library="pydantic-ai")
    (usage,) = reading.usages
    assert (usage.provider, usage.model, usage.tokens) == ("openai", "gpt-4o", CHAT)
    assert usage.cost_nano_usd == 700_000
    assert reading.uncharged == {"not_inference": 1}


CODEX = {
    "gen_ai.usage.input_tokens": 200,
    "gen_ai.usage.cache_read.input_tokens": 80,
    "gen_ai.usage.output_tokens": 70,
    "codex.usage.reasoning_output_tokens": 30,
    "codex.usage.total_tokens": 270,
}


def test_of_codex_spans_the_call_counts_and_not_the_turn() -> None:
    turn = {"codex.turn.token_usage.input_tokens": 200, "codex.turn.token_usage.total_tokens": 270}
    reading = read([of(1, CODEX), of(2, turn)])
    (usage,) = reading.usages
    assert (usage.provider, usage.tokens) == (
        "openai",
        Tokens(input=120, cache_read=80, output=40, reasoning=30),
    )
    assert reading.uncharged == {"not_inference": 1}


AROUND = {**TRACELOOP, "gen_ai.response.id": "outer"}


def test_two_instrumentations_within_each_other_count_a_call_once_by_the_inner_one() -> None:
    """Anthropic's SDK makes spans itself; OpenInference or OpenLLMetry put theirs around them."""
    inner, outer = of(2, OPENINFERENCE, trace=1, parent=1), of(1, AROUND, trace=1)
    for spans in ([inner, outer], [outer, inner]):
        reading = read(spans)
        assert [usage.id for usage in reading.usages] == [f"{1:032x}:{2:016x}"]
        assert reading.uncharged == {"repeated_by_another_span": 1}


def test_a_span_in_between_hides_nothing() -> None:
    spans = [
        of(3, OPENINFERENCE, trace=1, parent=2),
        of(2, {"http.method": "POST"}, trace=1, parent=1),
        of(1, AROUND, trace=1),
    ]
    assert len(read(spans).usages) == 1
    sources = Sources()
    readings = [read([one], sources) for one in spans]
    assert [len(reading.usages) for reading in readings] == [1, 0, 0]


def test_the_outer_span_first_and_the_inner_one_in_a_later_request_count_once() -> None:
    sources = Sources()
    outer, inner = of(1, AROUND, trace=1), of(2, OPENINFERENCE, trace=1, parent=1)
    assert len(read([outer], sources).usages) == 1
    for _ in range(2):  # a retry changes nothing
        assert read([inner], sources).uncharged == {"repeated_by_another_span": 1}
        assert len(read([outer], sources).usages) == 1


def test_calls_beside_each_other_all_count() -> None:
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 200}
    spans = [of(1, agent, trace=1)]
    spans += [of(number, TRACELOOP, trace=1, parent=1) for number in (2, 3)]
    reading = read(spans)
    assert len(reading.usages) == 2
    assert reading.uncharged == {"not_inference": 1}


@given(
    depth=st.integers(1, 6),
    beside=st.integers(0, 3),
    data=st.data(),
)
def test_a_chain_of_calls_counts_once_in_any_order_within_a_request(
    depth: int, beside: int, data: st.DataObject
) -> None:
    chain = [
        of(number, TRACELOOP, trace=1, **({} if number == 1 else {"parent": number - 1}))
        for number in range(1, depth + 1)
    ]
    others = [of(100 + number, TRACELOOP) for number in range(beside)]
    spans = data.draw(st.permutations(chain + others))
    reading = read(spans)
    assert len(reading.usages) == 1 + beside
    assert reading.uncharged.get("repeated_by_another_span", 0) == depth - 1


def test_two_libraries_that_tell_of_the_same_time_and_tokens_tell_of_one_call() -> None:
    """Around a stream OpenInference's span of Anthropic's SDK is in a trace of its own."""
    sources = Sources()
    first, second = span(1, T + 2, **OPENINFERENCE), span(2, T + 2.001, **TRACELOOP)
    for _ in range(2):  # a retry changes nothing
        assert len(read([first], sources, library="openinference").usages) == 1
        repeated = read([second], sources, library="openai").uncharged
        assert repeated == {"repeated_by_another_span": 1}


@pytest.mark.parametrize(
    ("attributes", "end", "library"),
    [
        (TRACELOOP, T + 2.001, "openinference"),  # one library tells of each call once
        (TRACELOOP, T + 2.5, "openai"),  # beside it in time
        ({**TRACELOOP, "gen_ai.usage.output_tokens": 51}, T + 2, "openai"),
    ],
)
def test_calls_that_only_look_alike_all_count(
    attributes: dict[str, Any], end: float, library: str
) -> None:
    sources = Sources()
    read([span(1, T + 2, **OPENINFERENCE)], sources, library="openinference")
    assert len(read([span(2, end, **attributes)], sources, library=library).usages) == 1


def test_a_call_has_one_twin_and_no_more() -> None:
    sources = Sources()
    read([span(1, T + 2, **OPENINFERENCE)], sources, library="openinference")
    read([span(2, T + 2, **TRACELOOP)], sources, library="openai")
    assert len(read([span(3, T + 2, **TRACELOOP)], sources, library="other").usages) == 1
