"""Watching the states: a real exporter and its client, and watchers of every kind beside it."""

import asyncio
import contextlib
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from exporter import change_feed
from exporter.client import Availability
from exporter.core.quota_state import State
from exporter.core.scope import Scope
from exporter.web import watch
from exporter.web.stream import STREAM
from tests.documented import block, replaced
from tests.e2e.running import Exporter, until
from tests.web.test_routes import HOUR, House, lived

CONFIG = """
budgets:
  openai: 1000
  gemini: 1000
prediction: {exhausted_at: off}
"""

Event = dict[str, str]


@pytest.fixture
def exporter(tmp_path: Path) -> Iterator[Exporter]:
    with Exporter(tmp_path, CONFIG) as running:
        yield running


@contextlib.contextmanager
def watching(exporter: Exporter, **headers: str) -> Iterator[Iterator[Event]]:
    """The events as they come; the end of the stream ends them."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    with exporter.http.stream("GET", "/v1/watch", headers=names) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield events(response.iter_lines())


def events(lines: Iterator[str]) -> Iterator[Event]:
    event: Event = {}
    for line in lines:
        field, _, value = line.partition(": ")
        if field:
            event[field] = value
        elif event:
            yield event
            event = {}


def state(exporter: Exporter, provider: str, **wish: object) -> None:
    assert exporter.http.put(f"/v1/providers/{provider}/state", json=wish).status_code == 200


def test_the_whole_state_comes_first_and_then_every_change_in_order(exporter: Exporter) -> None:
    exporter.push({"provider": "openai", "tokens": 1000})
    with watching(exporter) as came:
        first = next(came)
        assert first["event"] == "state"
        whole = json.loads(first["data"])
        assert [(one["provider"], one["reason"]) for one in whole["scopes"]] == [
            ("openai", "budget")
        ]
        assert whole["names"]["google"] == whole["names"]["gcp_gemini"] == ["gemini"]
        state(exporter, "google", state="quota_exhausted", retry_after="1h", model="gemini-3*")
        said: list[tuple[str, ...]] = []
        numbers = [int(first["id"].rpartition("-")[2])]
        while ("gemini", "gemini-3*", "quota_exhausted") not in said:
            event = next(came)
            assert event["event"] == "change"
            numbers.append(int(event["id"].rpartition("-")[2]))
            entry = json.loads(event["data"])
            said.append((entry["provider"], entry.get("model", ""), entry["state"]))
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        again = exporter.http.get("/v1/availability").json()["scopes"]
        assert {one["provider"] for one in again} == {"openai", "gemini"}


def test_what_ends_by_itself_is_told_when_it_ends(exporter: Exporter) -> None:
    with watching(exporter) as came:
        next(came)
        state(exporter, "openai", state="quota_exhausted", retry_after="1s")
        out = json.loads(next(came)["data"])
        back = json.loads(next(came)["data"])
        assert (out["state"], back["state"]) == ("quota_exhausted", "available")


def test_a_watcher_goes_on_where_it_was(exporter: Exporter) -> None:
    with watching(exporter) as came:
        first = next(came)
    state(exporter, "openai", state="quota_exhausted", retry_after="1h")
    with watching(exporter, last_event_id=first["id"]) as came:
        change = next(came)
        assert change["event"] == "change"
        assert json.loads(change["data"])["provider"] == "openai"
    with watching(exporter, last_event_id=change["id"]) as came:
        state(exporter, "gemini", state="quota_exhausted", retry_after="1h")
        assert json.loads(next(came)["data"])["provider"] == "gemini"
    for unknown in ("1", "x" * 1000, f"{first['id']}0000"):
        with watching(exporter, last_event_id=unknown) as came:
            assert next(came)["event"] == "state"


def test_a_restart_is_another_count_and_a_reload_tells_everything_anew(exporter: Exporter) -> None:
    with watching(exporter) as came:
        first = next(came)
        exporter.config.write_text(CONFIG + "aliases: {goggle: gemini}\n")
        exporter.hang_up()
        again = next(came)
        assert again["event"] == "state"
        assert json.loads(again["data"])["names"]["goggle"] == ["gemini"]
    exporter.stop()
    exporter.start()
    with watching(exporter, last_event_id=first["id"]) as came:
        assert next(came)["event"] == "state"


def test_streams_end_cleanly_when_the_exporter_does(exporter: Exporter) -> None:
    with watching(exporter) as one, watching(exporter) as other:
        next(one), next(other)
        exporter.process.terminate()
        assert list(one) == list(other) == []  # a stream that is cut off raises
    assert exporter.process.wait(20) == 0


def test_nobody_may_watch_who_may_not_read(tmp_path: Path) -> None:
    (tmp_path / "push").write_text("push-secret")
    (tmp_path / "read").write_text("read-secret")
    tokens = f"""
authentication:
  tokens:
    - {{name: pusher, file: {tmp_path}/push, rights: [push]}}
    - {{name: reader, file: {tmp_path}/read, rights: [read]}}
"""
    with Exporter(tmp_path, CONFIG + tokens) as exporter:
        for secret, status in (("push-secret", 403), ("other", 401)):
            headers = {"authorization": f"Bearer {secret}"}
            assert exporter.http.get("/v1/watch", headers=headers).status_code == status
        with watching(exporter, authorization="Bearer read-secret") as came:
            assert next(came)["event"] == "state"


def test_a_reload_ends_the_streams_of_those_who_may_not_watch_any_more(tmp_path: Path) -> None:
    tokens = "\nauthentication:\n  tokens:\n"
    for name in ("leaver", "stayer"):
        (tmp_path / name).write_text(f"{name}-secret")
        tokens += f"  - {{name: {name}, file: {tmp_path}/{name}, rights: [read]}}\n"
    web = tmp_path / "web.yml"

    def users(**passwords: str) -> None:
        hashed = {
            name: bcrypt.hashpw(word.encode(), bcrypt.gensalt(4)).decode()
            for name, word in passwords.items()
        }
        web.write_text(json.dumps({"basic_auth_users": hashed}))

    users(ann="one", bob="two")
    options = ("--web.config.file", str(web))
    leaving = ["Bearer leaver-secret", "Basic " + b64encode(b"ann:one").decode()]
    staying = ["Bearer stayer-secret", "Basic " + b64encode(b"bob:two").decode()]
    with Exporter(tmp_path, CONFIG + tokens, *options) as exporter, contextlib.ExitStack() as open_:
        streams = {
            one: open_.enter_context(watching(exporter, authorization=one))
            for one in (*leaving, *staying)
        }
        assert {next(stream)["event"] for stream in streams.values()} == {"state"}
        (tmp_path / "leaver").write_text("another-secret")
        users(ann="three", bob="two")
        exporter.hang_up()
        assert [list(streams[one]) for one in leaving] == [[], []]
        assert [next(streams[one])["event"] for one in staying] == ["state", "state"]


def test_watchers_leave_room_for_others(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG + "limits: {connections: 20, watchers: 2}\n") as exporter:
        with watching(exporter) as one, watching(exporter) as other:
            assert next(one)["event"] == next(other)["event"] == "state"
            refused = exporter.http.get("/v1/watch")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            message = "expected at most 2 watchers, poll /v1/availability instead"
            assert refused.json() == {"error": message}
            with Availability(exporter.url, poll_interval=0.05) as availability:
                until(lambda: availability.mode == "poll", "client that polls instead")
                exporter.push({"provider": "openai", "tokens": 1000})
                until(lambda: not availability.allows("openai"), "move")

        def free() -> bool:
            with contextlib.suppress(AssertionError), watching(exporter) as came:
                return next(came)["event"] == "state"
            return False

        until(free, "place that became free")


def test_the_head_of_a_stream_may_be_asked_for(exporter: Exporter) -> None:
    got = exporter.http.head("/v1/watch")
    assert got.status_code == 200
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_the_client_moves_within_a_second_and_comes_back(exporter: Exporter) -> None:
    with Availability(exporter.url) as availability:
        assert availability.wait(10)
        assert availability.mode == "watch"
        for name in ("google", "gcp.gemini", "Gemini"):
            assert availability.allows(name, "gemini-3-pro")
        state(exporter, "gemini", state="quota_exhausted", retry_after="1h", model="gemini-3*")
        told = time.monotonic()
        until(lambda: not availability.allows("google", "gemini-3-pro"), "move")
        assert not availability.allows("gcp.gemini", "gemini-3-pro")
        assert availability.allows("google", "gemini-2")
        assert availability.choose([("google", "gemini-3-pro"), "openai"]) == "openai"
        state(exporter, "gemini", state="auto", model="gemini-3*")
        until(lambda: availability.allows("google", "gemini-3-pro"), "way back")
        assert time.monotonic() > told


def test_the_documented_program_chooses_who_has_quota(exporter: Exporter) -> None:
    program = replaced(block("routing.md", "Python", "python"), exporter=exporter.url)
    at = program.index("if availability")
    names: dict[str, Any] = {}
    exec(program[:at], names)
    with names["availability"] as availability:
        until(lambda: availability.fresh, "copy")
        exec(program[at:], names)
        assert names["provider"] == "openai"
        state(exporter, "openai", state="quota_exhausted", retry_after="1h", model="gpt-5*")
        state(exporter, "gemini", state="quota_exhausted", retry_after="1h")
        until(lambda: not availability.allows("openai", "gpt-5"), "move")
        until(lambda: not availability.allows("gemini"), "move")
        exec(program[at:], names)
        assert (names["provider"], names["model"]) == ("anthropic", "claude-opus-4")


# -- in this process --


class Client:
    """One who watches; what it was sent, and whether it takes more."""

    def __init__(self) -> None:
        self.sent = b""
        self.parts = 0
        self.takes = asyncio.Event()
        self.takes.set()
        self.left = asyncio.Event()

    def write_part(self, framed: bytes) -> bool:
        if not self.takes.is_set():
            return False
        size, _, rest = framed.partition(b"\r\n")
        part = rest[: int(size, 16)]
        assert rest == part + b"\r\n"
        self.parts += 1
        self.sent += part
        return True

    async def drained(self) -> None:
        await self.takes.wait()

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.sent += message.get("body", b"")

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def events(self) -> list[str]:
        return [
            event["event"]
            for event in events(iter(self.sent.decode().split("\n")))
            if "event" in event
        ]


@asynccontextmanager
async def connected(house: House) -> AsyncIterator[Client]:
    client = Client()
    scope = {"extensions": {STREAM: client}, "headers": []}
    serving = asyncio.create_task(house.site.watchers.serve(scope, client.receive, client.send, ""))
    try:
        await soon(lambda: client.events == ["state"])
        yield client
    finally:
        client.takes.set()
        client.left.set()
        await serving


async def soon(ready: Any) -> None:
    async with asyncio.timeout(20):
        while not ready():
            await asyncio.sleep(0.001)


def out(house: House, provider: str) -> None:
    now = house.clock()
    house.service.states.overrule(Scope(provider), State.QUOTA_EXHAUSTED, now + HOUR, now)


@asynccontextmanager
async def running(house: House) -> AsyncIterator[None]:
    task = asyncio.create_task(house.site.watchers.run())
    try:
        yield
    finally:
        task.cancel()


def test_a_watcher_that_does_not_keep_up_reads_on_or_takes_the_whole_state_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(change_feed, "MAX_KEPT", 10)

    async def story(house: House) -> None:
        async with running(house), connected(house) as slow, connected(house) as quick:
            slow.takes.clear()
            for number in range(5):
                out(house, f"few-{number}")
            await soon(lambda: quick.events == ["state"] + ["change"] * 5)
            slow.takes.set()
            await soon(lambda: slow.events == quick.events)
            slow.takes.clear()
            for number in range(50):
                out(house, f"many-{number}")
                await asyncio.sleep(0.001)
            before = len(slow.sent)
            assert slow.events == ["state"] + ["change"] * 5
            slow.takes.set()
            await soon(lambda: slow.events == ["state"] + ["change"] * 5 + ["state"])
            assert slow.sent[before:].count(b"many-") == 50
            out(house, "one-more")
            await soon(lambda: slow.events[-2:] == ["state", "change"])
            assert await house.value("llm_quota_exporter_watchers") == 2
            assert await house.value("llm_quota_exporter_watch_resyncs_total") == 1

    lived(story)


def test_one_who_leaves_is_forgotten_even_when_it_takes_nothing() -> None:
    async def story(house: House) -> None:
        async with running(house):
            async with connected(house) as client:
                assert len(house.site.watchers) == 1
                client.takes.clear()
                out(house, "openai")
            assert len(house.site.watchers) == 0

    lived(story)


def test_silence_is_told_from_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "HEARTBEAT_SECONDS", 0.01)

    async def story(house: House) -> None:
        async with running(house), connected(house) as client:
            await soon(lambda: client.sent.endswith(b": heartbeat\n\n: heartbeat\n\n"))
            assert client.events == ["state"]

    lived(story)


def test_a_thousand_are_told_with_the_same_bytes() -> None:
    async def story(house: House) -> None:
        async with running(house), contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(connected(house)) for _ in range(1000)]
            out(house, "openai")
            out(house, "gemini")
            await soon(lambda: all(len(client.events) == 3 for client in clients))
            assert {client.sent for client in clients} == {clients[0].sent}
            assert {client.parts for client in clients} == {1}  # both changes came together

    lived(story)
