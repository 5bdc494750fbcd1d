"""Which provider answers a request: by its host, else by what request and response say.

Names are those of the OpenTelemetry GenAI convention, where it has one:
https://github.com/open-telemetry/semantic-conventions-genai, attribute `gen_ai.provider.name`
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

_HOSTS = {
    "api.openai.com": "openai",
    "*.api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "*.openai.azure.com": "azure.ai.openai",
    "*.cognitiveservices.azure.com": "azure.ai.openai",
    "*.services.ai.azure.com": "azure.ai.inference",
    "*.models.ai.azure.com": "azure.ai.inference",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "*-aiplatform.googleapis.com": "gcp.vertex_ai",
    "bedrock-*.amazonaws.com": "aws.bedrock",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "x_ai",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "openrouter.ai": "openrouter",
}
_PREFIXES = frozenset(_HOSTS.values()) | {
    "azure",
    "bedrock",
    "gemini",
    "mistral",
    "moonshot",
    "vertex_ai",
    "xai",
}
"""What stands before the slash in a gateway's name of a model; the exporter knows both forms."""

_FORMATS = (
    (re.compile(r"/(?:chat/completions|completions|responses|embeddings)$"), "openai"),
    (re.compile(r"/messages$"), "anthropic"),
    (re.compile(r":(?:stream)?generatecontent$", re.IGNORECASE), "gcp.gemini"),
    (re.compile(r"/model/[^/]+/(?:converse|invoke)[\w-]*$"), "aws.bedrock"),
)
"""Paths of APIs, which gateways serve under hosts of their own."""

_MODEL_IN_PATH = re.compile(r"/(?:models?|deployments)/([^/:]+)")


def provider_at(host: str) -> str:
    """The provider that answers at `host`; empty when it is none we know."""
    matches = (name for pattern, name in _HOSTS.items() if fnmatchcase(host, pattern))
    return next(matches, "")


def provider_behind(host: str, path: str, headers: Mapping[str, str], model: str) -> str:
    """The provider behind a gateway at `host`, as well as it can be known.

    A gateway is no provider. LiteLLM says whom it asked; others name the provider before the
    model; else it is the one whose API the gateway serves. A host that serves none of them stands
    for itself.
    """
    asked = urlsplit(headers.get("x-litellm-model-api-base", "")).hostname or ""
    prefix = model.partition("/")[0] if "/" in model else ""
    named = prefix if prefix in _PREFIXES else ""
    formats = (name for pattern, name in _FORMATS if pattern.search(path))
    return provider_at(asked) or named or next(formats, host)


def model_in(path: str) -> str:
    """The model that a path names, as those of Gemini, Bedrock and Azure do; else empty."""
    match = _MODEL_IN_PATH.search(path)
    return match[1] if match else ""
