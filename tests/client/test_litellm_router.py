"""LiteLLM's own router, with the filter among its callbacks."""

import asyncio
import os
from collections import Counter

import pytest

from exporter.client import Availability
from tests import real
from tests.client.states_server import StatesServer, entry, out
from tests.client.upstreams import upstream
from tests.e2e.running import until

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would ask the internet for prices
litellm = real.module("litellm")
adapter = pytest.importorskip("exporter.client.litellm")


@pytest.fixture
def server():
    return StatesServer()


@pytest.fixture
def availability(server):
    with server.serving() as url, Availability(url) as availability:
        assert availability.wait(20)
        yield availability


@pytest.fixture
def upstreams():
    with upstream("first") as first, upstream("second") as second:
        yield first, second


@pytest.fixture
def router(availability, upstreams, monkeypatch):
    monkeypatch.setattr(litellm, "callbacks", [adapter.QuotaFilter(availability)])
    deployments = [("openai/gpt-x", {}), ("deepseek/llama", {"quota_provider": "deepseek-team"})]
    return litellm.Router(
        model_list=[
            {
                "model_name": "chat",
                "litellm_params": {"model": model, "api_base": one.url, "api_key": "k"},
                "model_info": info,
            }
            for (model, info), one in zip(deployments, upstreams, strict=True)
        ],
        num_retries=0,
    )


def answers(router, requests: int = 20, **more) -> set[str]:
    """Who answered."""

    async def ask():
        messages = [{"role": "user", "content": "Hello"}]
        got = await asyncio.gather(
            *(router.acompletion("chat", messages=messages, **more) for _ in range(requests))
        )
        return {one.choices[0].message.content for one in got}

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], {"first", "second"}),
        ([out("openai")], {"second"}),
        ([out("openai", model="gpt-*")], {"second"}),
        ([out("openai", model="o3")], {"first", "second"}),
        ([out("deepseek")], {"first", "second"}),
        ([out("deepseek-team")], {"first"}),
        ([out("deepseek-team", model="llama")], {"first"}),
        ([out("openai"), out("deepseek-team")], {"first", "second"}),
        ([out("openai", consumer="web")], {"first", "second"}),
        ([out("openai", until="2020-01-01T00:00:00Z")], {"first", "second"}),
    ],
)
def test_deployments_that_are_out_get_nothing_unless_all_are(
    server, availability, router, states, expected
):
    server.set(*states, out("last"))
    until(lambda: not availability.allows("last"), "last change")
    assert answers(router) == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"user_api_key_team_alias": "batch-7", "user_api_key_alias": "k"}, {"second"}),
        ({"user_api_key_team_alias": None, "user_api_key_team_id": "batch-7"}, {"second"}),
        ({"user_api_key_alias": "batch-7"}, {"second"}),
        ({"user_api_key_team_alias": "t", "user_api_key_alias": "batch"}, {"first", "second"}),
        ({}, {"first", "second"}),
    ],
)
def test_what_a_consumer_has_left_counts(server, availability, router, metadata, expected):
    server.set(out("openai", consumer="batch*"), out("last"))
    until(lambda: not availability.allows("last"), "last change")
    assert answers(router, metadata=metadata) == expected


def test_the_way_back_is_taken(server, availability, router):
    server.set(out("openai"))
    until(lambda: not availability.allows("openai"), "refusal")
    assert answers(router) == {"second"}
    server.set(entry("openai"))
    until(lambda: availability.allows("openai"), "way back")
    assert answers(router) == {"first", "second"}


def test_a_filter_that_fails_filters_nothing(availability):
    one = adapter.QuotaFilter(availability)
    given = [{"litellm_params": None}, "no deployment"]
    assert asyncio.run(one.async_filter_deployments("chat", given, None)) is given


def test_a_model_of_an_unknown_provider_is_asked_for_by_its_prefix(server, availability):
    server.set(out("mine"))
    until(lambda: not availability.allows("mine"), "refusal")
    one = adapter.QuotaFilter(availability)
    given = [{"litellm_params": {"model": model}} for model in ("mine/m", "x", "openai/x")]
    kept = asyncio.run(one.async_filter_deployments("chat", given, None))
    assert kept == given[1:]


def test_the_environment_says_where_the_exporter_is(server, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    with server.serving() as url:
        made = adapter.from_environment(
            {
                "LLM_QUOTA_EXPORTER_URL": url,
                "LLM_QUOTA_EXPORTER_TOKEN_FILE": str(secret),
                "LLM_QUOTA_EXPORTER_MAX_AGE": "7.5",
                "LLM_QUOTA_EXPORTER_CONSUMER": "key_alias,team",
            }
        )
        with made.availability:
            assert made.availability.wait(20)
            assert made.availability.max_age == 7.5
    assert Counter(headers["Authorization"] for _, headers in server.requests) == {
        "Bearer s3cret": 1
    }


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CONSUMER": "team,colour"}, "consumer: expected of team, key_alias, key_hash, got 'col"),
        ({"MAX_AGE": "long"}, "could not convert string to float: 'long'"),
        ({"URL": "exporter"}, "url: expected http://host:port or https://host:port, got 'exp"),
    ],
)
def test_an_environment_that_makes_no_sense_is_an_error_at_the_start(environment, message):
    given = {f"LLM_QUOTA_EXPORTER_{name}": value for name, value in environment.items()}
    with pytest.raises(ValueError, match=message):
        adapter.from_environment(given)


def test_the_module_has_the_filter_and_nothing_it_makes_up(monkeypatch, server):
    with server.serving() as url:
        monkeypatch.setenv("LLM_QUOTA_EXPORTER_URL", url)
        made = adapter.quota_filter
        with made.availability:
            assert made.availability.wait(20)
            assert adapter.quota_filter is made
    with pytest.raises(AttributeError, match="has no attribute 'quota_fitler'"):
        adapter.quota_fitler  # noqa: B018 - the question is the test
