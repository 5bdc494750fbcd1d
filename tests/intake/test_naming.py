"""A provider shows under one name however it is spelled, and rules follow the quota."""

from typing import NamedTuple

import pytest

from exporter.intake.naming import GROUPS, Naming


class Rule(NamedTuple):
    match: dict[str, str]
    provider: str


@pytest.mark.parametrize(
    "spelling",
    ["az.ai.openai", "azure", "azure.ai.openai", "azure_openai", "azure-openai", "Azure OpenAI"],
)
def test_the_name_in_budgets_shows_for_every_spelling(spelling: str) -> None:
    assert Naming({}, [], ["azure"]).name(spelling) == "azure"
    assert Naming({}, [], ["azure_openai"]).name(spelling) == "azure_openai"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("gemini", "gcp.gemini"),
        ("google.ai.studio", "gcp.gemini"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("bedrock", "aws.bedrock"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("OpenAI", "openai"),
        ("claude-acct-1", "claude-acct-1"),
        ("My Provider", "My Provider"),
        ("", ""),
    ],
)
def test_without_a_budget_the_conventions_name_shows_and_unknown_names_stay(
    spelling: str, name: str
) -> None:
    assert Naming({}, [], []).name(spelling) == name


def test_two_names_of_one_group_with_budgets_of_their_own_stay_apart() -> None:
    naming = Naming({}, [], ["azure", "azure.ai.openai"])
    assert naming.name("azure") == "azure"
    assert naming.name("azure.ai.openai") == "azure.ai.openai"
    assert naming.name("az.ai.openai") == "azure.ai.openai"


def test_an_alias_is_stronger_than_the_groups_and_may_point_into_one() -> None:
    naming = Naming({"openai": "team-a", "internal-gpt": "az.ai.openai"}, [], ["openai", "azure"])
    assert naming.name("openai") == "team-a"
    assert naming.name("internal-gpt") == "azure"


def test_the_first_rule_whose_every_pattern_matches_decides() -> None:
    naming = Naming(
        {},
        [
            Rule({"provider": "anthropic", "key_alias": "batch-*"}, "claude-acct-1"),
            Rule({"provider": "anthropic", "team": "*"}, "claude-team"),
            Rule({"model": "gpt-*"}, "azure"),
        ],
        ["az.ai.openai"],
    )
    assert naming.name("anthropic", {"key_alias": "batch-7", "team": "x"}) == "claude-acct-1"
    assert naming.name("anthropic", {"key_alias": "web", "team": "x"}) == "claude-team"
    assert naming.name("anthropic", {"key_alias": "web"}) == "anthropic"
    assert naming.name("anthropic", {"team": ""}) == "anthropic"
    assert naming.name("", {"model": "gpt-5"}) == "az.ai.openai"


@pytest.mark.parametrize("pattern", ["gcp.vertex_ai", "gcp.*", "vertex_ai"])
def test_a_rule_may_name_the_provider_as_reported_or_as_shown(pattern: str) -> None:
    naming = Naming({}, [Rule({"provider": pattern}, "google-batch")], ["vertex_ai"])
    assert naming.name("gcp.vertex_ai") == "google-batch"


def test_no_spelling_belongs_to_two_groups() -> None:
    folded = [
        {name.lower().translate(str.maketrans(".- ", "___")) for name in group} for group in GROUPS
    ]
    assert sum(map(len, folded)) == len(set().union(*folded))


@pytest.mark.parametrize(
    ("asked", "answered", "name"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
        ("", "gpt-4o-2024-08-06", "gpt-4o"),
        ("", "gpt-4o-2024-11-20", "gpt-4o-2024-11-20"),  # a budget names it
        ("", "o3-2025-04-16", "o3-2025-04-16"),  # a pattern is for releases of it alone
        ("", "gpt-4.1-2025-04-14", "gpt-4.1"),  # a pattern matches it either way
        ("", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        ("", "-2024-08-06", "-2024-08-06"),
        ("", "", ""),
    ],
)
def test_a_model_counts_under_what_was_asked_for(asked: str, answered: str, name: str) -> None:
    models = ["gpt-4o-2024-11-20", "o3-20*", "gpt-4.1*"]
    assert Naming({}, [], [], models=models).model(asked, answered) == name


def test_vercels_names_of_interfaces_are_the_providers() -> None:
    naming = Naming({"mine.chat": "mine"}, [], ["openai", "acme.chat"])
    for reported, name in {
        "openai.chat": "openai",
        "openai.responses": "openai",
        "anthropic.messages": "anthropic",
        "azure-openai.chat": "azure.ai.openai",
        "google.generative-ai": "gcp.gemini",
        "google.vertex.chat": "gcp.vertex_ai",
        "unknown.chat": "unknown.chat",
        "acme.chat": "acme.chat",
        "mine.chat": "mine",
    }.items():
        assert naming.name(reported) == name


def test_who_makes_a_model_is_its_provider_where_none_is_named() -> None:
    rule = Rule({"service": "eu"}, "azure-eu")
    naming = Naming({}, [rule], ["openai"])
    assert naming.of_call("", {"model": "gpt-4o"}) == "openai"
    assert naming.of_call("", {"model": "claude-opus-4-1"}) == "anthropic"
    assert naming.of_call("", {"model": "gpt-4o", "service": "eu"}) == "azure-eu"
    assert naming.of_call("", {"model": "mine"}) == ""
    assert naming.of_call("groq", {"model": "gpt-oss"}) == "groq"
