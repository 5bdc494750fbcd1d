"""The reporter against an exporter that fails in every way it can."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.client import Reporter
from exporter.client.delivery import Exporter, backoff


def quick(sink, **options):
    return Reporter(sink.url, **{"interval": 0.01, **options})


def test_an_event_arrives_as_it_was_recorded(sink):
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    with quick(sink, token="s3cret") as reporter:
        reporter.record(
            "openai", model="gpt", input_tokens=3, output_tokens=4, id="a", timestamp=at
        )
        reporter.record("anthropic", tokens=9, id="b", timestamp=12.5)
    assert sink.events == [
        {
            "provider": "openai",
            "id": "a",
            "timestamp": at.timestamp(),
            "model": "gpt",
            "input_tokens": 3,
            "output_tokens": 4,
        },
        {"provider": "anthropic", "id": "b", "timestamp": 12.5, "tokens": 9},
    ]
    (request,) = sink.requests
    assert request.path == "/v1/usage"
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert (reporter.dropped, reporter.invalid, reporter.rejected) == (0, 0, 0)


def test_who_asked_and_what_it_cost_go_along(sink):
    with quick(sink) as reporter:
        reporter.record("openai", consumer="team-b", cost_usd=0.25, tokens=9, id="a", timestamp=1)
        reporter.record("openai", cost_usd=0, tokens=9, id="b", timestamp=1)
    plain = {"provider": "openai", "timestamp": 1, "tokens": 9}
    assert sink.events == [
        {**plain, "id": "a", "consumer": "team-b", "cost_usd": 0.25},
        {**plain, "id": "b", "cost_usd": 0},
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"consumer": "c" * 300}, "consumer: expected 1 to 256 characters, got 300 characters"),
        ({"cost_usd": -0.5}, "cost_usd: expected US dollars of at least 0, got -0.5"),
        ({"cost_usd": float("nan")}, "cost_usd: expected US dollars of at least 0, got nan"),
        ({"cost_usd": True}, "cost_usd: expected US dollars of at least 0, got True"),
        ({"cost_usd": "1 USD"}, "cost_usd: expected US dollars of at least 0, got 5 characters"),
    ],
)
def test_what_makes_no_sense_of_these_is_named(sink, caplog, more, message):
    with quick(sink) as reporter:
        reporter.record("openai", tokens=1, **more)
        assert reporter.invalid == 1
    assert message in caplog.text


def test_events_get_ids_and_the_time_they_were_recorded_at(sink):
    before = datetime.now(UTC).timestamp()
    with quick(sink) as reporter:
        for _ in range(3):
            reporter.record("openai", tokens=1)
    assert len(sink.events) == 3
    assert all(before <= e["timestamp"] <= datetime.now(UTC).timestamp() for e in sink.events)


def test_a_batch_is_repeated_byte_for_byte_under_one_key_until_it_is_accepted(sink, hang):
    def hang_up(handler):
        handler.connection.close()

    sink.answers.extend([503, (503, {"Retry-After": "0"}, b""), 500, 429, 401, hang_up, hang])
    reporter = quick(sink, timeout=0.3)
    for number in range(10):
        reporter.record("openai", tokens=number, id=f"e{number}")
    sink.wait_for(lambda: len(sink.events) == 10)
    reporter.close()
    assert len(sink.requests) == 8
    assert len({(r.headers["Idempotency-Key"], r.body) for r in sink.requests}) == 1
    assert reporter.dropped == 0


def test_batches_have_different_keys(sink):
    reporter = quick(sink)
    for number in (1, 2):
        reporter.record("openai", tokens=1)
        sink.wait_for(lambda number=number: len(sink.events) == number)
    reporter.close()
    assert len({r.headers["Idempotency-Key"] for r in sink.requests}) == 2


def test_recording_goes_on_while_the_exporter_hangs_and_keeps_the_newest(sink, hang):
    sink.answers.append(hang)
    reporter = quick(sink, max_queue=10)
    reporter.record("openai", tokens=1, id="first")
    sink.wait_for(lambda: sink.requests)
    for number in range(100):
        reporter.record("openai", tokens=1, id=f"e{number}")
    assert reporter.dropped == 90
    hang.release.set()
    reporter.close()
    assert [event["id"] for event in sink.events] == [f"e{number}" for number in range(90, 100)]


def test_nothing_is_lost_between_many_threads(sink):
    with quick(sink, max_queue=5000) as reporter:
        threads = [
            threading.Thread(
                target=lambda: [reporter.record("openai", tokens=1) for _ in range(500)]
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(sink.events) == 4000
    assert reporter.dropped == 0


def test_a_large_batch_is_compressed(sink):
    with quick(sink) as reporter:
        for _ in range(100):
            reporter.record("openai", tokens=1)
    assert any(r.headers.get("Content-Encoding") == "gzip" for r in sink.requests)
    assert len(sink.events) == 100


def test_a_refused_batch_is_counted_and_the_next_one_gets_through(sink):
    sink.answers.append(400)
    reporter = quick(sink)
    reporter.record("openai", tokens=1, id="refused")
    sink.wait_for(lambda: sink.requests)
    reporter.record("openai", tokens=1, id="fine")
    reporter.close()
    assert [event["id"] for event in sink.events] == ["fine"]
    assert reporter.dropped == 1


def test_events_rejected_one_by_one_are_counted(sink):
    answer = {"accepted": 1, "duplicates": 0, "rejected": [{"index": 1, "error": "too old"}]}
    sink.answers.append((200, {}, json.dumps(answer).encode()))
    with quick(sink) as reporter:
        reporter.record("openai", tokens=1)
        reporter.record("openai", tokens=1, timestamp=1)
    assert reporter.rejected == 1


def test_close_gives_up_in_time_and_counts_what_was_lost(sink):
    sink.answers.extend([503] * 1000)
    reporter = quick(sink, close_timeout=0.2)
    for _ in range(700):
        reporter.record("openai", tokens=1)
    reporter.close()
    assert reporter.dropped == 700


def test_events_after_close_are_dropped_and_counted(sink):
    reporter = quick(sink)
    reporter.close()
    reporter.record("openai", tokens=1)
    reporter.close()
    assert (reporter.dropped, sink.requests) == (1, [])


def test_leaving_an_async_block_leaves_the_loop_running(sink, hang):
    sink.answers.append(hang)

    async def program():
        async with quick(sink) as reporter:
            reporter.record("openai", tokens=1)
            # Runs only if the loop does while the block is being left.
            asyncio.get_running_loop().call_later(0.05, hang.release.set)
        return reporter

    assert asyncio.run(program()).dropped == 0
    assert len(sink.requests) == 1


def run(program: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments], check=True, timeout=30
    )


def test_what_is_left_is_sent_at_exit(sink):
    run(
        """
        import sys
        from exporter.client import Reporter
        reporter = Reporter(sys.argv[1], interval=60)
        reporter.record("openai", tokens=1, id="last words")
        """,
        sink.url,
    )
    assert [event["id"] for event in sink.events] == ["last words"]


def test_an_exporter_that_is_away_neither_delays_the_exit_nor_fails_it():
    run(
        """
        import socket
        from exporter.client import Reporter
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            reporter = Reporter(f"http://127.0.0.1:{free.getsockname()[1]}", close_timeout=0.2)
            reporter.record("openai", tokens=1)
        """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_parent_and_child_each_send_their_own_events_once(sink):
    run(
        """
        import os, sys
        from exporter.client import Reporter
        reporter = Reporter(sys.argv[1], interval=60)
        reporter.record("openai", tokens=1, id="before")
        child = os.fork()
        reporter.record("openai", tokens=1, id="parent" if child else "child")
        if child:
            assert os.waitpid(child, 0)[1] == 0
        """,
        sink.url,
    )
    sent = [json.loads(line)["id"] for r in sink.requests for line in r.body.splitlines()]
    assert sorted(sent) == ["before", "child", "parent"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"provider": "", "tokens": 1}, "provider: expected 1 to 256 characters, got 0 characters"),
        ({"provider": None, "tokens": 1}, "provider: expected 1 to 256 characters, got NoneType"),
        ({"tokens": -5}, "tokens: expected an integer of at least 0, got -5"),
        ({"tokens": True}, "tokens: expected an integer of at least 0, got True"),
        ({"tokens": 2**63}, f"tokens: expected an integer of at least 0, got {2**63}"),
        ({"tokens": "my prompt"}, "tokens: expected an integer of at least 0, got 9 characters"),
        ({"input_tokens": 1.5}, "input_tokens: expected an integer of at least 0, got 1.5"),
        ({}, "expected one of tokens, token kinds and usage, got none of them"),
        (
            {"tokens": 1, "output_tokens": 1},
            "expected one of tokens, token kinds and usage, got 2 of them",
        ),
        ({"usage": "my prompt"}, "usage: expected an object, got 9 characters"),
        ({"usage": {"my prompt": 1}}, "usage: expected token counts, found none"),
        ({"tokens": 1, "id": ""}, "id: expected 1 to 256 characters, got 0 characters"),
        ({"tokens": 1, "model": "m" * 300}, "model: expected 1 to 256 characters, got 300 chara"),
        (
            {"tokens": 1, "timestamp": datetime(2026, 1, 1)},  # noqa: DTZ001 - the bad input
            "timestamp: expected a datetime with a time zone, got a naive one",
        ),
        (
            {"tokens": 1, "timestamp": float("nan")},
            "timestamp: expected Unix seconds or a datetime, got nan",
        ),
        (
            {"tokens": 1, "timestamp": "now"},
            "timestamp: expected Unix seconds or a datetime, got 3 characters",
        ),
    ],
)
def test_bad_arguments_are_logged_once_counted_and_never_raised(sink, caplog, arguments, message):
    with quick(sink) as reporter:
        for _ in range(3):
            reporter.record(**{"provider": "openai", **arguments})
    assert reporter.invalid == 3
    (entry,) = caplog.records
    assert entry.levelno == logging.WARNING
    assert message in entry.getMessage()
    assert sink.requests == []


def test_a_usage_object_that_fails_in_our_hands_is_counted_without_its_words(sink, caplog):
    def explode():
        raise KeyError("my prompt")

    with quick(sink) as reporter:
        reporter.record("openai", usage=SimpleNamespace(model_dump=explode))
    assert reporter.invalid == 1
    assert "my prompt" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "exporter:10042"}, "url: expected http://host:port or https://host:port, got"),
        ({"url": "file:///etc/passwd"}, "url: expected http://host:port or https://host:port"),
        ({"token": "two\nlines"}, "token: expected printable ASCII characters"),
        ({"interval": 0}, "interval: expected a positive number, got 0"),
        ({"max_queue": -1}, "max_queue: expected a positive number, got -1"),
    ],
)
def test_a_reporter_that_could_never_work_is_not_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        Reporter(**{"url": "http://localhost:1", **arguments})


def test_a_signal_carries_rate_limits_and_never_credentials(sink):
    body = {"error": {"type": "insufficient_quota", "message": "my prompt", "code": "x"}}
    headers = {"Retry-After": "7", "Authorization": "Bearer k", "Set-Cookie": "c"}
    with quick(sink) as reporter:
        reporter.signal("openai", 429, headers, json.dumps(body))
    (signal,) = sink.signals
    assert signal.pop("timestamp") > 0
    assert signal == {
        "provider": "openai",
        "status": 429,
        "headers": {"retry-after": "7"},
        "body": {"error": {"type": "insufficient_quota", "code": "x"}},
    }


def test_of_signals_that_say_the_same_the_newest_is_sent(sink):
    with quick(sink, interval=60) as reporter:
        for left in range(100):
            reporter.signal("openai", 200, {"x-ratelimit-remaining-tokens": str(left)})
        reporter.signal("openai", 429, {}, {"error": {"code": "rate_limit_exceeded"}})
        reporter.signal("openai", 429, {}, {"error": {"code": "insufficient_quota"}})
    assert [s["headers"].get("x-ratelimit-remaining-tokens") for s in sink.signals] == [
        "99",
        None,
        None,
    ]


@pytest.mark.parametrize("status", [0, 600, "429", True])
def test_a_signal_without_a_real_status_is_counted_as_invalid(sink, status):
    with quick(sink) as reporter:
        reporter.signal("openai", status, {})
    assert (reporter.invalid, sink.requests) == (1, [])


def test_a_redirect_takes_the_token_nowhere(sink):
    sink.answers.append((302, {"Location": sink.url + "/elsewhere"}, b""))
    exporter = Exporter(sink.url, "s3cret", None)
    assert exporter.post("/v1/usage", b"{}", "application/json", "k", 5).status == 302
    assert [request.path for request in sink.requests] == ["/v1/usage"]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("99999", 300),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("soon", None),
    ],
)
def test_retry_after_is_understood_and_bounded(sink, header, seconds):
    sink.answers.append((503, {"Retry-After": header}, b""))
    answer = Exporter(sink.url, None, None).post("/v1/usage", b"{}", "application/json", "k", 5)
    assert answer.retry_after == seconds


@given(attempt=st.integers(0, 10**6), retry_after=st.none() | st.floats(0, 300))
def test_a_wait_is_never_shorter_than_asked_for_nor_much_longer(attempt, retry_after):
    asked = retry_after or 0.0
    assert asked <= backoff(attempt, retry_after) <= asked + 30
