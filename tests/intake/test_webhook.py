"""Webhooks: the examples of the documentation are read as it says, and bad ones are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from exporter.config import Config, ConfigError, Webhook, parse
from exporter.core.series import Series
from exporter.core.signal import Verdict
from exporter.core.usage import Tokens
from exporter.intake import webhook
from exporter.intake.batching import Batcher
from exporter.intake.format import Client, Context, Push
from exporter.intake.naming import Naming
from exporter.intake.otlp_reports import Reports
from exporter.intake.otlp_sources import Sources
from exporter.intake.reading import MalformedBody, Reading, Rejection

NOW = 1_790_000_000.0
PAGE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
EXAMPLES = {
    config.split()[1].rstrip(":"): (config, json.loads(sample))
    for config, sample in re.findall(r"```yaml\n(.*?)```\n\n```json\n(.*?)```", PAGE, re.DOTALL)
}


def read(body: object, webhooks: dict[str, Webhook], name: str = "hook") -> Reading:
    naming = Naming({}, (), ())
    batcher = Batcher(Series, NOW, 86400.0, 128)
    reports = Reports(Sources("metrics"))
    context = Context(NOW, naming, 100, batcher, reports, b"", 3600.0, webhooks)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return webhook.FORMAT.read(Push(data, "application/json", Client(), name=name), context)


def hook(**fields: str) -> dict[str, Webhook]:
    items = fields.pop("items", "")
    return {"hook": Webhook(items, {"provider": "openai", **fields})}


@pytest.mark.parametrize("name", ["kong", "apisix", "helicone", "portkey", "agent-router"])
def test_the_examples_of_the_documentation_count_what_they_say(name: str) -> None:
    config, sample = EXAMPLES[name]
    found = read(sample, dict(parse(config, "quota.yml").webhooks), name)
    (usage,) = found.usages
    assert (usage.provider, usage.requests) == ("openai", 1)
    assert usage.model.startswith("gpt-4o")
    assert sum(usage.tokens) == 150
    assert usage.tokens.output == 30
    assert usage.id
    assert usage.consumer == ("" if name == "agent-router" else "search")
    if name in ("kong", "helicone"):
        assert usage.cost_nano_usd == 600_000
    assert not found.signals
    assert not found.rejected


def test_a_refusal_is_a_signal_about_its_model() -> None:
    item = {
        "m": "gpt-4o",
        "status": 429,
        "headers": {"retry-after": "7200"},
        "body": {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}},
    }
    found = read(item, hook(model="$.m", status="$.status", headers="$.headers", body="$.body"))
    (signal,) = found.signals
    assert (signal.provider, signal.request_model) == ("openai", "gpt-4o")
    assert signal.verdict is Verdict.EXHAUSTED
    assert not found.usages


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (NOW, NOW),
        (NOW * 1e3, NOW),
        (NOW * 1e6, NOW),
        (NOW * 1e9, NOW),
        (str(NOW), NOW),
        ("2026-09-21T14:13:20Z", 1_790_000_000.0),
        (None, None),
    ],
)
def test_a_moment_is_read_in_its_unit(given: object, expected: float | None) -> None:
    found = read({"at": given, "n": 5}, hook(timestamp="$.at", input="$.n"))
    assert found.usages[0].timestamp == (expected if expected is None else pytest.approx(expected))


def test_items_may_be_deeper_and_lines_are_items() -> None:
    calls = {"calls": [{"n": 1}, {"n": 2}]}
    body = b"\n".join(json.dumps(calls).encode() for _ in range(2))
    found = read(body, hook(items="$.calls[*]", input="$.n"))
    assert [usage.tokens for usage in found.usages] == [Tokens(1), Tokens(2)] * 2


def test_an_object_without_items_is_rejected_and_the_others_count() -> None:
    lines = [{"calls": [{"n": 1}]}, {"data": [{"n": 2}]}, {"calls": [{"n": 3}]}]
    body = b"\n".join(json.dumps(line).encode() for line in lines)
    found = read(body, hook(items="$.calls[*]", input="$.n"))
    assert [usage.tokens for usage in found.usages] == [Tokens(1), Tokens(3)]
    assert found.rejected == [
        Rejection(1, "items: expected one or more at $.calls[*], got none"),
    ]


def test_nothing_used_is_uncharged() -> None:
    found = read({"n": "-"}, hook(input="$.n"))
    assert (found.usages, found.uncharged) == ([], {"no_usage": 1})


BAD_ITEMS: list[tuple[dict[str, str], Any, str]] = [
    ({"input": "$.n"}, {"n": "many"}, "input: expected a whole number from 0 to"),
    ({"input": "$.n"}, {"n": -1}, "input: expected a whole number from 0 to"),
    ({"usage": "$.u"}, {"u": 7}, "usage: expected an object, got 7"),
    ({"usage": "$.u"}, {"u": {"x": 1}}, "no token counts of a known format, got fields ['x']"),
    ({"input": "$.n", "model": "$.m"}, {"n": 1, "m": 5}, "model: expected a text, got 5"),
    ({"input": "$.n", "provider": "$.p"}, {"n": 1}, "provider: expected a name at $.p, got ''"),
    ({"input": "$.n", "id": "$.i"}, {"n": 1, "i": []}, "id: expected a text or an integer, got []"),
    (
        {"input": "$.n", "timestamp": "$.t"},
        {"n": 1, "t": "noon"},
        "timestamp: expected Unix time or RFC 3339 with an offset, got 'noon'",
    ),
    *(
        (
            {"input": "$.n", "timestamp": "$.t"},
            {"n": 1, "t": endless},
            f"timestamp: expected Unix time or RFC 3339 with an offset, got '{endless}'",
        )
        for endless in ("inf", "1e400", "nan", "-inf")
    ),
    *(
        (
            {"status": "$.s", "headers": "$.h"},
            {"s": 429, "h": headers},
            f"headers: expected an object, got {headers!r}",
        )
        for headers in (5, "x", [["retry-after", "5"]])
    ),
    ({"input": "$.n", "cost_usd": "$.c"}, {"n": 1, "c": -1}, "cost_usd: expected US dollars"),
]


@pytest.mark.parametrize(("fields", "item", "error"), BAD_ITEMS)
def test_a_bad_item_is_rejected_alone(fields: dict[str, str], item: Any, error: str) -> None:
    found = read([item, item], hook(**fields))
    assert [one.index for one in found.rejected] == [0, 1]
    assert found.rejected[0].error.startswith(error)


def test_an_unknown_webhook_is_refused_with_those_there_are() -> None:
    with pytest.raises(MalformedBody, match="webhook: expected one of hook, got 'other'"):
        read({}, hook(input="$.n"), "other")
    with pytest.raises(MalformedBody, match="the configuration has no webhooks, got 'other'"):
        read({}, {}, "other")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "expected a JSON object, an array, or one object per line, got nothing"),
        (b"{", "not JSON: "),
        (b"[" + b"{}," * 101 + b"{}]", "expected at most 100 items in a request, got 102"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, error: str) -> None:
    with pytest.raises(MalformedBody, match=re.escape(error)):
        read(body, hook(input="$.n"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{input: $.n}", "quota.yml:1: webhooks.hook: the key provider is missing"),
        ("{provider: x}", "webhooks.hook: expected one or more of usage, status, input"),
        (
            "{provider: x, usage: $.u, input: $.n}",
            "expected either usage or tokens by kind, got both",
        ),
        ("{provider: x, input: n}", "webhooks.hook.input: expected a JSON path such as $.model"),
        ("{provider: x, input: '$.n['}", "webhooks.hook.input: expected a JSON path (RFC 9535): "),
        ("{provider: x, tokens: $.n}", "webhooks.hook.tokens: "),
    ],
)
def test_a_bad_mapping_is_named(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"webhooks: {{hook: {text}}}", "quota.yml")
    assert problem in str(caught.value)


def test_without_webhooks_there_are_none() -> None:
    assert Config().webhooks == {}
