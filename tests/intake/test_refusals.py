"""Refusals as providers really send them: what they say, about what, and until when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exporter.intake.signals import read_response
from tests.intake.refusals import encoded, load, param

AT = datetime(2026, 8, 14, 10, tzinfo=UTC)

REFUSALS = [param(case) for case in load()]


def test_there_are_many() -> None:
    assert len(REFUSALS) >= 60


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_why_of_what_and_until_when(case: dict[str, Any]) -> None:
    at: datetime = case.get("at", AT)
    signal = read_response(
        case["provider"],
        case["status"],
        case.get("headers", {}),
        encoded(case),
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
