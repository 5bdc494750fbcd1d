"""Refusals as providers really send them: what they say, about what, and until when."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.intake.signals import read_response

AT = datetime(2026, 8, 14, 10, tzinfo=UTC)

REFUSALS = [
    pytest.param(case, id=f"{case['provider']} {case['status']} {case['source']}")
    for case in yaml.safe_load(Path(__file__).with_name("refusals.yml").read_text())
]


def encoded(body: Any) -> bytes | str:
    return body if isinstance(body, str) else json.dumps(body).encode()


def test_there_are_many() -> None:
    assert len(REFUSALS) >= 60


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_why_of_what_and_until_when(case: dict[str, Any]) -> None:
    at: datetime = case.get("at", AT)
    signal = read_response(
        case["provider"],
        case["status"],
        case.get("headers", {}),
        encoded(case.get("body")),
        at.timestamp(),
        case.get("model", ""),
        case.get("consumer", ""),
    )
    verdict, reason, until, model, consumer = (*case["says"], *[None] * 5)[:5]
    assert (signal.verdict, signal.refusal) == (verdict, reason)
    assert (signal.model, signal.consumer) == (model or "", consumer or "")
    if until is None:
        assert signal.retry_at is None
    else:
        end = until if isinstance(until, datetime) else at + timedelta(seconds=until)
        assert signal.retry_at == pytest.approx(end.timestamp(), abs=1e-3, rel=0)
