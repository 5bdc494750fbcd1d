"""Recovery probes against a provider on a local port."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import ThreadingHTTPServer

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.signal import Signal, Verdict
from exporter.probe import CHECK_SECONDS, Prober, ProbeResponse, fetch, http_client, next_probe_at
from exporter.storage.contract import StorageError
from tests.local_server import QuietHandler, serving

NOW = 1_800_000_000.0


@dataclass(frozen=True)
class Target:
    url: str = "http://127.0.0.1:9/"
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    interval: float = 30.0
    max_interval: float = 900.0


class Provider(ThreadingHTTPServer):
    """Answers what it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.body = b"{}"
        self.answers: dict[str, str] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/probe"


class _Handler(QuietHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["authorization"]))
        self.answer(self.server.status, self.server.answers, self.server.body)

    do_POST = do_GET


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving(Provider()) as server:
        yield server


class World:
    """A clock, the pending providers, and what was reported."""

    def __init__(self, target: Target, jitter: float = 0.0) -> None:
        self.now = NOW
        self.targets = {"openai": target}
        self.pending = {"openai": NOW}
        self.signals: list[Signal] = []
        self.sleeps: list[float] = []
        self.fails = False
        self.failures: list[Exception] = []
        self.prober = Prober(
            lambda: self.targets,
            lambda _: self.pending,
            lambda signal: self.report(signal),
            self.failures.append,
            clock=lambda: self.now,
            sleep=self.sleep,
            jitter=lambda: jitter,
        )

    async def report(self, signal: Signal) -> None:
        if self.fails:
            raise StorageError("disk full")
        self.signals.append(signal)

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if len(self.sleeps) == 3:
            raise asyncio.CancelledError

    def look(self, at: float) -> None:
        self.now = at

        async def probe() -> None:
            async with http_client() as client:
                await self.prober.probe_due(client)

        asyncio.run(probe())
        assert self.failures == []


def test_a_success_is_reported_with_the_time_of_the_answer(provider: Provider) -> None:
    world = World(Target(provider.url))
    world.look(NOW + 30)
    assert [(s.provider, s.verdict, s.at) for s in world.signals] == [
        ("openai", Verdict.SUCCESS, NOW + 30)
    ]


def test_the_request_is_sent_as_configured(provider: Provider) -> None:
    world = World(Target(provider.url, method="POST", headers={"Authorization": "Bearer k"}))
    world.look(NOW + 30)
    assert provider.asked == [("POST", "/probe", "Bearer k")]


def test_a_refusal_is_reported_as_what_it_says(provider: Provider) -> None:
    provider.status, provider.answers = 429, {"Retry-After": "7200"}
    world = World(Target(provider.url))
    world.look(NOW + 30)
    assert world.signals[0].verdict is Verdict.EXHAUSTED
    assert world.signals[0].retry_at == NOW + 30 + 7200


def test_nobody_is_asked_before_the_interval(provider: Provider) -> None:
    world = World(Target(provider.url))
    world.look(NOW + 29.9)
    assert provider.asked == []


def test_nobody_is_asked_who_is_not_pending_or_has_no_target(provider: Provider) -> None:
    world = World(Target(provider.url))
    world.pending = {"anthropic": NOW}
    world.look(NOW + 1000)
    assert provider.asked == []


def test_probes_back_off_while_the_provider_keeps_failing(provider: Provider) -> None:
    provider.status = 500
    world = World(Target(provider.url, interval=30, max_interval=100))
    asked_at = []
    for second in range(0, 600, 10):
        before = len(provider.asked)
        world.look(NOW + second)
        asked_at += [second] * (len(provider.asked) - before)
    assert asked_at == [30, 90, 190, 290, 390, 490, 590]


def test_a_wait_that_the_provider_asks_for_is_kept(provider: Provider) -> None:
    provider.status, provider.answers = 429, {"Retry-After": "600"}
    world = World(Target(provider.url))
    world.look(NOW + 30)
    world.look(NOW + 629)
    assert len(provider.asked) == 1
    world.look(NOW + 630)
    assert len(provider.asked) == 2


def test_a_new_exhaustion_starts_over(provider: Provider) -> None:
    provider.status = 500
    world = World(Target(provider.url))
    for second in (30, 90, 210):
        world.look(NOW + second)
    world.pending = {"openai": NOW + 5000}
    world.look(NOW + 5030)
    assert len(provider.asked) == 4


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    return [
        (record.message, record.__dict__["fields"])
        for record in caplog.records
        if record.name == "exporter"
    ]


def asked(target: Target) -> ProbeResponse:
    async def ask() -> ProbeResponse:
        async with http_client() as client:
            return await fetch(client, target)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Target(), "Connection refused"),
        (Target(headers={"Authorization": "Bearer s3cret\n"}), "LocalProtocolError"),
        (Target("http://127.0.0.1:s3cret/"), "InvalidURL"),
    ],
)
def test_what_cannot_be_asked_is_logged_without_its_key(
    target: Target, reason: str, caplog: pytest.LogCaptureFixture, provider: Provider
) -> None:
    if target.headers:
        target = replace(target, url=provider.url)
    world = World(target)
    world.look(NOW + 30)
    assert world.signals == []
    assert logged(caplog) == [("probe failed", {"provider": "openai", "error": reason})]
    assert "s3cret" not in caplog.text


def test_a_store_that_fails_once_does_not_end_the_probing(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(Target(provider.url))
    world.fails = True
    world.look(NOW + 30)
    assert logged(caplog) == [("probe not stored", {"provider": "openai", "error": "disk full"})]
    world.fails = False
    world.look(NOW + 90)
    assert [signal.verdict for signal in world.signals] == [Verdict.SUCCESS]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "not a url"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(httpx2.HTTPError):
        asked(Target(url))


def test_a_redirect_does_not_carry_the_key_away(provider: Provider) -> None:
    provider.status, provider.answers = 302, {"Location": provider.url + "/elsewhere"}
    assert asked(Target(provider.url, headers={"Authorization": "Bearer k"})).status == 302
    assert [path for _, path, _ in provider.asked] == ["/probe"]


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_that_http_does_not_have_says_nothing(
    provider: Provider, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    provider.status = status
    world = World(Target(provider.url))
    world.look(NOW + 30)
    assert world.signals == []
    assert [message for message, _ in logged(caplog)] == ["probe says nothing"]


def test_an_answer_is_read_to_a_bound_and_not_unpacked(provider: Provider) -> None:
    provider.body = b"x" * 1_000_000
    assert asked(Target(provider.url)).body == b"x" * 65_536
    provider.answers = {"Content-Encoding": "gzip"}
    assert asked(Target(provider.url)).body == b""


def test_an_error_that_nobody_expected_ends_that_probe_only(provider: Provider) -> None:
    world = World(Target(provider.url))

    async def report(signal: Signal) -> None:
        if not world.signals:
            world.signals.append(signal)
            raise KeyError("a defect")
        world.signals.append(signal)

    world.report = report  # type: ignore[method-assign] # of this world only
    world.targets = {name: Target(provider.url) for name in ("a", "b", "c")}
    world.pending = dict.fromkeys("abc", NOW)
    with pytest.raises(AssertionError):
        world.look(NOW + 30)
    assert [repr(error) for error in world.failures] == ["KeyError('a defect')"]
    assert {signal.provider for signal in world.signals} == {"a", "b", "c"}


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The URL of somebody who accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_probes_that_are_never_answered_end_together(
    black_hole: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("exporter.probe.TIMEOUT", 0.2)
    world = World(Target())
    world.targets = {f"p{number}": Target(black_hole) for number in range(40)}
    world.pending = dict.fromkeys(world.targets, NOW)
    world.look(NOW + 30)
    failures = [
        (name, {"provider": p, "error": "TimeoutError"})
        for p in world.targets
        for name in ["probe failed"]
    ]
    assert sorted(map(repr, logged(caplog))) == sorted(map(repr, failures))


def test_probing_is_cancelled_in_the_middle_of_probes(black_hole: str) -> None:
    world = World(Target())
    world.now = NOW + 30
    world.targets = {f"p{number}": Target(black_hole) for number in range(40)}
    world.pending = dict.fromkeys(world.targets, NOW)

    async def story() -> None:
        probing = asyncio.create_task(world.prober.run())
        while not any(task.get_name() == "probe" for task in asyncio.all_tasks()):
            await asyncio.sleep(0)
        probing.cancel()
        await asyncio.wait([probing])
        assert probing.cancelled()

    asyncio.run(story())
    assert world.signals == []


def test_it_looks_again_and_again_until_cancelled() -> None:
    world = World(Target())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(world.prober.run())
    assert world.sleeps == [CHECK_SECONDS] * 3


@given(
    st.integers(0, 10_000),
    st.floats(1, 3600),
    st.floats(1, 86400),
    st.floats(0, 1),
)
def test_the_delay_stays_between_half_and_all_of_its_bounds(
    probes: int, interval: float, longest: float, jitter: float
) -> None:
    target = Target(interval=interval, max_interval=longest)
    delay = next_probe_at(0.0, probes, target, jitter)
    assert min(interval, longest) / 2 <= delay <= longest
    assert delay <= next_probe_at(0.0, probes + 1, target, jitter)
