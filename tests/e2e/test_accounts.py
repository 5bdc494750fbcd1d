"""A provider's own word on an account, in a running exporter, and after its restart."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.core.provider_count import DELAY
from tests.account_provider import Provider
from tests.e2e.running import Exporter, Samples, until
from tests.local_server import serving

KEY = "sk-or-v1-hush"
DAY = 86_400


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving(Provider()) as server:
        key = {"limit": 100, "limit_remaining": 25, "limit_reset": "monthly", "usage_daily": 4}
        server.bodies["/api/v1/key"] = {"data": key}
        server.bodies["/v1/organization/projects/p/rate_limits"] = {
            "data": [{"model": "gpt-5", "max_requests_per_1_day": 10}],
            "has_more": False,
        }
        yesterday = (int(time.time()) // DAY - 1) * DAY
        result = {"input_tokens": 800, "output_tokens": 200, "num_model_requests": 2}
        buckets = [
            {"start_time": start, "results": [result]} for start in (yesterday - DAY, yesterday)
        ]
        used = {"data": buckets, "has_more": False, "next_page": None}
        server.bodies["/v1/organization/usage/completions"] = used
        server.bodies["/v1/organization/usage/embeddings"] = {"data": [], "has_more": False}
        yield server


def value(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


@pytest.fixture
def account(tmp_path: Path, provider: Provider) -> str:
    """The settings of an account, without its API."""
    (tmp_path / "headers").write_text(f"Authorization: Bearer {KEY}\n")
    return f"url: '{provider.url}', headers_file: {tmp_path}/headers"


def read(exporter: Exporter) -> Samples:
    """The metrics once the account was read."""

    def found() -> Samples | None:
        text = exporter.http.get("/metrics").text
        return exporter.metrics() if "llm_quota_account_last_read" in text else None

    return until(found, "reading")


def test_the_limit_of_a_key_is_a_budget(tmp_path: Path, account: str) -> None:
    config = f"providers: {{openrouter: {{account: {{api: openrouter, {account}}}}}}}\n"
    for _ in ("at first", "after a restart"):
        with Exporter(tmp_path, config, storage=f"sqlite:///{tmp_path}/quota.db") as exporter:
            found = read(exporter)
            usd = {"provider": "openrouter", "period": "key_month"}
            assert value(found, "llm_quota_budget_usd", **usd) == 100
            assert value(found, "llm_quota_used_usd", **usd) == pytest.approx(75)
            assert value(found, "llm_quota_state", provider="openrouter", state="available") == 1
            assert KEY not in exporter.log() + str(found)


def test_limits_without_use_are_counted_here_and_days_are_compared(
    tmp_path: Path, account: str
) -> None:
    config = f"providers: {{openai: {{account: {{api: openai, project: p, {account}}}}}}}\n"
    for start in (True, False):
        with Exporter(tmp_path, config, storage=f"sqlite:///{tmp_path}/quota.db") as exporter:
            if start:
                midnight = time.time() // DAY * DAY
                for days, tokens in ((3, 1), (2, 1000), (1, 750)):
                    at = midnight - days * DAY + 60
                    usage = {"input_tokens": tokens, "timestamp": at}
                    exporter.push({"provider": "openai", "model": "gpt-5", **usage})
                exporter.push({"provider": "openai", "model": "gpt-5", "tokens": 1})
            found = read(exporter)
            assert KEY not in exporter.log() + str(found)
            day = {"provider": "openai", "period": "1d", "model": "gpt-5"}
            assert value(found, "llm_quota_budget_requests", **day) == 10
            assert value(found, "llm_quota_used_requests", **day) in (1, 2)  # at night yesterday's
            drift = {"provider": "openai", "unit": "tokens"}
            late = time.time() % DAY > DELAY
            expected = (1000, 750, 0.25) if late else (1000, 1000, 0)
            names = ("provider_counted", "provider_counted_here", "provider_count_drift_ratio")
            assert [value(found, f"llm_quota_{name}", **drift) for name in names] == [*expected]
            since = value(found, "llm_quota_provider_count_drift_since_timestamp_seconds", **drift)
            assert since == (time.time() // DAY * DAY - DAY if late else None)
