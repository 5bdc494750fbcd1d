"""Provider names by host: the OpenTelemetry GenAI convention's, where it has one.

https://github.com/open-telemetry/semantic-conventions-genai, attribute `gen_ai.provider.name`
"""

from fnmatch import fnmatchcase

_PROVIDERS = {
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


def provider_at(host: str) -> str:
    """The provider that answers at `host`; the host itself when it is none we know."""
    matches = (name for pattern, name in _PROVIDERS.items() if fnmatchcase(host, pattern))
    return next(matches, host)
