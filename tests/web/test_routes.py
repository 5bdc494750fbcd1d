"""The application in this process: a clock that can be set, a store that can fail."""

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import openapi_spec_validator
import pytest
from starlette.routing import Route

from exporter.config import Config, parse
from exporter.core.scope import Scope
from exporter.core.slots import COST, REQUESTS
from exporter.intake.formats import FORMATS
from exporter.quota_states import QuotaStates
from exporter.service import Service
from exporter.storage import open_store
from exporter.storage.contract import Batch, Committed, StorageError, Store
from exporter.storage.group_commit import GroupCommit
from exporter.supervisor import Supervisor
from exporter.web.app import create_app
from exporter.web.exporter_collector import ExporterCollector
from exporter.web.openapi import document
from exporter.web.site import Site
from exporter.web.toolkit.auth import Authoriser, Right, Token, right_for
from exporter.web.toolkit.webconfig import WebConfig
from tests.e2e.running import Samples, series

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86400.0
TOKEN_TYPE = {"key": "gen_ai.token.type", "value": {"stringValue": "input"}}


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Moody:
    """A store in memory that fails, or does not answer, when told to.

    Attributes:
        fails: every commit is refused.
        commits: how many were asked of it.
        goes: while it is not set, commits wait.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fails = False
        self.commits = 0
        self.goes = threading.Event()
        self.goes.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, batches: Sequence[Batch], now: float) -> list[Committed]:
        self.commits += 1
        self.goes.wait()
        if self.fails:
            raise StorageError("disk full")
        return self._store.commit(batches, now)


class House:
    """An application around a service, and a client for it."""

    def __init__(self, site: Site, client: httpx.AsyncClient, clock: Clock, store: Moody):
        self.site = site
        self.service = site.service
        self.http = client
        self.clock = clock
        self.store = store

    async def push(self, *events: object, **headers: str) -> httpx.Response:
        return await self.http.post("/v1/usage", json=list(events), headers=headers)

    async def metrics(self) -> Samples:
        return series((await self.http.get("/metrics")).text)

    async def value(self, name: str, **labels: str) -> float | None:
        return (await self.metrics()).get((name, frozenset(labels.items())))

    async def provider(self, name: str) -> dict[str, Any]:
        shown: dict[str, Any] = (await self.http.get(f"/v1/providers/{name}")).json()
        return shown


async def problems() -> list[str]:
    return ["quota.yml:1: it is bad"]


@asynccontextmanager
async def house(
    config: Config | str = "budgets: {openai: 1000}\n", authoriser: Authoriser | None = None
) -> AsyncIterator[House]:
    clock = Clock()
    config = parse(config, "quota.yml") if isinstance(config, str) else config
    store = Moody(open_store("memory://", retention=35 * DAY, deduplication=2 * DAY, now=clock()))
    commits = GroupCommit(store, asyncio.get_running_loop(), clock)
    service = Service(config, commits, store.shared, clock, clock)
    await service.start(clock())
    site = Site(service, clock, WebConfig(), authoriser or Authoriser())
    app = create_app(site, ExporterCollector(clock(), Supervisor()), problems)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://exporter") as client:
        try:
            yield House(site, client, clock, store)
        finally:
            store.goes.set()
            await commits.close()


def lived(
    story: Callable[[House], Awaitable[None]],
    config: str = "budgets: {openai: 1000}\n",
    authoriser: Authoriser | None = None,
) -> None:
    """Run a story in a house of its own."""

    async def run() -> None:
        async with house(config, authoriser) as built:
            await asyncio.wait_for(story(built), 60)

    asyncio.run(run())


# -- the description --


def test_the_description_is_valid_openapi() -> None:
    openapi_spec_validator.validate(document())


def test_the_description_has_exactly_the_routes_there_are() -> None:
    async def story(house: House) -> None:
        app = house.http._transport.app  # type: ignore[attr-defined] # the one it talks to
        served = {
            (route.path.replace(":path", ""), method)
            for route in app.routes
            if isinstance(route, Route)
            for method in (route.methods or set()) - {"HEAD"}
        }
        described = {
            (path, method.upper()) for path, item in document()["paths"].items() for method in item
        }
        assert described == served

    lived(story)


def test_the_event_that_is_described_is_the_event_that_is_read() -> None:
    described = document()["components"]["schemas"]["Event"]

    async def story(house: House) -> None:
        examples = {"string": "x", "integer": 1, "number": 1.5, "object": {"total_tokens": 1}}
        for name, schema in described["properties"].items():
            kind = schema.get("type") or schema["anyOf"][0]["type"]
            value = house.clock.now if name == "timestamp" else examples[kind]
            event = {"provider": "x", name: value}
            if not name.endswith("tokens") and name != "usage":
                event["tokens"] = 1
            assert (await house.push(event)).json()["accepted"] == 1, name

    assert (described["required"], described["additionalProperties"]) == (["provider"], False)
    lived(story)


def test_every_format_has_a_route_a_right_counters_and_an_answer_to_a_wrong_type() -> None:
    async def story(house: House) -> None:
        samples = await house.metrics()
        for form in FORMATS:
            assert right_for("POST", form.path) is Right.PUSH
            for outcome in ("accepted", "duplicate", "rejected", "uncharged"):
                labels = {"source": form.source, "outcome": outcome}
                assert ("llm_quota_events_total", frozenset(labels.items())) in samples
            answer = await house.http.post(form.path, headers={"content-type": "image/png"})
            assert answer.status_code == 415
            assert answer.json()["error"].startswith(
                f"content-type: expected {form.media_types[0]}"
            )

    lived(story)


def test_problems_of_a_reload_are_answered() -> None:
    async def story(house: House) -> None:
        answer = await house.http.post("/-/reload")
        assert (answer.status_code, answer.json()) == (500, {"error": "quota.yml:1: it is bad"})

    lived(story)


# -- time --


def test_a_spent_budget_is_whole_again_after_midnight_without_any_traffic() -> None:
    async def story(house: House) -> None:
        await house.push({"provider": "openai", "tokens": 1000})
        spent = await house.provider("openai")
        assert (spent["state"], spent["retry_after"]) == ("quota_exhausted", "2026-03-05T00:00:00Z")
        house.clock.now = NOON + 12 * HOUR - 1
        assert await house.value("llm_quota_state", provider="openai", state="available") == 0
        house.clock.now += 1
        assert await house.value("llm_quota_state", provider="openai", state="available") == 1
        assert await house.value("llm_quota_used_tokens", provider="openai", period="day") == 0
        transitions = {
            tuple(sorted(labels)): value
            for (name, labels), value in (await house.metrics()).items()
            if name == "llm_quota_transitions_total"
        }
        assert sum(transitions.values()) == 2

    lived(story)


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    async def story(house: House) -> None:
        async def used() -> float | None:
            return await house.value("llm_quota_used_tokens", provider="openai", period="day")

        await house.push({"provider": "openai", "tokens": 10, "id": "before"})
        house.clock.now = NOON - 2 * HOUR
        assert (await house.push({"provider": "openai", "tokens": 5})).json()["accepted"] == 1
        again = await house.push({"provider": "openai", "tokens": 10, "id": "before"})
        assert again.json()["duplicates"] == 1
        assert await used() == 15
        await house.service.tick(house.clock.now)
        house.clock.now = NOON - DAY  # the day before, when nothing was used
        assert await used() == 0
        assert (await house.http.get("/")).status_code == 200
        house.clock.now = NOON + 1
        assert await used() == 15
        assert await house.value("llm_quota_requests_total", provider="openai", model="") == 2

    lived(story)


def test_a_clock_that_is_set_back_keeps_a_provider_out() -> None:
    async def story(house: House) -> None:
        wish = {"state": "quota_exhausted", "retry_after": NOON + HOUR}
        await house.http.put("/v1/providers/openai/state", json=wish)
        house.clock.now = NOON - HOUR
        assert (await house.provider("openai"))["state"] == "quota_exhausted"
        house.clock.now = NOON + HOUR
        assert (await house.provider("openai"))["state"] == "available"

    lived(story)


# -- consumers --


def consumers(house: House) -> dict[str, int]:
    """Requests by consumer, as counted."""
    found: dict[str, int] = {}
    for (_, _, consumer), counts in house.service.usage.totals.items():
        found[consumer] = found.get(consumer, 0) + counts[REQUESTS]
    return found


def test_a_consumer_is_named_by_the_event_the_request_or_an_attribute() -> None:
    litellm = {
        "id": "1",
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-5",
        "response_cost": 0.25,
        "end_user": "somebody@example.com",
        "metadata": {
            "user_api_key_alias": "batch",
            "usage_object": {"prompt_tokens": 3, "completion_tokens": 4},
        },
    }
    team = {**litellm, "id": "2", "metadata": {"user_api_key_team_alias": "search"}}
    team["metadata"]["usage_object"] = litellm["metadata"]["usage_object"]
    span = {
        "endTimeUnixNano": str(int(NOON * 1e9)),
        "attributes": [
            {"key": "gen_ai.system", "value": {"stringValue": "openai"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "5"}},
        ],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    traces = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}

    async def story(house: House) -> None:
        event = {"provider": "openai", "tokens": 1}
        await house.push(event)
        named = httpx.Headers({"x-consumer": "crön"}, encoding="utf-8")
        both = [{**event, "consumer": "web"}, event]
        await house.http.post("/v1/usage", json=both, headers=named)
        assert (await house.http.post("/v1/litellm", json=[litellm, team])).status_code == 200
        assert (await house.http.post("/v1/traces", json=traces)).status_code == 200
        await house.service.refresh(house.clock.now)
        assert consumers(house) == {"": 1, "web": 1, "crön": 1, "batch": 1, "search": 1, "shop": 1}
        assert house.service.usage.totals["openai", "gpt-5", "batch"][COST] == 250_000_000

    lived(story)


def test_the_configuration_chooses_the_attribute_and_caps_the_consumers() -> None:
    config = "consumer: [enduser.id]\nlimits: {consumers_per_provider: 2}\n"

    async def story(house: House) -> None:
        for number in range(4):
            span = {
                "traceId": "%032x" % (number + 1),
                "spanId": "%016x" % (number + 1),
                "endTimeUnixNano": str(int(NOON * 1e9)),
                "attributes": [
                    {"key": "gen_ai.system", "value": {"stringValue": "openai"}},
                    {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "5"}},
                    {"key": "enduser.id", "value": {"stringValue": f"user-{number}"}},
                ],
            }
            body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
            assert (await house.http.post("/v1/traces", json=body)).status_code == 200
        await house.service.refresh(house.clock.now)
        assert consumers(house) == {"user-0": 1, "user-1": 1, "other": 2}
        assert await house.value("llm_quota_folded_total", what="consumer") == 2

    lived(story, config)


def test_names_that_were_not_used_within_the_retention_make_room() -> None:
    async def story(house: House) -> None:
        await house.push(*({"provider": f"junk-{n}", "tokens": 1} for n in range(3)))
        assert (await house.push({"provider": "real", "tokens": 1})).status_code == 200
        assert "real" not in (await house.http.get("/v1/providers")).json()
        house.clock.now += 4 * DAY
        await house.service.tick(house.clock.now)
        await house.push({"provider": "real", "tokens": 1})
        shown = (await house.http.get("/v1/providers")).json()
        assert "real" in shown
        assert not any(name.startswith("junk") for name in shown)

    lived(story, "retention: 3d\nlimits: {providers: 3}\n")


# -- hostile pushes --


def test_a_hundred_thousand_rejections_are_answered_and_kept_in_a_few_kilobytes() -> None:
    packed = gzip.compress(b"[" + b",".join([b"1"] * 100_000) + b"]")

    async def story(house: House) -> None:
        headers = {"content-encoding": "gzip", "idempotency-key": "k"}
        first = await house.http.post("/v1/usage", content=packed, headers=headers)
        again = await house.http.post("/v1/usage", content=packed, headers=headers)
        assert first.status_code == again.status_code == 400
        assert first.content == again.content
        assert len(first.content) < 5000
        said = first.json()
        assert len(said["rejected"]) + said["more_rejected"] == 100_000
        labels = {"source": "usage", "outcome": "rejected"}
        assert await house.value("llm_quota_events_total", **labels) == 100_000

    assert len(packed) < 500
    lived(story)


def test_otlp_says_how_many_points_were_rejected_though_it_lists_few() -> None:
    provider = {"key": "gen_ai.provider.name", "value": {"stringValue": "openai"}}
    point = {"asInt": "-1", "timeUnixNano": "1", "attributes": [TOKEN_TYPE, provider]}
    usage = {"name": "gen_ai.client.token.usage", "sum": {"dataPoints": [point] * 1000}}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [usage]}]}]}

    async def story(house: House) -> None:
        answer = await house.http.post("/v1/metrics", json=body)
        assert answer.status_code == 200
        assert answer.json()["partialSuccess"]["rejectedDataPoints"] == "1000"
        assert len(answer.content) < 1000

    lived(story)


@pytest.mark.parametrize("headers", [{}, {"x-other": "1"}])
def test_one_clients_idempotency_key_is_not_anothers(headers: dict[str, str]) -> None:
    tokens = [Token(name.encode(), frozenset({Right.PUSH}), name) for name in ("one", "two")]

    async def story(house: House) -> None:
        event = {"provider": "openai", "tokens": 1}
        for name, accepted in (("one", 1), ("two", 2), ("one", 2), ("two", 2)):
            said = {**headers, "idempotency-key": "k", "authorization": f"Bearer {name}"}
            answer = await house.push(event, **said)
            assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
            samples = house.service.recorder.events
            assert samples["usage", "accepted"] == accepted

    lived(story, authoriser=Authoriser(tokens))


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b",".join([b"1"] * 100_000) + b"]",
        b"\n".join([b"1"] * 100_000),
        b"\n".join(b'{"provider":"p","tokens":1,"timestamp":%d}' % n for n in range(100_000)),
        b"\n".join(b'{"provider":"p%d","tokens":1,"model":"m%d"}' % (n, n) for n in range(100_000)),
    ],
    ids=["worthless array", "worthless lines", "too old", "names"],
)
def test_the_event_loop_goes_round_while_a_large_push_is_read(body: bytes) -> None:
    async def story(house: House) -> None:
        push = asyncio.create_task(
            house.http.post("/v1/usage", content=body, headers={"idempotency-key": "k"})
        )
        turns = 0
        while not push.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert (await push).status_code in (200, 400)
        # A tenth of a second of work at the least: a loop that did it would go round a few times.
        assert turns > 20

    lived(story)


REFUSAL = {
    "provider": "openai",
    "status": 429,
    "headers": {"retry-after": "7200"},
    "body": {"error": {"code": "insufficient_quota"}},
    "timestamp": NOON,
}


@pytest.mark.parametrize("path", ["/v1/signals", "/v1/litellm"])
def test_a_repeated_request_takes_nobody_out_again(path: str) -> None:
    failure = {
        "status": "failure",
        "custom_llm_provider": "openai",
        "endTime": NOON,
        "error_information": {
            "error_code": "429",
            "error_message": "OpenAIException - You exceeded your current quota",
        },
    }

    async def story(house: House) -> None:
        body = REFUSAL if path == "/v1/signals" else [failure]
        key = {"idempotency-key": "k"}
        first = await house.http.post(path, json=body, headers=key)
        assert first.json()["accepted"] == 1
        assert (await house.provider("openai"))["state"] == "quota_exhausted"
        house.clock.now += 60
        await house.http.put("/v1/providers/openai/state", json={"state": "available"})
        again = await house.http.post(path, json=body, headers=key)
        assert again.content == first.content
        assert (await house.provider("openai"))["state"] == "available"

    lived(story)


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "k"}])
def test_what_a_provider_said_is_durable_when_it_is_answered(headers: dict[str, str]) -> None:
    async def story(house: House) -> None:
        answer = await house.http.post("/v1/signals", json=REFUSAL, headers=headers)
        assert answer.status_code == 200
        documents = house.store.load(NOON).documents  # as after a crash
        following = QuotaStates()
        for name, body in documents.items():
            following.load(name, body, NOON)
        assert following.scope(Scope("openai"), NOON).view.retry_at == NOON + 7200
        commits = house.store.commits
        await house.service.recorder.save()
        assert house.store.commits == commits  # nothing was left to be stored

    lived(story)


@pytest.mark.parametrize("headers", [{}, {"idempotency-key": "k"}])
def test_a_signal_that_cannot_be_stored_is_answered_so_and_stands_once_sent_again(
    headers: dict[str, str],
) -> None:
    async def story(house: House) -> None:
        house.store.fails = True
        answer = await house.http.post("/v1/signals", json=REFUSAL, headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        house.store.fails = False
        assert (await house.http.post("/v1/signals", json=REFUSAL, headers=headers)).is_success
        assert (await house.provider("openai"))["state"] == "quota_exhausted"

    lived(story)


def test_signals_that_say_nothing_create_nobody() -> None:
    async def story(house: House) -> None:
        said = [{"provider": f"junk-{n}", "status": 500} for n in range(100)]
        answer = await house.http.post("/v1/signals", json=said)
        assert answer.json() == {"accepted": 0, "duplicates": 0, "rejected": []}
        assert (await house.http.get("/v1/providers")).json().keys() == {"openai"}
        labels = {"source": "signals", "reason": "says_nothing"}
        assert await house.value("llm_quota_uncharged_total", **labels) == 100

    lived(story)


# -- a store that fails --


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/usage", {"provider": "openai", "tokens": 5}),
        ("POST", "/v1/usage", [{"provider": "openai", "tokens": 5, "id": "a"}]),
        (
            "PUT",
            "/v1/providers/openai/state",
            {"state": "quota_exhausted", "retry_after": NOON + 5},
        ),
    ],
)
def test_what_cannot_be_stored_is_answered_503_and_the_rest_goes_on(
    method: str, path: str, body: object
) -> None:
    async def story(house: House) -> None:
        await house.push({"provider": "openai", "tokens": 7})
        house.store.fails = True
        answer = await house.http.request(method, path, json=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json() == {"error": "cannot store right now"}
        assert await house.value("llm_quota_used_tokens", provider="openai", period="day") == 7
        assert await house.value("llm_quota_exporter_storage_up") == 0
        assert (await house.http.get("/-/ready")).status_code == 503
        assert (await house.http.get("/-/healthy")).status_code == 200
        assert (await house.http.get("/v1/providers")).status_code == 200

    lived(story)


def test_readiness_comes_back_with_the_store_though_nobody_pushes() -> None:
    async def story(house: House) -> None:
        house.store.fails = True
        await house.push({"provider": "openai", "tokens": 7})
        with pytest.raises(StorageError):
            await house.service.tick(house.clock.now)
        assert (await house.http.get("/-/ready")).status_code == 503
        house.store.fails = False
        await house.service.tick(house.clock.now)
        assert (await house.http.get("/-/ready")).status_code == 200

    lived(story)


def test_the_same_push_counts_once_it_can_be_stored() -> None:
    async def story(house: House) -> None:
        event = {"provider": "openai", "tokens": 7, "id": "a"}
        house.store.fails = True
        for _ in range(3):
            assert (await house.push(event, **{"idempotency-key": "k"})).status_code == 503
        house.store.fails = False
        answer = await house.push(event, **{"idempotency-key": "k"})
        assert answer.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
        assert await house.value("llm_quota_used_tokens", provider="openai", period="day") == 7

    lived(story)


def test_pushes_that_pile_up_before_a_slow_store_are_to_come_again() -> None:
    """With 429; but LiteLLM drops what gets one, and comes again after 5xx."""

    async def story(house: House) -> None:
        house.store.goes.clear()
        event = {"provider": "openai", "tokens": 1}
        waiting = [asyncio.create_task(house.push(event)) for _ in range(3)]
        while house.service.overloaded is False:
            await asyncio.sleep(0)
        for path, status in (("/v1/usage", 429), ("/v1/signals", 429), ("/v1/litellm", 503)):
            refused = await house.http.post(path, json=event)
            assert (refused.status_code, refused.headers["retry-after"]) == (status, "1")
        assert (await house.http.get("/metrics")).status_code == 200
        house.store.goes.set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 3
        assert await house.value("llm_quota_used_tokens", provider="openai", period="day") == 3

    lived(story, "budgets: {openai: 1000}\nlimits: {outstanding_requests: 3}\n")


def test_bodies_that_are_too_large_together_get_429() -> None:
    async def story(house: House) -> None:
        house.store.goes.clear()
        body = b'{"provider": "openai", "tokens": 1}'.ljust(3000)  # more than all may have
        headers = {"content-type": "application/json"}
        alone = asyncio.create_task(house.http.post("/v1/usage", content=body, headers=headers))
        while house.service.overloaded is False:
            await asyncio.sleep(0)
        packed = headers | {"content-encoding": "gzip"}
        for content, sent in ((b"{}", headers), (gzip.compress(body), packed)):
            refused = await house.http.post("/v1/signals", content=content, headers=sent)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json()["error"] == "other requests hold 3000 of 1024 bytes"
        house.store.goes.set()
        assert (await alone).status_code == 200
        later = await house.http.post("/v1/usage", content=gzip.compress(body), headers=packed)
        assert later.json()["accepted"] == 1
        rejected = {"source": "signals", "outcome": "rejected"}
        assert await house.value("llm_quota_events_total", **rejected) == 0

    lived(
        story,
        "budgets: {openai: 1000}\nlimits: {outstanding_bytes: 1KiB, outstanding_requests: 1}\n",
    )


# -- who is available --


def test_a_push_that_spends_a_budget_is_known_to_the_next_answer() -> None:
    async def story(house: House) -> None:
        async def state(model: str) -> str:
            asked = {"provider": "openai", "model": model}
            answer = await house.http.get("/v1/availability", params=asked)
            found: str = answer.json()["state"]
            return found

        await house.push({"provider": "openai", "model": "o3", "tokens": 2})
        await house.metrics()  # measures: from here on nothing is measured any more
        await house.push({"provider": "openai", "model": "o3", "tokens": 7})
        assert await state("o3") == "available"
        await house.push({"provider": "openai", "model": "o3", "tokens": 1})
        assert (await state("o3"), await state("gpt-5")) == ("quota_exhausted", "available")

    lived(story, "budgets: {openai: {tokens: 10, model: o3}}\n")


def test_an_answer_that_is_known_is_not_sent_again() -> None:
    async def story(house: House) -> None:
        first = await house.http.get("/v1/availability")
        known = {"if-none-match": first.headers["etag"]}
        for held in (known["if-none-match"], f'"old", W/{known["if-none-match"]}', "*"):
            again = await house.http.get("/v1/availability", headers={"if-none-match": held})
            assert (again.status_code, again.content) == (304, b"")
        await house.push({"provider": "openai", "tokens": 1000})
        assert (await house.http.get("/v1/availability", headers=known)).status_code == 200

    lived(story)


def test_two_credentials_or_keys_in_one_request_are_refused() -> None:
    tokens = [Token(name.encode(), frozenset({Right.PUSH}), name) for name in ("one", "two")]

    async def story(house: House) -> None:
        event = {"provider": "openai", "tokens": 1}
        for headers, error in (
            (
                [("authorization", "Bearer one"), ("authorization", "Bearer two")],
                "authorization: expected one, got 2",
            ),
            (
                [("authorization", "Bearer one"), *[("idempotency-key", key) for key in "ab"]],
                "idempotency-key: expected one, got 2",
            ),
        ):
            answer = await house.http.post("/v1/usage", json=event, headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (400, error)

    lived(story, authoriser=Authoriser(tokens, {}))


def test_a_webhook_is_pushed_to_the_path_of_its_name() -> None:
    async def scenario() -> None:
        config = "webhooks: {kong: {provider: openai, input: $.n}}\n"
        async with house(config) as at:
            answer = await at.http.post("/v1/webhooks/kong", json=[{"n": 7}, {"n": -1}])
            assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
            assert answer.json()["rejected"][0]["index"] == 1
            assert (await at.http.post("/v1/webhooks/other", json={})).status_code == 400
            assert (await at.http.get("/v1/webhooks/kong")).status_code == 405
            assert (
                await at.value("llm_quota_events_total", source="webhook", outcome="accepted") == 1
            )
            assert (
                await at.value("llm_quota_tokens_total", provider="openai", model="", kind="input")
                == 7
            )

    asyncio.run(scenario())
    assert right_for("POST", "/v1/webhooks/kong") is Right.PUSH


@pytest.mark.parametrize("path", ["/metrics", "/"])
@pytest.mark.parametrize(
    ("header", "packed"),
    [
        *(("gzip", True), ("deflate, gzip;q=0.5", True), ("GZIP", True), ("gzip;q=1.0, *", True)),
        *(("gzip;q=0", False), ("gzip; q=0.000, identity", False), ("identity", False)),
        *(("*;q=0", False), ("", False), ("notgzip", False)),
    ],
)
def test_an_answer_is_packed_for_whom_it_may_be(path: str, header: str, packed: bool) -> None:
    async def story(house: House) -> None:
        answer = await house.http.get(path, headers={"accept-encoding": header})
        assert answer.status_code == 200
        assert (answer.headers.get("content-encoding") == "gzip") == packed

    lived(story)


def test_many_scrapes_at_once_share_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(house: House) -> None:
        measured, snapshot = [], house.service.snapshot

        async def counted(now: float) -> Any:
            measured.append(now)
            return await snapshot(now)

        monkeypatch.setattr(house.service, "snapshot", counted)
        answers = await asyncio.gather(*[house.http.get("/metrics") for _ in range(100)])
        assert {answer.status_code for answer in answers} == {200}
        assert len(measured) <= 2

    lived(story)
