"""Which name a provider shows under: many spellings of one, and rules where a key has the quota."""

import re
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Protocol

from exporter.core.scope import is_pattern, matches

GROUPS: tuple[tuple[str, ...], ...] = (
    ("openai", "text-completion-openai"),
    ("anthropic", "anthropic_text"),
    ("azure.ai.openai", "az.ai.openai", "azure", "azure_openai", "azureopenai", "azure_text"),
    ("azure.ai.inference", "az.ai.inference", "azure_ai", "azure_ai_inference"),
    (
        "gcp.gemini",
        "gemini",
        "gcp.gen_ai",
        "google",
        "google.ai.studio",
        "google_genai",
        "google_generativeai",
        "google.generative-ai",
    ),
    (
        "gcp.vertex_ai",
        "vertex_ai",
        "vertexai",
        "vertex_ai_beta",
        "google_vertexai",
        "google.vertex",
        "vertex.anthropic",
    ),
    ("aws.bedrock", "bedrock", "bedrock_converse", "amazon_bedrock", "aws"),
    ("mistral_ai", "mistral", "mistralai"),
    ("x_ai", "xai"),
    ("groq",),
    ("deepseek",),
    ("perplexity",),
    ("cohere", "cohere_chat"),
    ("moonshot_ai", "moonshot"),
    ("ibm.watsonx.ai", "watsonx", "watsonx_text"),
    ("together_ai", "together", "togetherai"),
    ("fireworks_ai", "fireworks"),
    ("openrouter",),
    ("ollama", "ollama_chat"),
    ("huggingface", "hugging_face"),
)
"""Spellings of one provider, seen in `gen_ai.system`, `gen_ai.provider.name` and LiteLLM's
`custom_llm_provider`. Case and the choice of `.`, `-`, `_` or space do not matter. The first is
the value of `gen_ai.provider.name` in the OpenTelemetry conventions, where they have one."""

INTERFACES = frozenset(
    {"chat", "completion", "responses", "messages", "embedding", "embeddings", "textembedding"}
    | {"image", "speech", "transcription", "realtime"}
)
"""What Vercel's AI SDK adds to a provider's name: `openai.responses`, `anthropic.messages`."""

MAKERS: Mapping[str, re.Pattern[str]] = {
    "openai": re.compile(r"(chat)?gpt-|o[1-9](-|$)|text-embedding-|codex-|davinci|babbage|ft:gpt-"),
    "anthropic": re.compile(r"claude-"),
    "gcp.gemini": re.compile(r"(models/)?gemini-"),
    "mistral_ai": re.compile(r"(mistral|codestral|ministral|magistral|devstral|pixtral)-"),
    "x_ai": re.compile(r"grok-"),
    "deepseek": re.compile(r"deepseek-"),
    "cohere": re.compile(r"command-|embed-(english|multilingual)"),
    "perplexity": re.compile(r"sonar(-|$)"),
    "moonshot_ai": re.compile(r"(kimi|moonshot)-"),
}
"""Who makes the models of a name: the provider of those who report none, as Langfuse's SDKs do."""

MAX_REMEMBERED = 10_000
"""Names worked out by `Naming.of_model`, before that memory starts anew."""

MAX_REMEMBERED_LENGTH = 2048
"""Characters of provider and model together; longer names are no labels."""

_DATE = re.compile(r"(?<=.)-\d{4}-\d{2}-\d{2}$")
_RELEASE = re.compile(r"([-@](\d{4}-\d{2}-\d{2}|20\d{6}|latest))?(-v\d+:\d+)?$")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SEPARATORS = str.maketrans(".- ", "___")


BY_RULE = "rule"
"""Why usage is not counted that a rule of the configuration leaves to another reporter."""

UNKNOWN_PROVIDER = "unknown_provider"
"""Why usage is not counted that names no provider, and a model of nobody known."""


class Rule(Protocol):
    """Gives usage with certain attributes to one provider, or leaves it to other reporters.

    Attributes:
        match: attribute -> shell pattern; every one has to match. Attributes are `provider`
            (either as reported or as named without rules), `model`, `key_alias`, `key_hash`,
            `team` and `service`; one that was not reported matches nothing.
        provider: the name it counts under; empty: it does not count, another reporter's does.
    """

    @property
    def match(self) -> Mapping[str, str]: ...

    @property
    def provider(self) -> str: ...


class Naming:
    """Names providers, by rules first, then by aliases, then by the built-in groups.

    Args:
        aliases: reported name -> name; stronger than the groups.
        rules: the first that matches decides.
        canonical: the names in `budgets`: of a group's names, the one used there is the one
            that shows. Without one it is the OpenTelemetry name.
        consumer: attributes of which the first that is reported names who asked: `team`,
            `key_alias`, `key_hash`, `service`, `end_user`, or one of OpenTelemetry.
        models: names and patterns of models in the configuration: a release that is named there
            keeps its name.

    Attributes:
        otel_attributes: those of `consumer` that are OpenTelemetry's.
    """

    def __init__(
        self,
        aliases: Mapping[str, str],
        rules: Sequence[Rule],
        canonical: Collection[str],
        consumer: Sequence[str] = (),
        models: Collection[str] = (),
    ) -> None:
        self._models = frozenset(models)
        self._consumer = tuple(consumer)
        self.otel_attributes = frozenset(name for name in consumer if "." in name)
        self._aliases = dict(aliases)
        self._rules = tuple(rules)
        self._canonical = frozenset(canonical)
        self._shown: dict[str, str] = {}
        self._remembered: dict[tuple[str, str], str] = {}
        for group in GROUPS:
            spellings = [_fold(name) for name in group]
            budgeted = [name for name in canonical if _fold(name) in spellings]
            shown = min(
                budgeted, key=lambda name: (spellings.index(_fold(name)), name), default=group[0]
            )
            self._shown |= dict.fromkeys(spellings, shown)

    def name(self, provider: str, attributes: Mapping[str, str] = _NOTHING) -> str:
        """The name that `provider` counts under; empty when it is and no rule knows better."""
        rule = self._rule(provider, attributes)
        return self._plain(rule.provider if rule and rule.provider else provider)

    def counts(self, provider: str, attributes: Mapping[str, str]) -> bool:
        """Whether usage counts; False where a rule leaves it to another reporter of it."""
        rule = self._rule(provider, attributes)
        return rule is None or rule.provider != ""

    def _rule(self, provider: str, attributes: Mapping[str, str]) -> Rule | None:
        plain = self._plain(provider)
        return next(
            (
                rule
                for rule in self._rules
                if _matches(rule.match, {**attributes, "provider": provider})
                or _matches(rule.match, {**attributes, "provider": plain})
            ),
            None,
        )

    def of_call(self, provider: str, attributes: Mapping[str, str]) -> str:
        """The same where a report may name no provider: then it is the one that makes the model,
        as a rule may say otherwise. Empty when the model is of nobody known."""
        return self.name(provider, attributes) or self.name(
            _maker(attributes.get("model", "")), attributes
        )

    def names(self) -> dict[str, list[str]]:
        """Other names of providers -> those that they count under, one each.

        Aliases and the providers of rules are as they are written; those of the built-in groups
        are in lower case, with `_` for `.`, `-` and blanks. Rules that look at more than the
        provider are left out.
        """
        plain = [rule.match["provider"] for rule in self._rules if set(rule.match) == {"provider"}]
        others = [*self._shown, *self._aliases, *(name for name in plain if not is_pattern(name))]
        named = {other: self.name(other) for other in others}
        return {other: [name] for other, name in named.items() if other != name}

    def model(self, asked: str, answered: str) -> str:
        """The name that a model counts under: what was asked for, where a report tells it.

        Some only tell what answered. OpenAI answers with the name of a release
        (`gpt-4o-2024-08-06`) where `gpt-4o` was asked for; so its date is left out, unless the
        configuration names that release. Others answer with the name that was asked for.
        """
        if asked or not answered:
            return asked
        plain = _DATE.sub("", answered)
        named = any(
            matches(pattern, answered) and not matches(pattern, plain) for pattern in self._models
        )
        return answered if named else plain

    def consumer(self, attributes: Mapping[str, str]) -> str:
        """Who asked, by the first attribute that says; empty when none does."""
        return next((attributes[name] for name in self._consumer if attributes.get(name)), "")

    def of_model(self, provider: str, model: str) -> str:
        """The same for usage of which no more is known than its model; quick the second time."""
        name = self._remembered.get((provider, model))
        if name is None:
            name = self.name(provider, {"model": model})
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            if len(provider) + len(model) <= MAX_REMEMBERED_LENGTH:
                self._remembered[provider, model] = name
        return name

    def _plain(self, provider: str) -> str:
        name = self._aliases.get(provider, provider)
        if name in self._canonical:
            return name
        known = self._shown.get(_fold(name))
        if known is None and "." in name:
            plain, _, interface = name.rpartition(".")
            if interface.lower().replace("-", "") in INTERFACES:
                known = self._aliases.get(plain) or self._shown.get(_fold(plain))
        return known or name


def undated(model: str) -> str:
    """A model's name without what tells one release of it from others: `gpt-4o-2024-08-06` and
    `gpt-4o` are one model, `claude-sonnet-4-5-20250929`, `…@20250929` and `…-latest` another."""
    name = model.lower().removeprefix("models/")
    plain = _RELEASE.sub("", name)
    return plain or name


def _matches(patterns: Mapping[str, str], attributes: Mapping[str, str]) -> bool:
    return all(
        attributes.get(attribute) and fnmatchcase(attributes[attribute], pattern)
        for attribute, pattern in patterns.items()
    )


def _maker(model: str) -> str:
    return next((name for name, pattern in MAKERS.items() if pattern.match(model.lower())), "")


def _fold(name: str) -> str:
    return name.lower().translate(_SEPARATORS)
