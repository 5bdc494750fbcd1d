"""Documented answers about accounts, as limits and counts."""

import json
from typing import Any

import pytest

from exporter.core.provider_count import DayCount
from exporter.core.signal import Limit
from exporter.intake.accounts import anthropic, openai, openrouter
from exporter.intake.accounts.reading import AccountError, Page

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC, a Friday
DAY = 86_400
TODAY = int(NOW // DAY)

# https://openrouter.ai/docs/api/api-reference/api-keys/get-current-key
OPENROUTER_KEY: dict[str, Any] = {
    "label": "sk-or-v1-au7...890",
    "limit": 100,
    "usage": 25.5,
    "usage_daily": 2.5,
    "usage_weekly": 25.5,
    "usage_monthly": 25.5,
    "byok_usage": 17.38,
    "byok_usage_daily": 0.25,
    "byok_usage_weekly": 17.38,
    "byok_usage_monthly": 17.38,
    "is_free_tier": False,
    "limit_remaining": 74.5,
    "limit_reset": "monthly",
    "include_byok_in_limit": False,
    "rate_limit": {"requests": 1000, "interval": "1h", "note": "This field is deprecated."},
}

# https://platform.openai.com/docs/api-reference/usage/completions
OPENAI_USAGE: dict[str, Any] = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": (TODAY - 1) * DAY,
            "end_time": TODAY * DAY,
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 1000,
                    "output_tokens": 500,
                    "input_cached_tokens": 800,
                    "num_model_requests": 5,
                    "project_id": None,
                    "model": None,
                    "batch": None,
                }
            ],
        },
        {"object": "bucket", "start_time": TODAY * DAY, "end_time": NOW, "results": []},
    ],
    "has_more": True,
    "next_page": "AAAAAGdGxdEiJdKOAAAAAGcqsYA=",
}

# https://platform.openai.com/docs/api-reference/project-rate-limits/list
OPENAI_LIMITS: dict[str, Any] = {
    "object": "list",
    "data": [
        {
            "id": "rl-ada",
            "object": "project.rate_limit",
            "model": "gpt-5",
            "max_requests_per_1_minute": 600,
            "max_tokens_per_1_minute": 150_000,
            "max_images_per_1_minute": 10,
            "max_requests_per_1_day": 10_000,
        }
    ],
    "first_id": "rl-ada",
    "last_id": "rl-ada",
    "has_more": False,
}

# https://platform.claude.com/docs/en/api/admin/usage_report/retrieve_messages
ANTHROPIC_USAGE: dict[str, Any] = {
    "data": [
        {
            "starting_at": "2027-01-14T00:00:00Z",
            "ending_at": "2027-01-15T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 1500,
                    "cache_creation": {
                        "ephemeral_1h_input_tokens": 1000,
                        "ephemeral_5m_input_tokens": 500,
                    },
                    "cache_read_input_tokens": 200,
                    "output_tokens": 500,
                    "server_tool_use": {"web_search_requests": 10},
                    "model": None,
                    "workspace_id": None,
                }
            ],
        }
    ],
    "has_more": False,
    "next_page": None,
}

# https://platform.claude.com/docs/en/manage-claude/rate-limits-api
ANTHROPIC_LIMITS: dict[str, Any] = {
    "data": [
        {
            "type": "rate_limit",
            "group_type": "model_group",
            "models": ["claude-opus-5", "claude-opus-5-20270101"],
            "limits": [
                {"type": "requests_per_minute", "value": 4000},
                {"type": "input_tokens_per_minute_cache_aware", "value": 2_000_000},
            ],
        },
        {
            "type": "rate_limit",
            "group_type": "batch",
            "models": None,
            "limits": [{"type": "enqueued_batch_requests", "value": 500_000}],
        },
    ],
    "next_page": None,
}


def read(api: Any, at: int, body: object) -> Page:
    question = api.questions("" if api is openrouter else "p", NOW)[at]
    page: Page = question.read(json.dumps(body).encode(), NOW)
    return page


def test_openrouter_tells_a_keys_limit_of_the_month_and_its_use_of_the_day() -> None:
    page = read(openrouter, 0, {"data": OPENROUTER_KEY})
    assert page.limits == (
        Limit("key_month", 100, 74.5, reset_at=1_801_440_000.0, unit="usd", window=31.0 * DAY),
    )
    # As `usage.cost` of the calls, without what a provider charges to one's own key.
    assert page.counts == (DayCount(TODAY, usd=2.5, running=True),)


@pytest.mark.parametrize(
    ("reset", "name", "end"),
    [
        ("daily", "key_day", (TODAY + 1) * DAY),
        ("weekly", "key_week", (TODAY + 3) * DAY),  # Monday
        (None, "key_credits", None),
        ("yearly", "key_credits", None),
    ],
)
def test_openrouters_limit_starts_over_when_it_says(
    reset: str | None, name: str, end: float | None
) -> None:
    (limit,) = read(openrouter, 0, {"data": {**OPENROUTER_KEY, "limit_reset": reset}}).limits
    assert (limit.name, limit.reset_at) == (name, end)


def test_openrouters_free_models_have_a_daily_limit_of_their_own() -> None:
    free = {"used": 40, "limit": 50, "remaining": 10}
    key = {**OPENROUTER_KEY, "limit": None, "free_model_daily_requests": free}
    (limit,) = read(openrouter, 0, {"data": key}).limits
    assert limit == Limit(
        "free_requests_day",
        50,
        10,
        reset_at=(TODAY + 1) * DAY,
        unit="requests",
        model="*:free",
        window=DAY,
    )


def test_openais_tokens_hold_the_cached_ones_and_pages_go_on() -> None:
    page = read(openai, 0, OPENAI_USAGE)
    assert page.counts == (
        DayCount(TODAY - 1, 0, 0),
        DayCount(TODAY - 1, 1500, 5),
        DayCount(TODAY, 0, 0),
    )
    assert page.following == {"page": "AAAAAGdGxdEiJdKOAAAAAGcqsYA="}


def test_openais_embeddings_have_no_output() -> None:
    result = {"input_tokens": 16, "num_model_requests": 2}
    bucket = {"start_time": TODAY * DAY, "results": [result]}
    page = read(openai, 1, {"data": [bucket], "has_more": False, "next_page": None})
    assert page.counts[-1] == DayCount(TODAY, 16, 2)
    assert not page.following


def test_openais_project_limits_are_those_of_models_and_go_on_after_the_last() -> None:
    page = read(openai, 2, OPENAI_LIMITS)
    assert page.limits == (
        Limit("requests_per_day", 10_000, unit="requests", model="gpt-5", window=DAY),
        Limit("requests_per_minute", 600, unit="requests", model="gpt-5", window=60),
        Limit("tokens_per_minute", 150_000, unit="tokens", model="gpt-5", window=60),
    )
    assert not page.following
    assert read(openai, 2, {**OPENAI_LIMITS, "has_more": True}).following == {"after": "rl-ada"}


def test_openai_is_asked_for_limits_of_a_named_project_only() -> None:
    paths = [question.path for question in openai.questions("proj_a", NOW)]
    assert paths[2:] == ["/v1/organization/projects/proj_a/rate_limits"]
    assert len(openai.questions("", NOW)) == 2
    query = dict(openai.questions("proj_a", NOW)[0].query)
    assert query["project_ids[]"] == "proj_a"
    assert query["start_time"] == str((TODAY - 8) * DAY)


def test_anthropics_tokens_are_of_disjoint_kinds() -> None:
    assert read(anthropic, 0, ANTHROPIC_USAGE).counts[-1] == DayCount(TODAY - 1, 3700)
    query = dict(anthropic.questions("", NOW)[0].query)
    assert query["starting_at"] == "2027-01-07T00:00:00Z"


def test_anthropics_limits_are_those_of_every_model_of_a_group() -> None:
    limits = read(anthropic, 1, ANTHROPIC_LIMITS).limits
    assert [(one.name, one.model, one.limit, one.window) for one in limits] == [
        ("requests_per_minute", "claude-opus-5", 4000, 60),
        ("requests_per_minute", "claude-opus-5-20270101", 4000, 60),
        ("input_tokens_per_minute_cache_aware", "claude-opus-5", 2_000_000, 60),
        ("input_tokens_per_minute_cache_aware", "claude-opus-5-20270101", 2_000_000, 60),
    ]


def test_anthropics_limits_of_a_workspace_are_asked_for_with_those_it_inherits() -> None:
    asked = anthropic.questions("wrkspc_1", NOW)[1]
    assert asked.path == "/v1/organizations/workspaces/wrkspc_1/rate_limits"
    assert dict(asked.query)["include_inherited"] == "true"


@pytest.mark.parametrize(
    ("name", "unit", "window"),
    [
        ("tokens_per_day", "tokens", DAY),
        ("tokens_per_minute", "tokens", 60),
        ("fast_itpmca", "tokens", 60),
        ("fast_otpm", "tokens", 60),
    ],
)
def test_anthropics_limits_are_known_by_their_documented_names(
    name: str, unit: str, window: float
) -> None:
    entry = {"models": ["m"], "limits": [{"type": name, "value": 5}]}
    (limit,) = read(anthropic, 1, {"data": [entry], "next_page": None}).limits
    assert (limit.name, limit.unit, limit.window, limit.limit) == (name, unit, window, 5)


@pytest.mark.parametrize("name", ["tool_uses_per_second", "made_up_later"])
def test_anthropics_other_limits_are_left_out(name: str) -> None:
    entry = {"models": ["m"], "limits": [{"type": name, "value": 5}]}
    assert read(anthropic, 1, {"data": [entry], "next_page": None}).limits == ()


BAD = [
    (openrouter, 0, {}, "expected a JSON object"),
    (openrouter, 0, {"data": []}, "expected a JSON object"),
    (openrouter, 0, {"data": {}}, "expected a limit, or null"),
    (openrouter, 0, {"data": {"limit": 1, "usage_daily": -1}}, "expected a number usage_daily"),
    (openai, 0, {"data": None}, "expected a list data"),
    (openai, 0, {"data": [1]}, "expected a JSON object"),
    (openai, 0, {"data": [{"results": []}]}, "expected a number start_time"),
    (openai, 0, {"data": [{"start_time": 1}]}, "expected a list results"),
    (
        openai,
        0,
        {"data": [{"start_time": 1, "results": [{"input_tokens": "sk-secret"}]}]},
        "expected a number input_tokens",
    ),
    (openai, 2, {"data": [{"model": 5}]}, "expected a text model"),
    (anthropic, 0, {"data": [{"starting_at": "soon"}]}, "expected a moment starting_at"),
    (
        anthropic,
        0,
        {"data": [{"starting_at": "2027-01-14", "results": [{"cache_creation": 5}]}]},
        "expected a JSON object",
    ),
    (anthropic, 1, {"data": [{"models": ["a"]}]}, "expected a list limits"),
    (
        anthropic,
        1,
        {"data": [{"models": ["a"], "limits": [{"type": "x"}]}]},
        "expected a limit with type and value",
    ),
]


@pytest.mark.parametrize(("api", "at", "body", "message"), BAD)
def test_what_is_not_documented_is_refused_without_quoting_it(
    api: Any, at: int, body: object, message: str
) -> None:
    with pytest.raises(AccountError) as refused:
        read(api, at, body)
    assert str(refused.value) == message


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 5000, b'{"a":'])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    for api in (openrouter, openai, anthropic):
        for question in api.questions("", NOW):
            with pytest.raises(AccountError, match="expected JSON"):
                question.read(body, NOW)
