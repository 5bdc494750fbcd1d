"""Which providers are in use here: what `init` finds without asking anybody.

Of a variable only its name counts: what it holds is never read.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KEYS: Mapping[str, str] = {
    "OPENAI_API_KEY": "openai",
    "ANTHROPIC_API_KEY": "anthropic",
    "GEMINI_API_KEY": "gemini",
    "GOOGLE_API_KEY": "gemini",
    "AZURE_OPENAI_API_KEY": "azure",
    "AZURE_API_KEY": "azure",
    "OPENROUTER_API_KEY": "openrouter",
    "MISTRAL_API_KEY": "mistral",
    "GROQ_API_KEY": "groq",
    "DEEPSEEK_API_KEY": "deepseek",
    "XAI_API_KEY": "xai",
    "COHERE_API_KEY": "cohere",
    "PERPLEXITY_API_KEY": "perplexity",
    "TOGETHER_API_KEY": "together_ai",
    "TOGETHERAI_API_KEY": "together_ai",
    "FIREWORKS_API_KEY": "fireworks_ai",
    "AWS_BEARER_TOKEN_BEDROCK": "bedrock",
}
"""Variables in which SDKs and LiteLLM look for keys -> the provider."""

LITELLM_FILES = ("litellm_config.yaml", "litellm_config.yml", "litellm.yaml", "proxy_config.yaml")
"""Names that configurations of LiteLLM's proxy have in its documentation."""

_FAMILIES = (
    (re.compile(r"gpt-|o[134]\b|chatgpt-|text-embedding-"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gemini-"), "gemini"),
)
"""Models that LiteLLM knows without the name of their provider."""

_DURATION = re.compile(r"([0-9]{1,3})([dhms])")
_PERIODS = {"1d": "day", "1h": "hour", "1m": "minute"}


@dataclass
class Found:
    """What is known of one provider.

    Attributes:
        because: where it was found.
        budgets: what it may use, as flow mappings of the configuration.
        limits: the same, of limits that somebody else already enforces.
    """

    because: list[str] = field(default_factory=list)
    budgets: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)


def in_environment(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Providers and the variables that name them, of those that are set."""
    for name, provider in KEYS.items():
        if names.get(name):
            yield provider, name


def in_litellm(path: Path) -> dict[str, Found]:
    """The providers that a configuration of LiteLLM's proxy calls, with the limits in it.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        config = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError) as error:
        what = str(getattr(error, "strerror", None) or error).partition("\n")[0]
        raise ValueError(f"{path}: cannot read it: {what}") from error
    found: dict[str, Found] = {}
    for deployment in _list(config, "model_list"):
        given = _mapping(deployment, "litellm_params")
        provider, model = _provider(str(given.get("model", "")))
        if not provider:
            continue
        one = found.setdefault(provider, Found([path.name]))
        for name, unit in (("tpm", "tokens"), ("rpm", "requests")):
            limit = given.get(name)
            if isinstance(limit, int) and limit > 0:
                line = f"{{{unit}: {limit}, period: minute, model: {scalar(model)}}}"
                one.limits += [line] * (line not in one.limits)
    router = _mapping(config, "router_settings")
    for provider, budget in _mapping(router, "provider_budget_config").items():
        one = found.setdefault(str(provider), Found([path.name]))
        usd, period = _number(budget, "budget_limit", "max_budget"), _period(budget)
        if usd and period:
            one.budgets.append(f"{{usd: {usd:g}, period: {period}}}")
    return found


def scalar(text: str) -> str:
    """A text as YAML reads it back."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text)
    known = text.lower() in ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
    return text if plain and not known else json.dumps(text)


def _provider(model: str) -> tuple[str, str]:
    """Provider and model of what LiteLLM calls a model; the first empty where nobody knows."""
    provider, slash, rest = model.partition("/")
    if slash:
        return provider, rest
    known = (name for pattern, name in _FAMILIES if pattern.match(model))
    return next(known, ""), model


def _period(budget: Any) -> str:
    text = str(budget.get("time_period") or budget.get("budget_duration") or "")
    return _PERIODS.get(text, text) if _DURATION.fullmatch(text) else ""


def _number(given: Any, *names: str) -> float:
    if not isinstance(given, dict):
        return 0.0
    values = (given.get(name) for name in names)
    return next((float(one) for one in values if isinstance(one, int | float) and one > 0), 0.0)


def _mapping(given: Any, name: str) -> Mapping[str, Any]:
    value = given.get(name) if isinstance(given, dict) else None
    return value if isinstance(value, dict) else {}


def _list(given: Any, name: str) -> list[Any]:
    value = given.get(name) if isinstance(given, dict) else None
    return value if isinstance(value, list) else []
