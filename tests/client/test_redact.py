"""What leaves the process, and what stays."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client import Reporter, instrument, redact
from exporter.intake.signals import read_response
from tests import real
from tests.intake.refusals import encoded, load, param

NOW = 1_790_000_000.0
SECRET = "what the user asked"

NAMES = st.sampled_from(
    [
        *redact._ERROR_NAMES,
        *redact._MESSAGE_NAMES,
        "usage",
        "tokens",
        "prompt_tokens_details",
        "text",
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_no_text_of_a_request_is_in_what_is_kept_of_an_error(body):
    assert SECRET not in str(redact.error(body))


@given(st.dictionaries(NAMES, json_values))
def test_of_usage_only_numbers_are_kept(usage):
    assert SECRET not in str(redact.usage(usage))


def test_usage_keeps_every_token_count_and_nothing_else():
    usage = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 2, "label": "x"},
        "cache_creation": {"ephemeral_5m_input_tokens": 3},
        "candidatesTokenCount": 4,
        "cost": 0.1,
        "service_tier": "standard",
        "server_tool_use": {"web_search_requests": 5},
        "output_tokens": None,
    }
    assert redact.usage(usage) == {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 2},
        "cache_creation": {"ephemeral_5m_input_tokens": 3},
        "candidatesTokenCount": 4,
    }


def test_headers_are_kept_by_name():
    given_headers = {
        "Anthropic-RateLimit-Unified-Status": "rejected",
        "RateLimit-Policy": '"a";q=1',
        "Retry-After-Ms": "20",
        "X-Codex-Primary-Used-Percent": "12",
        "Authorization": "Bearer k",
        "X-Api-Key": "k",
        "Set-Cookie": "c",
        "OpenAI-Organization": "o",
        "X-RateLimit-Limit-Tokens": "9" * 300,
    }
    assert redact.headers(given_headers) == {
        "anthropic-ratelimit-unified-status": "rejected",
        "ratelimit-policy": '"a";q=1',
        "retry-after-ms": "20",
        "x-codex-primary-used-percent": "12",
    }


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (
            {
                "error": {
                    "message": "Rate limit reached for gpt-x in organization org-1 on tokens per"
                    " min (TPM): Limit 1, Used 1. Please try again in 6m0.5s. Visit https://x",
                    "type": "tokens",
                    "param": "messages",
                    "code": "rate_limit_exceeded",
                }
            },
            {
                "error": {
                    "message": "Rate limit reached for gpt-x in; per min; TPM; again in 6m0.5s",
                    "type": "tokens",
                    "code": "rate_limit_exceeded",
                }
            },
        ),
        (
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "Your credit balance is too low to access the Anthropic API.",
                },
                "request_id": "req_1",
            },
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "credit balance is too low",
                },
            },
        ),
        (
            [
                {
                    "error": {
                        "code": 429,
                        "status": "RESOURCE_EXHAUSTED",
                        "message": "You exceeded …",
                        "details": [
                            {
                                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                                "violations": [
                                    {
                                        "quotaId": "GenerateRequestsPerDayPerProjectPerModel",
                                        "quotaDimensions": {"model": "gemini-x", "user": "me"},
                                        "description": "…",
                                    }
                                ],
                            },
                            {"@type": "…RetryInfo", "retryDelay": "37s"},
                        ],
                    }
                }
            ],
            [
                {
                    "error": {
                        "code": 429,
                        "status": "RESOURCE_EXHAUSTED",
                        "details": [
                            {
                                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                                "violations": [
                                    {
                                        "quotaId": "GenerateRequestsPerDayPerProjectPerModel",
                                        "quotaDimensions": {"model": "gemini-x"},
                                    }
                                ],
                            },
                            {"@type": "…RetryInfo", "retryDelay": "37s"},
                        ],
                    }
                }
            ],
        ),
        (
            {
                "error": {
                    "code": 429,
                    "metadata": {
                        "headers": {"X-RateLimit-Reset": "1788220800000", "Cookie": "c"},
                        "limit_source": "openrouter_free_tier_daily",
                        "raw": SECRET,
                    },
                },
                "user_id": "u",
            },
            {
                "error": {
                    "code": 429,
                    "metadata": {
                        "headers": {"X-RateLimit-Reset": "1788220800000"},
                        "limit_source": "openrouter_free_tier_daily",
                    },
                }
            },
        ),
        (
            {"error": {"type": "usage_limit_reached", "plan_type": "pro", "resets_at": 1788220800}},
            {"error": {"type": "usage_limit_reached", "plan_type": "pro", "resets_at": 1788220800}},
        ),
        (
            {"message": "Too many tokens per day, please wait before trying again."},
            {"message": "per day"},
        ),
        ({"message": "Rate limit exceeded", "code": "1300"}, {"code": "1300"}),
        ({"error": "invalid: " + SECRET}, None),
        ({"code": "x" * 300}, None),
        (SECRET, None),
    ],
)
def test_an_error_keeps_what_names_the_limit(body, kept):
    assert redact.error(body) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Please retry after 20 seconds.", "retry after 20 seconds"),
        ("Try again in 1h2m3s", "again in 1h2m3s"),
        ("again in 120ms", "again in 120ms"),
        ("You will regain access on 2026-04-01 at 00:00 UTC.", "access on 2026-04-01 at 00:00 UTC"),
        (
            "Token quota is exceeded. Replenished in 3 days",
            "Token quota is exceeded; Replenished in 3 days",
        ),
        ("daily limit, tokens per day (TPD)", "daily; per day; TPD"),
    ],
)
def test_phrases_about_a_limit_survive_their_message(text, kept):
    assert redact.error({"message": text}) == {"message": kept}


def test_deep_nesting_is_cut_instead_of_followed():
    body = None
    for _ in range(500):
        body = {"error": body or 1}
    assert redact.error(body) is None


RECORDED = [
    pytest.param(case, id=f"{file.stem}: {case['says']}")
    for file in sorted((Path(__file__).parents[1] / "intake/recorded_responses").glob("*.json"))
    for case in json.loads(file.read_text())
]


REFUSALS = [param(case) for case in load() if case["status"] >= 400 and case["status"] != 500]
"""Without the events of WebSockets, which this client does not see, and errors of a server."""


@pytest.mark.parametrize("case", [*RECORDED, *REFUSALS])
def test_the_exporter_judges_what_is_sent_as_it_would_the_whole_response(case, sink):
    httpx = real.module("httpx")
    whole = {
        "status_code": case["status"],
        "headers": {
            name: str(value[0] if isinstance(value, list) else value)
            for name, value in {
                "content-type": "application/json",
                **case.get("headers", {}),
            }.items()
        },
        "content": encoded(case),
    }
    transport = httpx.MockTransport(lambda _: httpx.Response(**whole))
    with Reporter(sink.url) as reporter, httpx.Client(transport=transport) as client:
        instrument(client, reporter, case["provider"]).post("https://api.example")
    body = encoded(case)
    judged = read_response(
        case["provider"], case["status"], case.get("headers", {}), body, NOW, case.get("model", "")
    )
    if not sink.signals:
        assert judged.verdict in ("success", "unknown")
        return
    (sent,) = sink.signals
    again = read_response(
        sent["provider"],
        sent["status"],
        sent["headers"],
        json.dumps(sent.get("body")).encode(),
        NOW,
        case.get("model", ""),
    )
    assert (again.verdict, again.refusal, again.retry_at, again.limits) == (
        judged.verdict,
        judged.refusal,
        judged.retry_at,
        judged.limits,
    )
    assert (again.model, again.consumer) == (judged.model, judged.consumer)
