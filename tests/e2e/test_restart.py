"""Nothing acknowledged is lost and nothing counts twice, however the process ends."""

import random
import threading
import time
from pathlib import Path

import httpx

from tests.e2e.running import Exporter, until

CONFIG = """\
budgets:
  openai: 1_000_000
  spent: 100
"""


def lasting(exporter: Exporter) -> dict[str, object]:
    """What a restart must not change."""
    names = (
        "llm_quota_tokens_total",
        "llm_quota_requests_total",
        "llm_quota_used_tokens",
        "llm_quota_state",
        "llm_quota_exhausted_info",
        "llm_quota_retry_after_timestamp_seconds",
        "llm_quota_recovery_pending",
        "llm_quota_provider_remaining",
    )
    kept = {
        f"{name}{sorted(labels)}": value
        for (name, labels), value in exporter.metrics().items()
        if name in names
    }
    return kept | exporter.http.get("/v1/exhausted?include_elapsed=true").json()


def prepare(exporter: Exporter) -> dict[str, object]:
    """Usage, an id, a key, a state for each reason; the answer under the key."""
    now = time.time()
    exporter.push({"provider": "openai", "model": "m", "input_tokens": 3, "output_tokens": 4})
    exporter.push({"provider": "openai", "tokens": 5, "timestamp": now - 20 * 86400})
    exporter.push({"provider": "openai", "tokens": 10, "id": "an id"})
    exporter.push({"provider": "spent", "tokens": 500})
    answer = exporter.push(
        {"provider": "openai", "tokens": 20},
        {"provider": "openai", "tokens": -20},
        **{"Idempotency-Key": "a key"},
    )
    refusal = {
        "headers": {"retry-after": "7200"},
        "body": {"error": {"code": "insufficient_quota"}},
    }
    signal = {"provider": "refused", "status": 429, **refusal}
    assert exporter.http.post("/v1/signals", json=signal).status_code == 200
    limit = {"anthropic-ratelimit-tokens-remaining": "7"}
    limited = {"provider": "limited", "status": 200, "headers": limit}
    assert exporter.http.post("/v1/signals", json=limited).status_code == 200
    for provider, retry_after in (("overruled", now + 3600), ("elapsed", "1s")):
        wish = {"state": "quota_exhausted", "retry_after": retry_after}
        assert exporter.http.put(f"/v1/providers/{provider}/state", json=wish).status_code == 200
    until(lambda: "elapsed" not in exporter.http.get("/v1/exhausted").json(), "end of a state")
    result: dict[str, object] = answer.json()
    return result


def check_that_all_is_as_before(exporter: Exporter, answer: object, before: object) -> None:
    assert lasting(exporter) == before
    assert exporter.push({"provider": "openai", "tokens": 10, "id": "an id"}).json() == {
        "accepted": 0,
        "duplicates": 1,
        "rejected": [],
    }
    again = exporter.push({"provider": "openai", "tokens": 999}, **{"Idempotency-Key": "a key"})
    assert again.json() == answer
    assert lasting(exporter) == before


def test_everything_is_as_it_was_after_kill_and_after_stop(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        answer = prepare(exporter)
        before = lasting(exporter)
        exporter.kill()
        exporter.start()
        check_that_all_is_as_before(exporter, answer, before)
        assert exporter.stop() == 0
        exporter.start()
        check_that_all_is_as_before(exporter, answer, before)
    assert exporter.log().count("msg=stopped") == 2


def test_the_retention_survives_a_restart_so_old_windows_keep_their_usage(tmp_path: Path) -> None:
    config = "budgets:\n  openai: {tokens: 1000, period: 30d}\n"
    with Exporter(tmp_path, config) as exporter:
        now = time.time()
        for days in range(0, 30, 3):
            event = {"provider": "openai", "tokens": 1, "timestamp": now - days * 86400 - 60}
            assert exporter.push(event).json()["accepted"] == 1
        exporter.kill()
        exporter.start()
        assert exporter.value("llm_quota_used_tokens", provider="openai", period="30d") == 10


def test_a_database_file_that_is_moved_away_is_noticed_and_nothing_is_acknowledged(
    tmp_path: Path,
) -> None:
    file, elsewhere = tmp_path / "quota.db", tmp_path / "elsewhere.db"
    with Exporter(tmp_path, CONFIG) as exporter:
        exporter.push({"provider": "openai", "tokens": 1})
        file.rename(elsewhere)
        until(lambda: exporter.http.get("/-/ready").status_code == 503, "notice of the lost file")
        assert exporter.push({"provider": "openai", "tokens": 2}).status_code == 503
        elsewhere.rename(file)
        until(lambda: exporter.http.get("/-/ready").status_code == 200, "notice of its return")
        exporter.push({"provider": "openai", "tokens": 4})
        exporter.kill()
        exporter.start()
        labels = {"provider": "openai", "model": "", "kind": "unspecified"}
        assert exporter.value("llm_quota_tokens_total", **labels) == 5
    assert f"{file}: the file was deleted, moved or replaced while in use" in exporter.log()


class Pusher(threading.Thread):
    """Pushes events with ids, one after the other, each until it is acknowledged.

    Attributes:
        acknowledged: ids that were answered with 200.
        open: the id that was sent and not answered, if any.
        problems: answers other than 200.
    """

    def __init__(self, name: str, exporter: Exporter) -> None:
        super().__init__(daemon=True)
        self._prefix = name
        self._exporter = exporter
        self._ending = False
        self.acknowledged: list[str] = []
        self.open: str | None = None
        self.problems: list[str] = []
        self.start()

    def run(self) -> None:
        number = 0
        with httpx.Client(verify=False, trust_env=False) as client:
            while not self._ending:
                if self.open is None:
                    number += 1
                    self.open = f"{self._prefix}-{number}"
                event = {"provider": "openai", "tokens": 1, "id": self.open}
                try:
                    answer = client.post(f"{self._exporter.url}/v1/usage", json=event)
                except httpx.TransportError:
                    time.sleep(0.05)  # it is down, or back on another port
                    continue
                if answer.status_code == 200:
                    self.acknowledged.append(self.open)
                    self.open = None
                else:
                    self.problems.append(answer.text)

    def end(self) -> None:
        self._ending = True
        self.join()


def counted(exporter: Exporter) -> float:
    value = exporter.value("llm_quota_requests_total", provider="openai", model="")
    return value or 0


def test_kill_under_load_counts_exactly_what_was_sent_once(tmp_path: Path) -> None:
    """Unacknowledged events are sent again, as clients do; each counts once all the same."""
    chance = random.Random(5)
    with Exporter(tmp_path, CONFIG) as exporter:
        pushers = [Pusher(f"thread-{number}", exporter) for number in range(6)]
        for _ in range(4):
            time.sleep(chance.uniform(0.2, 0.6))  # load, until a random moment
            exporter.kill()
            exporter.start()
        for pusher in pushers:
            pusher.end()
        sent = {identity for pusher in pushers for identity in pusher.acknowledged}
        assert len(sent) > 50
        for pusher in pushers:
            if pusher.open is not None:
                exporter.push({"provider": "openai", "tokens": 1, "id": pusher.open})
                sent.add(pusher.open)
        assert [problem for pusher in pushers for problem in pusher.problems] == []
        assert counted(exporter) == len(sent)
        exporter.kill()
        exporter.start()
        assert counted(exporter) == len(sent)


def test_a_stop_under_load_finishes_what_it_began(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        pushers = [Pusher(f"thread-{number}", exporter) for number in range(6)]
        deadline = time.monotonic() + 20
        while sum(len(pusher.acknowledged) for pusher in pushers) < 300:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert exporter.stop() == 0
        for pusher in pushers:
            pusher.end()
        acknowledged = {identity for pusher in pushers for identity in pusher.acknowledged}
        unanswered = {pusher.open for pusher in pushers} - {None}
        exporter.start()
        for identity in acknowledged:
            event = {"provider": "openai", "tokens": 1, "id": identity}
            assert exporter.push(event).json()["duplicates"] == 1
        assert len(acknowledged) <= counted(exporter) <= len(acknowledged | unanswered)
        assert "Traceback" not in exporter.log()
