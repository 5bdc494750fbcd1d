"""LiteLLM's callback: tokens by kind once, refusals as signals, and never a prompt."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.signal import Refusal, Verdict
from exporter.core.usage import Tokens
from exporter.intake.litellm import read
from exporter.intake.naming import Naming
from exporter.intake.reading import MalformedBody, Reading

NOW = 1_795_436_400.0
NAMING = Naming({}, [], ["openai"])
RECORDED = Path(__file__).parent / "recorded" / "litellm.json"
EVENTS: list[dict[str, Any]] = json.loads(RECORDED.read_text())
USAGE = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}


class Rule(NamedTuple):
    match: dict[str, str]
    provider: str


def event(**fields: Any) -> dict[str, Any]:
    return {
        "id": "one",
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-4o",
        "endTime": 1_795_436_000.5,
        "metadata": {"usage_object": USAGE},
        **fields,
    }


def read_one(**fields: Any) -> Reading:
    return read(json.dumps(event(**fields)).encode(), NAMING, NOW)


def bodies(events: list[dict[str, Any]]) -> dict[str, bytes]:
    return {
        "array": json.dumps(events).encode(),
        "ndjson": "\n".join(map(json.dumps, events)).encode(),
    }


def test_an_item_dated_in_milliseconds_is_rejected_alone() -> None:
    headers = {"llm_provider-x-ratelimit-remaining-tokens": "5"}
    good = event(id="good")
    bad = event(endTime=1_795_436_000_500.0, hidden_params={"additional_headers": headers})
    reading = read(json.dumps([good, bad, good]).encode(), NAMING, NOW)
    assert len(reading.usages) == 2
    assert [(one.index, one.error) for one in reading.rejected] == [
        (1, "endTime: expected Unix seconds, got 1795436000500.0")
    ]
    assert reading.signals == []


@pytest.mark.parametrize("form", ["array", "ndjson"])
def test_a_recorded_batch_is_read_in_both_forms(form: str) -> None:
    reading = read(bodies(EVENTS)[form], NAMING, NOW)
    tokens = Tokens(input=60, cache_read=40, output=30, reasoning=20)
    assert [(usage.id, usage.tokens) for usage in reading.usages] == [
        ("chatcmpl-whole", tokens),
        ("chatcmpl-stream", tokens),
    ]
    assert reading.uncharged == {"cache_hit": 1}
    assert [signal.verdict for signal in reading.signals] == [Verdict.EXHAUSTED, Verdict.SUCCESS]
    assert reading.rejected == []


def test_no_prompt_answer_or_error_text_is_kept() -> None:
    assert "SECRET" in RECORDED.read_text()
    kept = repr(read(bodies(EVENTS)["array"], NAMING, NOW))
    assert "SECRET" not in kept
    assert "current quota" not in kept


def test_keys_and_teams_can_have_a_quota_of_their_own() -> None:
    rule = Rule({"key_alias": "batch-*", "team": "search", "key_hash": "3f*"}, "openai-batch")
    reading = read(bodies(EVENTS)["array"], Naming({}, [rule], []), NOW)
    assert {usage.provider for usage in reading.usages} == {"openai-batch"}
    assert {signal.provider for signal in reading.signals} == {"openai-batch"}


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        pytest.param({}, Tokens(input=100, output=50), id="usage object"),
        pytest.param({"metadata": {}} | USAGE, Tokens(input=100, output=50), id="counts beside"),
        pytest.param(
            {"metadata": {"usage_object": {"type": "duration", "seconds": 3}}, **USAGE},
            Tokens(input=100, output=50),
            id="usage object without tokens",
        ),
        pytest.param({"metadata": None}, Tokens(), id="a success without tokens"),
        pytest.param({"status": "failure"}, Tokens(input=100, output=50), id="cut off midway"),
        pytest.param(
            {
                "metadata": {
                    "usage_object": USAGE
                    | {"cache_creation_input_tokens": 30, "cache_read_input_tokens": 20}
                }
            },
            Tokens(input=50, cache_read=20, cache_write=30, output=50),
            id="anthropic through litellm, whose prompt includes the cache",
        ),
    ],
)
def test_tokens_are_found_where_litellm_put_them(fields: dict[str, Any], tokens: Tokens) -> None:
    (usage,) = read_one(**fields).usages
    assert usage.tokens == tokens


def test_the_old_payload_of_strings_is_read_as_far_as_it_says() -> None:
    reading = read_one(
        custom_llm_provider=None,
        model="openai/gpt-4o",
        cache_hit="None",
        metadata="{'headers': {}}",
        endTime="2026-11-23 12:00:00.000",
        usage="Usage(completion_tokens=50, prompt_tokens=100, total_tokens=150, "
        "completion_tokens_details=CompletionTokensDetailsWrapper(reasoning_tokens=20), "
        "prompt_tokens_details=PromptTokensDetailsWrapper(cached_tokens=40))",
    )
    (usage,) = reading.usages
    assert (usage.provider, usage.model, usage.timestamp) == ("openai", "gpt-4o", None)
    assert usage.tokens == Tokens(input=60, cache_read=40, output=30, reasoning=20)


def failure(message: str = "", **error: Any) -> dict[str, Any]:
    return {
        "status": "failure",
        "metadata": {},
        "error_information": {"error_code": "429", "error_message": message, **error},
    }


def test_a_rate_limit_is_a_throttling_signal_at_the_time_of_the_request() -> None:
    headers = {"retry-after": "20", "llm_provider-x-ratelimit-remaining-tokens": 0}
    (signal,) = read_one(
        **failure("litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached"),
        hidden_params={"additional_headers": headers},
    ).signals
    assert (signal.verdict, signal.at) == (Verdict.THROTTLED, 1_795_436_000.5)
    assert signal.refusal is Refusal.RATE
    assert signal.request_model
    assert signal.retry_at == pytest.approx(signal.at + 20)


def test_a_project_that_is_spent_stops_the_team_that_asked() -> None:
    message = 'OpenAIException - {"error": {"code": "project_spend_limit_exceeded"}}'
    refused = failure(message) | {"metadata": {"user_api_key_team_alias": "search"}}
    naming = Naming({}, [], ["openai"], ["team"])
    body = json.dumps(event(**refused)).encode()
    (signal,) = read(body, naming, NOW).signals
    assert (signal.consumer, signal.model) == ("search", "")


def test_limits_that_litellm_made_up_are_not_the_providers() -> None:
    """Where a provider sends none, LiteLLM takes those of its cost map."""
    made_up = {"x_ratelimit_limit_tokens": 1000, "x-ratelimit-remaining-tokens": "900"}
    assert read_one(hidden_params={"additional_headers": made_up}).signals == []
    sent = {"llm_provider-x-ratelimit-remaining-tokens": "5"}
    (signal,) = read_one(hidden_params={"additional_headers": {**made_up, **sent}}).signals
    (limit,) = signal.limits
    assert (limit.limit, limit.remaining) == (None, 5)


def test_limits_carry_their_model() -> None:
    events = [
        event(
            id=model,
            model=model,
            hidden_params={"additional_headers": {"llm_provider-x-ratelimit-remaining-tokens": at}},
        )
        for at, model in enumerate(("gpt-4o", "gpt-4o-mini"))
    ]
    signals = read(json.dumps(events).encode(), NAMING, NOW).signals
    assert [(one.request_model, one.limits[0].model) for one in signals] == [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-mini", "gpt-4o-mini"),
    ]


@pytest.mark.parametrize("escaped", [False, True])
def test_a_providers_own_error_inside_the_message_is_judged(escaped: bool) -> None:
    quota = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]}]
    error = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}
    text = json.dumps(error, indent=1)
    inner = text.replace("\n", "\\n") if escaped else text
    (signal,) = read_one(**failure(f"litellm.RateLimitError: geminiException - {inner}")).signals
    assert signal.verdict is Verdict.EXHAUSTED


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (failure(error_code="400"), "failed"),
        (failure(error_code=""), "failed"),
        (failure(error_code="NaN"), "failed"),
        (failure(error_code="429") | {"custom_llm_provider": None}, "failed"),
        (failure(error_class="BudgetExceededError"), "litellm_limit"),
        (failure(error_rate_limit_category="litellm_rate_limit"), "litellm_limit"),
        ({"cache_hit": True}, "cache_hit"),
    ],
)
def test_what_says_nothing_about_a_quota_is_uncharged_with_its_reason(
    fields: dict[str, Any], reason: str
) -> None:
    reading = read_one(**fields)
    assert reading.uncharged == {reason: 1}
    assert (reading.usages, reading.signals, reading.rejected) == ([], [], [])


def test_of_many_answers_limits_the_latest_is_reported() -> None:
    events = [
        event(
            id=str(at),
            endTime=NOW + at,
            hidden_params={"additional_headers": {"llm_provider-x-ratelimit-remaining-tokens": at}},
        )
        for at in (1, 3, 2)
    ]
    (signal,) = read(json.dumps(events).encode(), NAMING, NOW).signals
    assert (signal.at, signal.limits[0].remaining) == (NOW + 3, 3)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "body: expected a JSON array or objects, it starts with ''"),
        (b"garbage", "body: expected a JSON array or objects, it starts with 'g'"),
        (b'[{"id": "a"}', "body: Input data was truncated"),
        (b'{"id": ', "body: Input data was truncated"),
        (b'{"id": 1} {"id": 2}', "body: JSON is malformed: trailing characters (byte 11)"),
        (b"[" * 100_000, "body: maximum recursion depth exceeded while deserializing an object"),
    ],
)
def test_a_body_that_is_not_json_is_malformed(body: bytes, error: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        read(body, NAMING, NOW)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ("null", "Expected `object`, got `null`"),
        ("5", "Expected `object`, got `int`"),
        ('{"model": 5}', "Expected `str | null`, got `int` - at `$.model`"),
        ('{"total_tokens": 5}', "custom_llm_provider: expected a name, got None"),
        (
            '{"custom_llm_provider": "openai", "prompt_tokens": -5}',
            "prompt_tokens: expected a whole number from 0 to 9007199254740992, got -5",
        ),
    ],
)
def test_a_bad_event_is_rejected_alone(item: str, error: str) -> None:
    good = json.dumps(event())
    reading = read(f"[{good}, {item}, {good}]".encode(), NAMING, NOW)
    assert [(one.index, one.error) for one in reading.rejected] == [(1, error)]
    assert len(reading.usages) == 2


def test_a_torn_line_of_ndjson_costs_that_line_only() -> None:
    good = json.dumps(event()).encode()
    reading = read(good + b"\n\n" + good[:-9] + b"\n" + good, NAMING, NOW)
    assert [one.index for one in reading.rejected] == [1]
    assert len(reading.usages) == 2


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from([*EVENTS[0], *EVENTS[0]["metadata"], "x"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)


@given(st.binary(max_size=40) | _json.map(lambda value: json.dumps(value).encode()))
def test_nothing_but_a_malformed_body_escapes(body: bytes) -> None:
    try:
        read(body, NAMING, NOW)
    except MalformedBody:
        return


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 10**6)), max_size=9), st.data())
def test_any_split_into_bodies_reports_the_same_usage(
    requests: list[tuple[int, int]], data: st.DataObject
) -> None:
    events = [
        event(id=str(number), metadata={"usage_object": USAGE | {"prompt_tokens": prompt}})
        for number, prompt in requests
    ]
    cut = data.draw(st.integers(0, len(events)))
    parts = [body for part in (events[:cut], events[cut:]) if part for body in [bodies(part)]]
    pieces = [part[data.draw(st.sampled_from(["array", "ndjson"]))] for part in parts]
    split = [usage for body in pieces for usage in read(body, NAMING, NOW).usages]
    assert split == read(bodies(events)["array"], NAMING, NOW).usages


def test_an_overloaded_provider_is_a_refusal_that_says_nothing_of_its_quota() -> None:
    event = failure('AnthropicException - {"error":{"type":"overloaded_error"}}', error_code="529")
    (signal,) = read_one(**event).signals
    assert (signal.verdict, signal.refusal) == (Verdict.UNKNOWN, Refusal.OVERLOAD)
