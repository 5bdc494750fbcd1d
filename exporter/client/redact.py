"""What may leave the process: numbers of tokens, rate-limit headers, the names of an error.

Everything is picked by name, so that whatever a provider adds stays here until it is wanted.
Prompts, completions, credentials and free text never pass.
"""

import re
from collections.abc import Mapping
from typing import Any

_HEADER_PREFIXES = (
    "anthropic-fast-",
    "anthropic-ratelimit-",
    "helicone-ratelimit-",
    "openai-project",
    "ratelimit",  # the IETF draft: RateLimit, RateLimit-Policy and its older three
    "retry-after",
    "x-ai-ratelimit-",
    "x-amzn-errortype",
    "x-codex-",
    "x-groq-region",
    "x-ms-ratelimit-",
    "x-ms-retry-after-ms",
    "x-quota-snapshot-",
    "x-ratelimit-",
)
_ERROR_NAMES = frozenset(
    {
        "@type",
        "__type",
        "code",
        "detail",
        "details",
        "error",
        "error_code",
        "error_type",
        "errors",
        "headers",
        "limit_source",
        "location",
        "metadata",
        "model",
        "plan_type",
        "quotaDimensions",
        "quotaId",
        "quotaMetric",
        "quotaValue",
        "quota_limit",
        "quota_limit_value",
        "quota_metric",
        "reason",
        "resets_at",
        "resets_in_seconds",
        "retryDelay",
        "status",
        "type",
        "violations",
    }
)
_CONTAINERS = frozenset(
    {"detail", "details", "error", "errors", "headers", "metadata", "violations"}
)
_MESSAGE_NAMES = frozenset({"detail", "error", "message", "raw"})
_DURATION = (
    r"(?:\d+:\d\d:\d\d|(?:\d[\d.]*(?:ms|[smhd]))+"
    r"|(?:\d[\d.]* ?(?:second|minute|hour|day)s?\b ?)+)"
)
_STAMP = r"\d{4}-\d\d-\d\d(?:T| at | )\d\d:\d\d(?::\d\d)?(?:\.\d{1,9})?\s?(?:Z|UTC|[+-]\d\d:\d\d)?"
_MODEL = r"[`'\"]?[a-z0-9][\w./:@-]{0,100}[`'\"]?"
_PHRASES = re.compile(
    # money and plans
    r"insufficient[ _-](?:quota|(?:account )?(?:balance|credits|funds))"
    r"|billing[ _-]hard[ _-]limit[ _-]reached"
    r"|credit balance is too low|specified (?:workspace )?API usage limits"
    r"|credits are depleted|overdue balance|used all available credits"
    r"|usage[ _-]limit[ _-]reached|reached your usage limit|key limit exceeded|you have no quota"
    r"|token quota (?:is|has been) exceeded|volume quota|free allocated quota exceeded"
    # rates and periods
    r"|throttlingexception|resource_exhausted|free-models-per-[a-z-]{1,60}"
    r"|\bper[ -](?:second|min(?:ute)?|hour|day|week|month|86400s)\b|/ (?:minute|hour|day|month)\b"
    r"|\b(?:hour|dai|week|month)ly\b|\b[rt]p[smhd]\b|\buserbymodelby[a-z]{1,20}"
    r"|\b[a-z]{1,60}per(?:second|minute|hour|day|week|month)[a-z-]{0,60}"
    # capacity
    rf"|no capacity available(?: for model {_MODEL})?|overloaded|capacity(?: temporarily)? exceeded"
    r"|experiencing high demand|temporarily unable to process your request|访问量过大"
    # until when
    rf"|(?:(?:again|retry|resets?|replenished|available) (?:in|after)|wait) {_DURATION}"
    rf"|access on {_STAMP}|(?:your limit will )?resets? (?:at|on) {_STAMP}|将在\s?{_STAMP}\s?重置"
    # of which model
    rf"|rate limit reached for (?:model )?{_MODEL} (?:in|on)\b"
    rf"|, model: {_MODEL}|\bteam [\w-]{{1,60}} and model {_MODEL}"
    rf"|(?<![\w./:@-]){_MODEL} is temporarily rate-limited upstream",
    re.IGNORECASE,
)
"""Which limit was met, and until when, is often told in a message alone."""

_MAX_TEXT = 256
_MAX_ITEMS = 64
_MAX_DEPTH = 10


def headers(given: Mapping[str, str]) -> dict[str, str]:
    """The rate-limit headers among `given`, names in lower case."""
    kept = {
        name.lower(): value
        for name, value in given.items()
        if name.lower().startswith(_HEADER_PREFIXES) and len(value) <= _MAX_TEXT
    }
    return dict(list(kept.items())[:_MAX_ITEMS])


def usage(given: Mapping[str, Any], depth: int = 3) -> dict[str, Any]:
    """The numbers under names that mention tokens, and objects of them (`…_tokens_details`)."""
    kept: dict[str, Any] = {}
    for name, value in list(given.items())[:_MAX_ITEMS]:
        if not _counts_tokens(name):
            continue
        if isinstance(value, Mapping) and depth:
            kept[name] = usage(value, depth - 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            kept[name] = value
    return kept


def any_tokens(counts: Mapping[str, Any]) -> bool:
    """Whether any number in a usage object is above zero."""
    return any(any_tokens(v) if isinstance(v, Mapping) else v > 0 for v in counts.values())


def error(given: Any) -> Any:
    """The machine-readable part of an error body, None where there is none.

    Error messages quote requests. Of them only the phrases that tell a quota from a rate limit
    are kept; other text only where it is one short word under a name that identifies something.
    """
    return _within(given, _MAX_DEPTH) if isinstance(given, Mapping | list) else None


def _within(given: Any, depth: int) -> Any:
    if not depth:
        return None
    if isinstance(given, Mapping):
        parts = ((name, _part(name, value, depth)) for name, value in given.items())
        return {name: part for name, part in parts if part is not None} or None
    if isinstance(given, list):
        structured = [item for item in given[:_MAX_ITEMS] if isinstance(item, Mapping | list)]
        items = (_within(item, depth - 1) for item in structured)
        return [item for item in items if item is not None] or None
    if isinstance(given, str):
        return given if len(given) <= _MAX_TEXT and " " not in given else None
    return given if isinstance(given, int | float) else None


def _part(name: str, value: Any, depth: int) -> Any:
    if name in _MESSAGE_NAMES and isinstance(value, str):
        phrases = dict.fromkeys(match[0].strip() for match in _PHRASES.finditer(value))
        return "; ".join(phrases) or None
    if name in _CONTAINERS and not isinstance(value, Mapping | list):
        return None
    if name in _ERROR_NAMES or name.lower().startswith(_HEADER_PREFIXES):
        return _within(value, depth - 1)
    return None


def _counts_tokens(name: str) -> bool:
    return len(name) <= _MAX_ITEMS and ("token" in name.lower() or name == "cache_creation")
