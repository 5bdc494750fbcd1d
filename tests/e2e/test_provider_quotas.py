"""Real quotas of providers: what spends them takes the right scope out, for as long as it should.

The configuration names the pages that its numbers are from; `docs/providers.md` shows it.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from tests.dashboard_expressions import ROOT
from tests.web.test_routes import DAY, HOUR, NOON, House, house

CONFIG = (ROOT / "tests" / "testdata" / "provider_quotas.yml").read_text()
PAGE = (ROOT / "docs" / "providers.md").read_text()


class Asked(NamedTuple):
    """Whom a router asks about."""

    provider: str
    model: str = ""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NEXT_MONTH = at("2026-04-01")
MIDNIGHT = at("2026-03-05")
PACIFIC = at("2026-03-05T08:00")


class Spent(NamedTuple):
    """Usage up to a quota.

    Attributes:
        events: all but the last leave something of it.
        out: who is out then, and until when, in Unix seconds.
        left: who is not.
    """

    events: Sequence[Mapping[str, Any]]
    out: Asked
    until: float
    left: Sequence[Asked] = ()


def used(provider: str, model: str = "", **amounts: Any) -> dict[str, Any]:
    return {"provider": provider, "model": model, "tokens": 0, **amounts}


def two(provider: str, model: str, **amounts: Any) -> list[dict[str, Any]]:
    """One short of the amounts, and the rest."""
    short = {kind: amount - 1 for kind, amount in amounts.items()}
    rest = dict.fromkeys(amounts, 1)
    return [used(provider, model, **({"requests": 0} | each)) for each in (short, rest)]


OPUS, SONNET = "claude-opus-5", "claude-sonnet-5"

SPENT = {
    "openai": Spent(two("openai", "gpt-5", cost_usd=100), Asked("openai"), NEXT_MONTH),
    "anthropic": Spent(two("anthropic", OPUS, cost_usd=500), Asked("anthropic"), NEXT_MONTH),
    "gemini, a model with an amount of its own": Spent(
        two("gemini", "gemini-3-pro-preview", requests=250),
        Asked("gemini", "gemini-3-pro-preview"),
        PACIFIC,
        [Asked("gemini", "gemini-3-flash"), Asked("gemini")],
    ),
    "gemini, tokens in a minute": Spent(
        two("gemini", "gemini-3-flash", tokens=1_000_000),
        Asked("gemini", "gemini-3-flash"),
        NOON + 60,
        [Asked("gemini", "gemini-3-pro-preview")],
    ),
    "groq, each model": Spent(
        two("groq", "openai/gpt-oss-120b", requests=1000),
        Asked("groq", "openai/gpt-oss-120b"),
        NOON + DAY,
        [Asked("groq", "llama-3.1-8b-instant")],
    ),
    "groq, a model with an amount of its own": Spent(
        two("groq", "llama-3.1-8b-instant", requests=14_400),
        Asked("groq", "llama-3.1-8b-instant"),
        NOON + DAY,
        [Asked("groq", "openai/gpt-oss-120b")],
    ),
    "groq, tokens that are not cached": Spent(
        [
            used("groq", "llama-3.3-70b-versatile", tokens=None, cache_read_tokens=500_000),
            used("groq", "llama-3.3-70b-versatile", tokens=100_000),
        ],
        Asked("groq", "llama-3.3-70b-versatile"),
        NOON + DAY,
        [Asked("groq", "llama-3.1-8b-instant")],
    ),
    "groq, tokens of another model": Spent(
        two("groq", "openai/gpt-oss-120b", tokens=200_000),
        Asked("groq", "openai/gpt-oss-120b"),
        NOON + DAY,
        [Asked("groq", "llama-3.3-70b-versatile")],
    ),
    "openrouter, free models together": Spent(
        [
            used("openrouter", "a/one:free", requests=20),
            used("openrouter", "paid", requests=100),
            used("openrouter", "b/two:free", requests=30),
        ],
        Asked("openrouter", "c/three:free"),
        MIDNIGHT,
        [Asked("openrouter", "paid")],
    ),
    "mistral": Spent(
        [
            # A minute has a quota of its own.
            used("mistral", "mistral-large", tokens=999_999_999, timestamp=NOON - DAY),
            used("mistral", "mistral-large", tokens=1),
        ],
        Asked("mistral"),
        NEXT_MONTH,
    ),
    "cohere, calls of a month": Spent(
        two("cohere", "command-a", requests=1000), Asked("cohere"), NEXT_MONTH
    ),
    "cohere, requests in a minute": Spent(
        two("cohere", "command-a", requests=20),
        Asked("cohere", "command-a"),
        NOON + 60,
        [Asked("cohere", "command-r")],
    ),
    "bedrock": Spent(
        [
            used("bedrock", SONNET, tokens=None, input_tokens=188_000_000),
            used("bedrock", SONNET, tokens=None, output_tokens=20_000_000),
        ],
        Asked("bedrock", SONNET),
        MIDNIGHT,
        [Asked("bedrock", OPUS)],
    ),
    "azure": Spent(
        two("azure-eu", "gpt-4.1", tokens=5_000_000),
        Asked("azure-eu", "gpt-4.1"),
        NOON + 60,
        [Asked("azure-eu", "gpt-5")],
    ),
    "cerebras": Spent(
        two("cerebras", "gpt-oss-120b", tokens=1_000_000),
        Asked("cerebras", "gpt-oss-120b"),
        MIDNIGHT,
        [Asked("cerebras", "qwen-3.8-27b")],
    ),
    "zhipu, five hours": Spent(
        two("zhipu", "glm-4.7", requests=1200), Asked("zhipu"), NOON + 5 * HOUR
    ),
    "zhipu, a week": Spent(
        [
            used("zhipu", "glm-4.7", requests=1000, timestamp=NOON - 6 * DAY + 6 * HOUR * part)
            for part in range(5)
        ]
        + [used("zhipu", "glm-4.7", requests=1000)],
        Asked("zhipu"),
        NOON + DAY,
    ),
}


def refused(provider: str, body: object = None, model: str = "", **headers: str) -> dict[str, Any]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "provider": provider, "status": 429, "headers": names, "body": body, "model": model,
    }  # fmt: skip


GEMINI = {
    "error": {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                "violations": [
                    {
                        "quotaId": "GenerateRequestsPerDayPerProjectPerModel",
                        "quotaDimensions": {"model": "gemini-3-pro-preview", "location": "global"},
                        "quotaValue": "250",
                    }
                ],
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"},
        ],
    }
}
OPENROUTER = {
    "error": {
        "code": 429,
        "message": "Rate limit exceeded: free-models-per-day.",
        "metadata": {
            "headers": {
                "X-RateLimit-Limit": "50",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(MIDNIGHT * 1000)),
            }
        },
    }
}
GROQ = (
    "Rate limit reached for model `llama-3.3-70b-versatile` in organization `org_1` service tier "
    "`on_demand` on tokens per day (TPD): Limit 100000, Used 99336, Requested 1500. Please try "
    "again in 12m2s."
)
ANTHROPIC = (
    "You have reached your API usage limits: your organization has crossed its monthly API usage "
    "threshold, set based on your organization's API tier. You will regain access on 2026-04-01 "
    "at 00:00 UTC."
)


class Refused(NamedTuple):
    """What a provider answers.

    Attributes:
        signal: as an application passes it on.
        out, until, left: as of `Spent`.
    """

    signal: Mapping[str, Any]
    out: Asked
    until: float
    left: Sequence[Asked] = ()


def unified(window: str, reset: float) -> dict[str, str]:
    name = f"anthropic_ratelimit_unified_{window}"
    told = {"utilization": "1.0", "status": "rejected", "reset": str(int(reset))}
    return {
        "anthropic_ratelimit_unified_status": "rejected",
        **{f"{name}_{field}": value for field, value in told.items()},
    }


REFUSED = {
    "openai": Refused(
        refused("openai", {"error": {"code": "organization_spend_limit_exceeded"}}, "gpt-5"),
        Asked("openai", "gpt-5-mini"),
        NEXT_MONTH,
    ),
    "anthropic": Refused(
        refused(
            "anthropic",
            {
                "type": "error",
                "error": {
                    "type": "rate_limit_error",
                    "message": ANTHROPIC,
                    "details": {"error_code": "enforced_spend_limit_reached"},
                },
            },
        ),
        Asked("anthropic", OPUS),
        NEXT_MONTH,
    ),
    "claude, the week of one family of models": Refused(
        refused("claude-acct-1", model=OPUS, **unified("7d_opus", NOON + 3 * DAY)),
        Asked("claude-acct-1", OPUS),
        NOON + 3 * DAY,
        [Asked("claude-acct-1", SONNET)],
    ),
    "claude, five hours": Refused(
        refused("claude-acct-1", model=OPUS, **unified("5h", NOON + HOUR)),
        Asked("claude-acct-1", SONNET),
        NOON + HOUR,
    ),
    "codex": Refused(
        refused(
            "codex",
            {"error": {"type": "usage_limit_reached", "resets_at": int(NOON + 2 * DAY)}},
            x_codex_secondary_used_percent="100",
            x_codex_secondary_window_minutes="10080",
            x_codex_secondary_reset_at=str(int(NOON + 2 * DAY)),
        ),
        Asked("codex"),
        NOON + 2 * DAY,
    ),
    "copilot, the month of a plan": Refused(
        {
            **refused(
                "github-copilot",
                x_quota_snapshot_premium_interactions="ent=300&ov=0.0&ovPerm=false&rem=0.0"
                "&rst=2026-04-01T00%3A00%3A00Z",
            ),
            "status": 200,
        },
        Asked("github-copilot"),
        NEXT_MONTH,
    ),
    "gemini": Refused(
        refused("gemini", GEMINI),
        Asked("gemini", "gemini-3-pro-preview"),
        PACIFIC,
        [Asked("gemini", "gemini-3-flash")],
    ),
    "groq": Refused(
        refused("groq", {"error": {"message": GROQ, "code": "rate_limit_exceeded"}}),
        Asked("groq", "llama-3.3-70b-versatile"),
        NOON + 12 * 60 + 2,
        [Asked("groq", "llama-3.1-8b-instant")],
    ),
    "openrouter": Refused(
        refused("openrouter", OPENROUTER, "a/one:free"),
        Asked("openrouter", "b/two:free"),
        MIDNIGHT,
        [Asked("openrouter", "paid")],
    ),
    "mistral": Refused(
        refused(
            "mistral",
            {"message": "Rate limit exceeded", "code": "1300"},
            "mistral-large",
            x_ratelimit_limit_tokens_month="1000000000",
            x_ratelimit_remaining_tokens_month="0",
        ),
        Asked("mistral", "mistral-large"),
        NEXT_MONTH,
    ),
    "cohere": Refused(
        refused(
            "cohere",
            {"message": "You are using a Trial key, which is limited to 1000 API calls / month."},
        ),
        Asked("cohere"),
        NEXT_MONTH,
    ),
    "bedrock": Refused(
        refused(
            "bedrock",
            {"message": "Too many tokens per day, please wait before trying again."},
            SONNET,
            x_amzn_errortype="ThrottlingException",
        ),
        Asked("bedrock", SONNET),
        MIDNIGHT,
        [Asked("bedrock", OPUS)],
    ),
    "cerebras": Refused(
        refused(
            "cerebras",
            {"message": "Tokens per day limit exceeded", "code": "token_quota_exceeded"},
            "gpt-oss-120b",
            x_ratelimit_limit_tokens_day="1000000",
            x_ratelimit_remaining_tokens_day="0",
            x_ratelimit_reset_tokens_day="33011",
        ),
        Asked("cerebras", "gpt-oss-120b"),
        NOON + 33011,
        [Asked("cerebras", "qwen-3.8-27b")],
    ),
    "zhipu": Refused(
        refused(
            "zhipu",
            {
                "error": {
                    "code": "1308",
                    "message": "Usage limit reached for 5 hour. Your limit will reset at "
                    "2026-03-04 22:30:00",
                }
            },
        ),
        Asked("zhipu"),
        at("2026-03-04T14:30"),
    ),
}


async def state(house: House, asked: Asked) -> dict[str, Any]:
    named = {name: value for name, value in asked._asdict().items() if value}
    found: dict[str, Any] = (await house.http.get("/v1/availability", params=named)).json()
    return found


async def is_available(house: House, *those: Asked) -> None:
    for asked in those:
        assert (await state(house, asked))["state"] == "available", asked


async def is_out(house: House, case: Spent | Refused, reasons: set[str]) -> None:
    """Out until then, and no longer; whoever else is left stays so."""
    found = await state(house, case.out)
    assert found["state"] == "quota_exhausted"
    assert found["reason"] in reasons
    assert datetime.fromisoformat(found["retry_after"]).timestamp() == pytest.approx(
        case.until, abs=300
    )
    await is_available(house, *case.left)
    house.clock.now = datetime.fromisoformat(found["retry_after"]).timestamp() - 1
    assert (await state(house, case.out))["state"] == "quota_exhausted"
    house.clock.now += 2
    await house.service.refresh(house.clock.now)
    await is_available(house, case.out, *case.left)


@pytest.mark.parametrize("case", SPENT.values(), ids=SPENT)
def test_what_is_used_takes_its_scope_out_until_the_window_ends(case: Spent) -> None:
    async def story() -> None:
        async with house(CONFIG) as built:
            *before, last = case.events
            for event in before:
                answer = await built.push(event)
                assert answer.json()["accepted"] == 1, answer.text
            await built.service.refresh(NOON)
            found = await state(built, case.out)
            assert (found["state"], found["reason"]) != ("quota_exhausted", "budget")
            await built.push(last)
            await is_out(built, case, {"budget"})

    asyncio.run(story())


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_refusal_takes_what_it_names_out_until_it_says(case: Refused) -> None:
    async def story() -> None:
        async with house(CONFIG) as built:
            await is_available(built, case.out, *case.left)
            answer = await built.http.post("/v1/signals", json=case.signal)
            assert answer.json()["accepted"] == 1, answer.text
            await built.service.refresh(NOON)
            await is_out(built, case, {"provider", "budget"})

    asyncio.run(story())


def test_a_rate_that_azure_refuses_throttles_for_seconds() -> None:
    async def story() -> None:
        async with house(CONFIG) as built:
            signal = refused("azure-eu", None, "gpt-4.1", retry_after="23")
            await built.http.post("/v1/signals", json=signal)
            found = await state(built, Asked("azure-eu", "gpt-4.1"))
            assert found["state"] == "available"
            assert datetime.fromisoformat(found["throttled_until"]).timestamp() == NOON + 23

    asyncio.run(story())


def test_the_page_shows_this_configuration_and_where_its_numbers_are_from() -> None:
    (shown,) = re.findall(r"```yaml\n(budgets:.*?)```", PAGE, re.DOTALL)
    assert shown == CONFIG[CONFIG.index("budgets:") :]
    linked = set(re.findall(r"\((https://[^)]+)\)", PAGE))
    assert set(re.findall(r"https://\S+", CONFIG)) <= linked
