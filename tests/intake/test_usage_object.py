"""A provider's usage object becomes disjoint kinds whose sum is the provider's own total."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.usage import Tokens
from exporter.intake.usage_object import LARGEST_COUNT, normalise

OPENAI_CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 20, "accepted_prediction_tokens": 0},
}
OPENAI_RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
    "output_tokens": 50,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 150,
}
ANTHROPIC = {
    "input_tokens": 50,
    "cache_creation_input_tokens": 10,
    "cache_read_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
    "output_tokens": 50,
    "output_tokens_details": {"thinking_tokens": 20},
    "server_tool_use": {"web_search_requests": 1},
    "service_tier": "standard",
}
GEMINI = {
    "promptTokenCount": 90,
    "toolUsePromptTokenCount": 10,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 30,
    "thoughtsTokenCount": 20,
    "totalTokenCount": 150,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 90}],
}
BEDROCK = {
    "inputTokens": 50,
    "cacheReadInputTokens": 40,
    "cacheWriteInputTokens": 10,
    "outputTokens": 50,
    "totalTokens": 150,
    "cacheDetails": [{"ttl": "5m", "inputTokens": 10}],
}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(OPENAI_CHAT, Tokens(50, 40, 10, 30, 20), id="openai chat"),
        pytest.param(OPENAI_RESPONSES, Tokens(50, 40, 10, 30, 20), id="openai responses"),
        pytest.param(ANTHROPIC, Tokens(50, 40, 10, 30, 20), id="anthropic"),
        pytest.param(GEMINI, Tokens(60, 40, 0, 30, 20), id="gemini"),
        pytest.param(BEDROCK, Tokens(50, 40, 10, 50), id="bedrock converse"),
    ],
)
def test_every_format_of_the_same_150_tokens_counts_150(
    usage: dict[str, Any], tokens: Tokens
) -> None:
    assert normalise(usage) == tokens
    assert sum(tokens) == 150


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param({"prompt_tokens": 8, "total_tokens": 8}, Tokens(input=8), id="embeddings"),
        pytest.param({"total_tokens": 8}, Tokens(unspecified=8), id="only a total"),
        pytest.param(
            {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": None},
            Tokens(input=3, output=4),
            id="null details",
        ),
        pytest.param(
            {"input_tokens": 3, "output_tokens": 4}, Tokens(input=3, output=4), id="no details"
        ),
        pytest.param(
            {"input_tokens": 3, "output_tokens": 4.0, "cache_read_input_tokens": None},
            Tokens(input=3, output=4),
            id="null cache, whole float",
        ),
        pytest.param(
            {"input_tokens": 3, "cache_creation": {"ephemeral_1h_input_tokens": 6}},
            Tokens(input=3, cache_write=6),
            id="cache writes only by lifetime",
        ),
        pytest.param(
            {"prompt_tokens": 100, "completion_tokens": 0, "prompt_cache_hit_tokens": 64},
            Tokens(input=36, cache_read=64),
            id="deepseek",
        ),
        pytest.param(
            {"prompt_token_count": 10, "thoughts_token_count": 5, "total_token_count": 15},
            Tokens(input=10, reasoning=5),
            id="gemini from its Python library, stopped while thinking",
        ),
        pytest.param(
            {"promptTokenCount": 10, "cachedContentTokenCount": None, "thoughtsTokenCount": 5},
            Tokens(input=10, reasoning=5),
            id="gemini without a total",
        ),
        pytest.param(
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "input_tokens": 0,
                "output_tokens": 0,
                "input_tokens_details": None,
            },
            Tokens(input=100, output=50),
            id="zeros of a second format",
        ),
        pytest.param(
            OPENAI_CHAT | {"input_tokens": 100, "output_tokens": 50},
            Tokens(50, 40, 10, 30, 20),
            id="the same again in a second format",
        ),
    ],
)
def test_shapes_seen_in_the_wild_are_read(usage: dict[str, Any], tokens: Tokens) -> None:
    assert normalise(usage) == tokens


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 35,
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            Tokens(input=10, output=5, reasoning=20),
            id="reasoning beside the output, as its total says",
        ),
        pytest.param(
            GEMINI | {"candidatesTokenCount": 50},
            Tokens(60, 40, 0, 30, 20),
            id="thoughts inside the candidates, as its total says",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 100},
            Tokens(input=10, output=5, unspecified=85),
            id="a total beyond its parts",
        ),
        pytest.param(
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 99},
                "completion_tokens_details": {"reasoning_tokens": 99},
            },
            Tokens(cache_read=10, reasoning=5),
            id="parts beyond their whole",
        ),
        pytest.param(
            {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 1},
            Tokens(input=10, output=5),
            id="a total below its parts",
        ),
    ],
)
def test_an_inconsistent_object_loses_no_usage(usage: dict[str, Any], tokens: Tokens) -> None:
    assert normalise(usage) == tokens


_RANGE = f"expected a whole number from 0 to {LARGEST_COUNT}"


@pytest.mark.parametrize(
    ("usage", "error"),
    [
        ({}, "no token counts of a known format, got fields []"),
        ({"tokens": 5}, "no token counts of a known format, got fields ['tokens']"),
        ({"prompt_tokens": -5}, f"prompt_tokens: {_RANGE}, got -5"),
        ({"prompt_tokens": True}, f"prompt_tokens: {_RANGE}, got True"),
        ({"prompt_tokens": "5"}, f"prompt_tokens: {_RANGE}, got '5'"),
        ({"prompt_tokens": 1.5}, f"prompt_tokens: {_RANGE}, got 1.5"),
        ({"prompt_tokens": float("nan")}, f"prompt_tokens: {_RANGE}, got nan"),
        ({"prompt_tokens": float("inf")}, f"prompt_tokens: {_RANGE}, got inf"),
        ({"output_tokens": 2**53 + 1}, f"output_tokens: {_RANGE}, got 9007199254740993"),
        (
            {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": -1}},
            f"prompt_tokens_details.cached_tokens: {_RANGE}, got -1",
        ),
        (
            {"prompt_tokens": 5, "prompt_tokens_details": [1]},
            "prompt_tokens_details: expected an object, got [1]",
        ),
        (
            {"prompt_tokens": 5, "inputTokens": 6},
            "ambiguous: read as OpenAI chat it is 5 tokens, as Bedrock Converse 6",
        ),
        (
            {
                "input_tokens": 9,
                "input_tokens_details": {"cached_tokens": 4},
                "cache_read_input_tokens": 4,
            },
            "ambiguous: input_tokens_details says that input_tokens includes 4 cached tokens, "
            "cache_*_input_tokens says that 4 are beside it",
        ),
    ],
)
def test_what_is_not_a_usage_object_is_refused_by_field_and_value(
    usage: dict[str, Any], error: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(error)}$"):
        normalise(usage)


_count = st.integers(0, 10**7)


@given(prompt=_count, output=_count, cached=_count, written=_count, reasoning=_count)
def test_subsets_never_change_the_total(
    prompt: int, output: int, cached: int, written: int, reasoning: int
) -> None:
    tokens = normalise(
        {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
    )
    assert sum(tokens) == prompt + output
    assert min(tokens) >= 0


@given(fresh=_count, output=_count, read=_count, written=_count)
def test_anthropic_bedrock_and_openai_agree_on_the_same_request(
    fresh: int, output: int, read: int, written: int
) -> None:
    expected = Tokens(input=fresh, cache_read=read, cache_write=written, output=output)
    whole = fresh + read + written
    assert expected == normalise(
        {
            "input_tokens": fresh,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": output,
        }
    )
    assert expected == normalise(
        {
            "inputTokens": fresh,
            "cacheReadInputTokens": read,
            "cacheWriteInputTokens": written,
            "outputTokens": output,
            "totalTokens": whole + output,
        }
    )
    assert expected == normalise(
        {
            "input_tokens": whole,
            "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
            "output_tokens": output,
            "total_tokens": whole + output,
        }
    )


_scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_field = st.sampled_from(["cached_tokens", "reasoning_tokens", "ephemeral_5m_input_tokens"])


@given(
    st.dictionaries(
        st.sampled_from([*OPENAI_CHAT, *ANTHROPIC, *GEMINI, *BEDROCK, "else"]),
        _scalar | st.lists(_scalar, max_size=2) | st.dictionaries(_field, _scalar),
    )
)
def test_nothing_but_a_value_error_comes_of_nonsense(usage: dict[str, Any]) -> None:
    try:
        tokens = normalise(usage)
    except ValueError:
        return
    assert min(tokens) >= 0
