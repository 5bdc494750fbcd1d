"""What LiteLLM's payload holds of providers' answers: refusals, and the limits in headers.

Prompts and answers are fields that the decoder has no name for: it skips them without making
values of them.
"""

from typing import Any

import msgspec

from exporter.core.signal import Signal
from exporter.intake.signals import read_response

_one = msgspec.json.Decoder(msgspec.Raw)

_OPENAI_SPENT = "OpenAIException - You exceeded your current quota"
"""Of OpenAI's error LiteLLM passes on the words, not the code. Google uses the same words for
its rates, so they prove nothing on their own."""

_PROVIDERS = "llm_provider-"
"""What LiteLLM puts before the names of headers that a provider sent. Its own `x-ratelimit-*`
beside them are the same, or come from its cost map where the provider sent none."""


class Metadata(msgspec.Struct):
    user_api_key_hash: str | None = None
    user_api_key_alias: str | None = None
    user_api_key_team_id: str | None = None
    user_api_key_team_alias: str | None = None
    usage_object: dict[str, Any] | None = None


class Hidden(msgspec.Struct):
    additional_headers: dict[str, Any] | None = None


class Failure(msgspec.Struct):
    error_code: str | int | None = None
    error_class: str | None = None
    error_message: str | None = None
    llm_provider: str | None = None
    error_rate_limit_category: str | None = None


class Event(msgspec.Struct):
    """The fields of a `StandardLoggingPayload` that matter, and those of the old payload."""

    id: str | None = None
    litellm_call_id: str | None = None
    trace_id: str | None = None
    status: str | None = None
    custom_llm_provider: str | None = None
    model: str | None = None
    prompt_tokens: Any = None
    completion_tokens: Any = None
    total_tokens: Any = None
    endTime: float | str | None = None
    cache_hit: bool | str | None = None
    response_cost: Any = None
    end_user: Any = None
    metadata: Metadata | str | None = None
    hidden_params: Hidden | None = None
    error_information: Failure | None = None
    usage: str | None = None


def refusal_of(
    provider: str,
    model: str,
    consumer: str,
    error: Failure,
    headers: dict[str, Any],
    at: float,
    exhausted_from: float,
) -> Signal | str:
    """What a failed request says about the provider's quota, or why it says nothing."""
    if _is_own_limit(error):
        return "litellm_limit"
    try:
        status = int(error.error_code or 0)
        body = _body(error.error_message or "")
        signal = read_response(provider, status, headers, body, at, model, consumer, exhausted_from)
    except ValueError:  # failed before any provider answered
        return "failed"
    return signal if signal.refusal else "failed"


def _is_own_limit(error: Failure) -> bool:
    """Whether LiteLLM's own budgets and limits refused, not the provider."""
    return error.error_class == "BudgetExceededError" or (
        error.error_rate_limit_category or ""
    ).startswith("litellm_")


def _body(message: str) -> str | dict[str, Any]:
    """What the provider answered, as far as LiteLLM's message about it still has it."""
    if _OPENAI_SPENT in message:
        return {"error": {"code": "insufficient_quota"}}
    inner = message[message.find("{") : message.rfind("}") + 1]
    for text in (inner, inner.replace("\\n", " ")):
        try:
            _one.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            continue
        return text
    return message


def provider_headers(hidden: Hidden | None) -> dict[str, Any]:
    """The provider's headers under their own names; of limits none that LiteLLM made up."""
    found = {name.lower(): value for name, value in _additional(hidden).items()}
    headers = {
        name.replace("_", "-"): value
        for name, value in found.items()
        if not name.replace("_", "-").startswith("x-ratelimit-")
    }
    sent = {
        name.removeprefix(_PROVIDERS).replace("_", "-"): value
        for name, value in found.items()
        if name.startswith(_PROVIDERS)
    }
    return {**headers, **sent}


def _additional(hidden: Hidden | None) -> dict[str, Any]:
    return (hidden.additional_headers if hidden else None) or {}
