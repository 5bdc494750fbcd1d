"""Who is available, by a copy that follows the exporter and never stands in the way."""

import asyncio
import gc
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from exporter.client import Availability
from exporter.client import watcher as watcher_module
from tests.client.states_server import StatesServer, entry, out
from tests.e2e.running import until


@pytest.fixture
def server():
    return StatesServer()


@pytest.fixture
def url(server):
    with server.serving() as url:
        yield url


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr(watcher_module, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(watcher_module, "_MAX_PAUSE", 0.05)


def soon(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_what_is_out_is_not_allowed_and_the_rest_is(server, url):
    server.set(
        out("openai"),
        out("gemini", model="gemini-3*"),
        out("gemini", model="o3"),
        out("anthropic", consumer="batch-*"),
        out("groq", model="llama", consumer="team-a"),
    )
    with Availability(url) as availability:
        assert availability.wait(20)
        assert not availability.allows("openai")
        assert not availability.allows("openai", model="any", consumer="one")
        assert not availability.allows("gemini", model="gemini-3-pro")
        assert not availability.allows("gemini", "o3")
        assert availability.allows("gemini", model="gemini-2")
        assert availability.allows("gemini")
        assert not availability.allows("anthropic", consumer="batch-7")
        assert availability.allows("anthropic", consumer="web")
        assert not availability.allows("groq", "llama", "team-a")
        assert availability.allows("groq", "llama", "team-b")
        assert availability.allows("never heard of")


def test_changes_arrive_and_go(server, url):
    with Availability(url) as availability:
        assert availability.wait(20)
        assert availability.allows("openai", "gpt")
        server.set(out("openai", model="gpt*"))
        until(lambda: not availability.allows("openai", "gpt"), "refusal")
        assert availability.allows("openai", "o3")
        server.set(out("openai"))
        until(lambda: not availability.allows("openai", "o3"), "refusal")
        server.set(entry("openai"))
        until(lambda: availability.allows("openai", "o3"), "way back")
        assert not availability.allows("openai", "gpt")
        server.set(entry("openai", model="gpt*"))
        until(lambda: availability.allows("openai", "gpt"), "way back")
        assert availability.mode == "watch"
        assert len(server.requests) == 1


def test_a_scope_is_available_the_moment_its_retry_after_has_passed(server, url, monkeypatch):
    end = datetime(2099, 1, 1, tzinfo=UTC).timestamp()
    server.set(out("openai"), out("unknown end", until=None))
    with Availability(url) as availability:
        assert availability.wait(20)
        monkeypatch.setattr(time, "time", lambda: end - 0.001)
        assert not availability.allows("openai")
        monkeypatch.setattr(time, "time", lambda: end)
        assert availability.allows("openai")
        assert not availability.allows("unknown end")


def test_a_provider_is_known_under_its_other_names(server, url):
    server.names = {"az_eu": ["azure-eu", "azure"], "claude": ["anthropic"]}
    server.set(out("azure"), out("anthropic"))
    with Availability(url) as availability:
        assert availability.wait(20)
        assert not availability.allows("claude")
        assert not availability.allows("AZ.EU")
        assert availability.allows("azure-eu")
        server.set(entry("azure"))
        until(lambda: availability.allows("AZ.EU"), "way back")


class TestChoice:
    @pytest.fixture
    def choose(self, server, url):
        with Availability(url) as availability:
            assert availability.wait(20)

            def ask(*candidates, states=(), consumer=""):
                model = str(time.monotonic_ns())
                server.set(*states, out("last", model=model))
                until(lambda: not availability.allows("last", model), "last change")
                return availability.choose(candidates, consumer)

            yield ask

    def test_of_equals_the_first_is_chosen(self, choose):
        assert choose("b", "a") == "b"
        assert choose(("b", "m"), "a") == ("b", "m")

    def test_available_comes_before_throttled_before_exhausted(self, choose):
        states = [out("a"), entry("b", throttled_until=soon(3000), probability=0.1)]
        assert choose("a", "b", "c", states=states) == "c"
        assert choose("a", "b", states=states) == "b"

    def test_the_less_likely_to_run_out_is_chosen(self, choose):
        states = [entry("a", probability=0.9), entry("b", probability=0.6)]
        assert choose("a", "b", states=states) == "b"

    def test_of_the_exhausted_the_one_that_is_back_first_is_chosen(self, choose):
        states = [out("a"), out("b", until=soon(3000)), out("c", until=None)]
        assert choose("c", "a", "b", states=states) == "b"

    def test_models_and_consumers_count(self, choose):
        states = [out("a", model="m"), out("b", consumer="batch")]
        assert choose(("a", "m"), "b", states=states) == "b"
        assert choose(("a", "m"), ("a", "n"), states=states) == ("a", "n")
        assert choose("b", "c", states=states, consumer="batch") == "c"

    def test_a_throttle_that_has_passed_is_forgotten(self, choose):
        assert choose("a", "b", states=[entry("a", throttled_until=soon(-1))]) == "a"

    def test_no_candidates_are_a_mistake(self, choose):
        with pytest.raises(ValueError, match="candidates: expected at least one"):
            choose()


@pytest.mark.parametrize("status", [404, 405, 429, 503])
def test_without_a_stream_it_polls(server, url, status):
    server.watch_status = status
    server.set(out("openai"))
    with Availability(url, poll_interval=0.01) as availability:
        assert availability.wait(20)
        assert availability.mode == "poll"
        assert not availability.allows("openai")
        server.wait_for(lambda: any("If-None-Match" in headers for _, headers in server.requests))
        assert not availability.allows("openai")
        server.set(entry("openai"))
        until(lambda: availability.allows("openai"), "way back")


def test_where_something_holds_events_back_it_polls(server, url):
    server.silent = True
    server.set(out("openai"))
    with Availability(url, poll_interval=0.01, timeout=0.1) as availability:
        assert availability.wait(20)
        assert availability.mode == "poll"
        assert not availability.allows("openai")


def test_after_polling_the_stream_is_tried_again(server, url, monkeypatch):
    monkeypatch.setattr(watcher_module, "_POLL_FOR", 0.05)
    server.watch_status = 503
    with Availability(url, poll_interval=0.01) as availability:
        assert availability.wait(20)
        server.watch_status = 200
        until(lambda: availability.mode == "watch", "stream")


def test_everything_is_allowed_before_the_first_copy(server, url):
    server.set(out("openai"))
    server.watch_status = server.poll_status = 500
    with Availability(url) as availability:
        assert not availability.wait(0.05)
        assert availability.allows("openai")
        assert availability.choose(["openai", "a"]) == "openai"
        assert (availability.age, availability.fresh, availability.mode) == (None, False, "")


def test_a_copy_outlives_the_exporter_for_as_long_as_it_may(server):
    with server.serving() as url:
        server.set(out("openai"))
        availability = Availability(url, max_age=1.5)
        assert availability.max_age == 1.5
        assert availability.wait(20)
    with availability:
        until(lambda: availability.mode == "", "notice that it is away")
        assert not availability.allows("openai") or not availability.fresh
        until(lambda: not availability.fresh, "end of the copy")
        assert availability.allows("openai")
        assert availability.choose(["openai", "a"]) == "openai"
        assert availability.age > 1.5


def test_an_exporter_that_comes_back_is_followed_again(server, caplog):
    caplog.set_level("INFO", "exporter.client")
    with server.serving() as url:
        availability = Availability(url)
        assert availability.wait(20)
    with availability:
        until(lambda: "no states from the exporter" in caplog.text, "warning")
        server.set(out("openai"))
        with server.serving(int(url.rpartition(":")[2])):
            until(lambda: not availability.allows("openai"), "refusal")
            again = "states from the exporter again"
            until(lambda: caplog.text.count(again) == 1, "word that it is back")
            # Here: once the server has gone for good there may be one more.
            assert caplog.text.count("no states from the exporter") == 1


def test_a_stream_that_ends_is_opened_again(server, url):
    with Availability(url) as availability:
        assert availability.wait(20)
        server.hang_up()
        server.wait_for(lambda: len(server.requests) == 2)
        server.set(out("openai"))
        until(lambda: not availability.allows("openai"), "refusal")


@pytest.mark.parametrize(
    "nonsense",
    [
        b"event: change\ndata: {\n\n",
        b'event: change\ndata: {"provider": 5}\n\n',
        b'event: state\ndata: {"scopes": [{"provider": "a", "state": "x", "model": 1}]}\n\n',
        b"data: " + b"x" * 2000,
    ],
)
def test_nonsense_ends_the_stream_and_the_next_one_is_good(server, url, nonsense, monkeypatch):
    monkeypatch.setattr("exporter.client.event_stream.EventStream.__init__.__defaults__", (1000,))
    server.set(out("openai"))
    with Availability(url) as availability:
        assert availability.wait(20)
        server.say(nonsense)
        server.wait_for(lambda: len(server.requests) == 2)
        until(lambda: not availability.allows("openai"), "refusal")


def test_a_token_is_shown_and_its_refusal_is_told_once(server, url, caplog):
    server.watch_status = 401
    with Availability(url, token="s3cret"):
        server.wait_for(lambda: len(server.requests) >= 3)
    assert {path for path, _ in server.requests} == {"/v1/watch"}
    assert {headers["Authorization"] for _, headers in server.requests} == {"Bearer s3cret"}
    assert caplog.text.count("401") == 1
    assert "s3cret" not in caplog.text


def test_a_stream_over_tls_is_read_and_closed(server):
    authority = trustme.CA()
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(there)
    here = ssl.create_default_context()
    authority.configure_trust(here)
    server.set(out("openai"))
    with server.serving(tls=there) as url:
        availability = Availability(url.replace("127.0.0.1", "localhost"), tls=here)
        assert availability.wait(20)
        assert not availability.allows("openai")
        availability.close()
    assert threads() == []


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "quota-watch"]


class TestEnd:
    def test_closing_ends_the_thread_and_the_connection(self, server, url):
        availability = Availability(url)
        assert availability.wait(20)
        availability.close()
        assert threads() == []
        assert availability.allows("openai")
        assert not availability.fresh
        availability.close()
        assert threads() == []

    def test_one_that_nobody_holds_ends_its_thread(self, url):
        availability = Availability(url)
        assert availability.wait(20)
        del availability
        gc.collect()
        assert threads() == []

    def test_closing_does_not_wait_for_an_exporter_that_hangs(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            availability = Availability(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=30)
            connection, _ = listener.accept()
            with connection:
                availability.close()
                assert threads() == []

    def test_an_async_block_ends_it(self, server, url):
        server.set(out("openai"))

        async def program():
            async with Availability(url) as availability:
                return availability.fresh, availability.allows("openai")

        assert asyncio.run(program()) == (True, False)
        assert threads() == []

    def test_a_program_ends_without_closing_it(self, server, url):
        run(
            """
            import sys
            from exporter.client import Availability
            availability = Availability(sys.argv[1])
            assert availability.wait(20)
            """,
            url,
        )

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_child_follows_by_itself(self, server, url):
        server.set(out("openai"))
        run(
            """
            import os, sys, time
            from exporter.client import Availability
            availability = Availability(sys.argv[1])
            assert availability.wait(20)
            child = os.fork()
            if not child:
                assert availability.allows("openai")  # it starts empty, and open
                assert availability.wait(20)
            assert not availability.allows("openai")
            if child:
                assert os.waitpid(child, 0)[1] == 0
            """,
            url,
        )
        assert len(server.requests) == 2


class TestAwaiting:
    def test_it_ends_when_the_scope_is_back(self, server, url):
        server.set(out("openai"))

        async def program():
            async with Availability(url) as availability:
                waiting = asyncio.create_task(availability.until_allowed("openai", "gpt"))
                await asyncio.sleep(0)
                assert not waiting.done()
                server.set(entry("openai"))
                return await asyncio.wait_for(waiting, 20)

        assert asyncio.run(program())

    def test_it_ends_at_retry_after(self, server, url):
        server.set(out("openai", until=soon(0.3)))

        async def program():
            async with Availability(url) as availability:
                return await availability.until_allowed("openai", timeout=20)

        assert asyncio.run(program())

    def test_it_ends_when_the_copy_is_too_old(self, server):
        async def program(availability):
            async with availability:
                return await availability.until_allowed("openai", timeout=20)

        with server.serving() as url:
            server.set(out("openai"))
            availability = Availability(url, max_age=0.5)
            assert availability.wait(20)
        assert asyncio.run(program(availability))

    def test_it_gives_up_in_time(self, server, url):
        server.set(out("openai"))

        async def program():
            async with Availability(url) as availability:
                return await availability.until_allowed("openai", timeout=0.05)

        assert not asyncio.run(program())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "exporter:10042"}, "url: expected http://host:port or https://host:port, got"),
        ({"token": "two\nlines"}, "token: expected printable ASCII characters"),
        ({"max_age": 0}, "max_age: expected a positive number, got 0"),
        ({"poll_interval": -1}, "poll_interval: expected a positive number, got -1"),
        ({"timeout": 0}, "timeout: expected a positive number, got 0"),
    ],
)
def test_one_that_could_never_work_is_not_built(options, message):
    with pytest.raises(ValueError, match=message):
        Availability(**{"url": "http://localhost:1", **options})
    assert threads() == []


def run(program: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], check=True, timeout=30
    )
