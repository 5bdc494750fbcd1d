"""What a refusal is about where only its words tell: a model, a consumer, or the whole provider."""

import re

from exporter.intake.signals.response import Response

_LABEL = re.compile(r"[\w./:@-]{1,100}", re.ASCII)
_NAME = r"[`'\"]?([a-z0-9][\w./:@-]{0,100})"
_NAMED = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        # OpenAI and Groq: "Rate limit reached for gpt-4o in organization org-1 on tokens per min"
        rf"\brate limit reached for (?:model )?(?!organization ){_NAME}[`'\"]? (?:in|on)\b",
        # Anthropic: "(org: 1, model: claude-sonnet-4)"; Gemini: "limit: 0, model: gemini-3-pro"
        rf"\bmodel: {_NAME}",
        rf"\bteam [\w-]{{1,60}} and model {_NAME}",  # xAI
        rf"\bcapacity available for model {_NAME}",  # Gemini CLI
        rf"(?<![\w./:@-]){_NAME} is temporarily rate-limited upstream",  # OpenRouter
    )
)

# Limits that are those of a model, though the refusal does not say of which.
_PER_MODEL = re.compile(
    # https://docs.aws.amazon.com/bedrock/latest/userguide/quotas.html: every one of a model
    "throttlingexception|too many tokens per day"
    "|usermodelby|bymodelby"  # GitHub Models: UserByModelByDay
    "|upstream_provider_shared_pool"  # OpenRouter
    "|you have no quota"  # Copilot: the models included in the plan stay
)

# Who has reached a limit of its own, whatever others do: a project of OpenAI, a workspace of
# Anthropic, a key of OpenRouter, whatever API Management counts by.
_PER_CONSUMER = re.compile(
    r"project_spend_limit_exceeded|specified workspace api usage limits|key limit exceeded"
    r"|token quota (?:is|has been) exceeded|volume quota"
)

FREE = "*:free"
"""OpenRouter's free variants share one limit, which paid ones do not have:
https://openrouter.ai/docs/api-reference/limits"""
_FREE = re.compile(r"\bfree-models-per-|openrouter_free_tier")


def model(response: Response) -> str:
    """Name or pattern of the models that a refusal is about; empty: all of the provider."""
    if _FREE.search(response.words):
        return FREE
    for pattern in _NAMED:
        if match := pattern.search(response.text):
            return named(match[1].rstrip("."), response)
    if "groq" in response.provider or _PER_MODEL.search(response.words):
        return response.asked
    return ""


def named(name: str, response: Response) -> str:
    """The model of that name, as it was asked for where that is a longer form of it."""
    name = name.removeprefix("models/")
    if not _LABEL.fullmatch(name):
        return response.asked
    return response.asked if response.asked.lower().startswith(name.lower()) else name


def consumer(response: Response) -> str:
    """Whom alone a refusal is about; empty: everybody, or nobody knows."""
    if not _PER_CONSUMER.search(response.words):
        return ""
    project = response.headers.get("openai-project", "")
    return response.consumer or (project if _LABEL.fullmatch(project) else "")
