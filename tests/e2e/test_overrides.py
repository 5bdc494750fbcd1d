"""An operator's raise and silence: in force at once, shown, kept, shared, and over in time."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import Exporter, command, until
from tests.storage.servers import RedisServer

CONFIG = """\
budgets:
  openai: 1000
  gemini: [{tokens: 100}, {usd: 5, period: month}, {requests: 10, per: model}]
  azure: {tokens: 100, providers: [azure-eu, azure-us]}
prediction: {method: linear, exhausted_at: 0.95}
"""


def quota(exporter: Exporter, provider: str = "openai", at: int = 0) -> dict[str, Any]:
    found: Any = until(lambda: exporter.provider(provider)["quotas"][at:], "quota")  # type: ignore[index]
    one: dict[str, Any] = found[0]
    return one


def put(exporter: Exporter, below: str, wish: object, provider: str = "openai") -> Any:
    return exporter.http.put(f"/v1/providers/{provider}/{below}", json=wish)


def test_a_raise_frees_a_spent_budget_until_it_is_over(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        exporter.push({"provider": "openai", "tokens": 1500})
        assert exporter.provider("openai")["state"] == "quota_exhausted"
        lasting = {"amount": "3M", "until": "1h", "reason": "launch"}
        shown = put(exporter, "budget", lasting).json()
        assert shown["state"] == "available"
        assert shown["quotas"][0]["budget"] == 3_000_000
        assert shown["quotas"][0]["override"] | {"until": ""} == {
            "configured": 1000,
            "until": "",
            "by": "operator",
            "reason": "launch",
        }
        day = {"provider": "openai", "period": "day"}
        assert exporter.value("llm_quota_budget_tokens", **day) == 3_000_000
        ends = exporter.value(
            "llm_quota_budget_override_until_timestamp_seconds", **day, unit="tokens"
        )
        assert ends == pytest.approx(time.time() + 3600, abs=60)

        put(exporter, "budget", {"amount": 3000, "until": time.time() + 1})
        until(lambda: quota(exporter)["override"] is None, "end of the raise")
        assert exporter.provider("openai")["state"] == "quota_exhausted"
        assert quota(exporter)["budget"] == 1000


def test_a_raise_survives_a_reload_and_a_power_cut_and_is_taken_back(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG, "--web.enable-lifecycle") as exporter:
        put(exporter, "budget", {"amount": 3000, "until": "1h"})
        wish = {"amount": 20, "until": "1h", "unit": "requests"}
        assert put(exporter, "budget", wish, "gemini").status_code == 200
        put(exporter, "silence", {"until": "1h"}, "gemini")
        for change in ("", "retention: 40d\n"):  # the second reads the history again
            exporter.config.write_text(CONFIG.replace("openai: 1000", "openai: 2000") + change)
            assert exporter.http.post("/-/reload").status_code == 200
            assert (quota(exporter)["budget"], quota(exporter)["override"]["configured"]) == (
                3000,
                2000,
            )
            assert quota(exporter, "gemini")["silenced_until"]
        exporter.kill()
        exporter.start()
        assert quota(exporter)["budget"] == 3000
        exporter.push({"provider": "gemini", "model": "m", "tokens": 1})
        assert quota(exporter, "gemini", 2)["budget"] == 20  # for a model seen since
        assert quota(exporter, "gemini")["silenced_until"]
        assert put(exporter, "budget", {"amount": None}).json()["quotas"][0]["override"] is None
        assert quota(exporter)["budget"] == 2000


def test_a_raise_of_a_pool_is_for_all_of_it(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        exporter.push({"provider": "azure-eu", "tokens": 150})
        assert exporter.provider("azure-us")["state"] == "quota_exhausted"
        put(exporter, "budget", {"amount": "1M", "until": "1h"}, "azure")
        assert exporter.provider("azure-us")["state"] == "available"


def noon() -> str:
    """A time zone in which it is noon now: a day that is far from both its ends."""
    return f"Etc/GMT{time.gmtime().tm_hour - 12:+d}"  # west of Greenwich is plus


def test_a_silence_keeps_a_prediction_from_taking_a_provider_out(tmp_path: Path) -> None:
    budget = f"{{tokens: 1000, period: day, timezone: {noon()}}}"
    config = CONFIG.replace("openai: 1000", f"openai: {budget}")
    with Exporter(tmp_path, config) as exporter:

        def silence(*ends: str) -> str:
            done = command("silence", "openai", *ends, "--url", exporter.url)
            assert done.returncode == 0, done.stderr
            return str(exporter.provider("openai")["reason"])

        # By straight lines, 990 of 1000 by noon are more than enough, and more than `from_used`.
        exporter.push({"provider": "openai", "tokens": 990})
        until(lambda: exporter.provider("openai")["reason"] == "predicted", "prediction")
        assert silence("--for", "1h", "--reason", "a load test") == "None"
        assert exporter.provider("openai")["state"] == "available"
        assert quota(exporter)["exhaustion_probability"] == 1
        labels = {"provider": "openai", "period": "day", "unit": "tokens"}
        assert exporter.value("llm_quota_silenced_until_timestamp_seconds", **labels)

        assert silence("--off") == "predicted"
        assert exporter.value("llm_quota_silenced_until_timestamp_seconds", **labels) is None
        assert silence("--for", "1h") == "None"
        exporter.push({"provider": "openai", "tokens": 20})
        assert exporter.provider("openai")["reason"] == "budget"  # what is counted is no prediction


def test_a_window_that_a_provider_reports_is_silenced_too(tmp_path: Path) -> None:
    with Exporter(tmp_path, CONFIG) as exporter:
        assert put(exporter, "silence", {"until": "1h"}, "claude").status_code == 404
        headers = {
            "anthropic-ratelimit-unified-5h-status": "allowed",
            "anthropic-ratelimit-unified-5h-utilization": "0.4",
            "anthropic-ratelimit-unified-5h-reset": str(int(time.time()) + 7200),
        }
        signal = {"provider": "claude", "status": 200, "headers": headers}
        assert exporter.http.post("/v1/signals", json=signal).status_code == 200
        until(lambda: exporter.provider("claude")["quotas"], "window")
        assert quota(exporter, "claude")["silenced_until"] is None
        shown = put(exporter, "silence", {"until": "1h"}, "claude").json()
        assert shown["quotas"][0]["silenced_until"]
        exporter.http.post("/v1/signals", json=signal)
        assert quota(exporter, "claude")["used_ratio"] == pytest.approx(0.4)
        put(exporter, "silence", {"until": None}, "claude")
        assert quota(exporter, "claude")["silenced_until"] is None


def test_replicas_hold_it_together(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    with (
        RedisServer(tmp_path / "redis") as redis,
        Exporter(folders[0], CONFIG, storage=redis.url) as one,
        Exporter(folders[1], CONFIG, storage=redis.url) as other,
    ):
        put(one, "budget", {"amount": 3000, "until": "1h"})
        put(one, "silence", {"until": "1h"}, "gemini")
        until(lambda: quota(other)["budget"] == 3000, "raise on the other")
        until(lambda: quota(other, "gemini")["silenced_until"], "silence on the other")
        put(other, "budget", {"amount": None})
        until(lambda: quota(one)["override"] is None, "end of the raise")


@pytest.mark.parametrize(
    ("provider", "below", "wish", "status", "told"),
    [
        ("nobody", "budget", {"amount": 5, "until": "1h"}, 404, "expected one with a budget"),
        ("openai", "budget", {"amount": 5}, 400, "until: expected RFC 3339 with a zone"),
        ("openai", "budget", {"amount": None, "until": "1h"}, 400, "until: only with an amount"),
        ("openai", "budget", {"amount": 0, "until": "1h"}, 400, "amount: expected a positive"),
        ("openai", "budget", {"amount": "many", "until": "1h"}, 400, "such as 3M, got 'many'"),
        ("openai", "budget", {"amount": 1.5, "until": "1h"}, 400, "amount: expected a positive"),
        ("openai", "budget", {"amount": "9e99", "until": "1h"}, 400, "amount: expected a positive"),
        ("openai", "budget", {"amount": 1e300, "until": "1h"}, 400, "amount: expected a positive"),
        ("openai", "budget", {"amount": 5, "until": "2y"}, 400, "until: expected RFC 3339"),
        ("gemini", "budget", {"amount": 5, "until": "1h"}, 400, "period: expected one of day, mo"),
        ("openai", "budget", {"amount": 5, "untill": "1h"}, 400, "unknown field `untill`"),
        ("openai", "budget", {"amount": 5, "until": "1h", "reason": "x\n"}, 400, "reason: expe"),
        ("nobody", "silence", {"until": "1h"}, 404, "provider: expected one with a budget"),
        ("openai", "silence", {}, 400, "missing required field `until`"),
        ("openai", "silence", {"until": 5}, 400, "until: expected RFC 3339"),
        ("openai", "silence", {"until": "1h", "model": "x" * 200}, 400, "model: expected at most"),
    ],
)
def test_what_makes_no_sense_is_refused(
    provider: str, below: str, wish: object, status: int, told: str, exporter: Exporter
) -> None:
    answer = put(exporter, below, wish, provider)
    assert (answer.status_code, told in answer.json()["error"]) == (status, True), answer.json()
    assert quota(exporter)["override"] is None


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Exporter(tmp_path_factory.mktemp("overrides"), CONFIG) as running:
        yield running


@pytest.mark.parametrize(
    ("amount", "unit", "expected"),
    [
        ("3M", "tokens", 3e6),
        ("1e6", "tokens", 1e6),
        ("2_000", "tokens", 2e3),
        ("12.5", "usd", 12.5),
    ],
)
def test_amounts_are_written_as_in_the_configuration(
    amount: str, unit: str, expected: float, exporter: Exporter
) -> None:
    wish = {"amount": amount, "unit": unit, "until": "1h"}
    shown = put(exporter, "budget", wish, "gemini").json()["quotas"]
    assert [one["budget"] for one in shown if one["unit"] == unit] == [expected]
    put(exporter, "budget", {"amount": None, "unit": unit}, "gemini")


def test_it_is_done_from_a_shell(exporter: Exporter) -> None:
    def typed(*arguments: str) -> str:
        done = command(*arguments, "--url", exporter.url)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[1]

    assert "3M day (1k again in " in typed("budget", "set", "openai", "3M", "--for", "2h")
    assert " 1k day " in typed("budget", "reset", "openai")
    assert "(silenced, ends in " in typed("silence", "openai", "--for", "2h", "--reason", "tests")
    assert "silenced" not in typed("silence", "openai", "--off")
    several = ("budget", "set", "gemini", "3M", "--for", "2h")
    refused = command(*several, "--url", exporter.url)
    assert "400 period: expected one of day, month, got none" in refused.stderr
    assert "3M day" in typed(*several, "--period", "day", "--unit", "tokens")
    assert "100 day" in typed("budget", "reset", "gemini", "--period", "day", "--unit", "tokens")
