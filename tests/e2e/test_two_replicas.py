"""Two replicas on one Redis: what one is told, routers hear from the other."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.client import Availability
from tests.e2e.running import Exporter, until
from tests.storage.servers import RedisServer

CONFIG = """
budgets:
  openai: 1000
  gemini: 1000
prediction: {exhausted_at: off}
"""
QUIET = ("ACL", "SETUSER", "quiet", "on", ">secret", "~*", "+@all", "resetchannels")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as running:
        yield running


@pytest.mark.parametrize("hints", [True, False], ids=["hints", "without hints"])
def test_a_change_on_one_replica_reaches_who_watches_the_other(
    server: RedisServer, tmp_path: Path, hints: bool
) -> None:
    url = server.url
    if not hints:  # a user without the right to publish or subscribe
        server.client().execute_command(*QUIET)
        url = url.replace("redis://", "redis://quiet:secret@")
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    with (
        Exporter(tmp_path / "one", CONFIG, storage=url) as one,
        Exporter(tmp_path / "other", CONFIG, storage=url) as other,
        Availability(other.url) as availability,
    ):
        assert availability.wait(10)
        assert availability.mode == "watch"
        one.push({"provider": "openai", "tokens": 600})
        other.push({"provider": "openai", "tokens": 400})
        until(lambda: not availability.allows("openai"), "move by what both counted")
        wish = {"state": "quota_exhausted", "retry_after": "1h"}
        assert one.http.put("/v1/providers/gemini/state", json=wish).status_code == 200
        until(lambda: not availability.allows("google"), "move by an operator")
        shown = other.http.get("/v1/exhausted").json()
        assert shown.keys() == {"openai", "gemini"}
        assert one.http.put("/v1/providers/gemini/state", json={"state": "auto"}).status_code == 200
        until(lambda: availability.allows("google"), "way back")
        asked = other.http.get("/v1/availability?provider=openai")
        assert json.loads(asked.text)["reason"] == "budget"
