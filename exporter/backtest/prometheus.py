"""Past usage from a Prometheus that has kept it."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import msgspec

from exporter.backtest.range_query import RangeAnswer, Samples
from exporter.backtest.usage import FileError
from exporter.core.budget import BudgetUnit

QUERIES = {
    BudgetUnit.TOKENS: "sum by (provider, model, kind) (llm_quota_tokens_total)",
    BudgetUnit.REQUESTS: "sum by (provider, model) (llm_quota_requests_total)",
    BudgetUnit.USD: "sum by (provider, model) (llm_quota_cost_usd_total)",
}
"""What is asked for by default: what this exporter counted. Consumers have counters of their own,
without models, which would count the same usage again."""

STEP = 300.0
"""Seconds between two samples: the width of a bin of history."""

_PART = 86_400.0  # seconds asked for at once: 288 samples per series, Prometheus allows 11,000
_TIMEOUT = 60.0  # seconds


def fetch(
    url: str,
    query: str,
    start: float,
    end: float,
    headers: dict[str, str],
    progress: Callable[[int], None],
) -> list[Samples]:
    """Return all series from `start` to `end`.

    `progress` is told how many of `parts(start, end)` are there.

    Raises:
        FileError: it cannot be asked, or what it answers cannot be used.
    """
    held: dict[str, Samples] = {}
    for number in range(parts(start, end)):
        begin = start + number * _PART
        # Both ends of a range query count.
        last = min(begin + _PART - STEP, end)
        answer = _ask(url, query, begin, last, headers)
        for one in answer.data.result:
            key = json.dumps(one.metric, sort_keys=True)
            held.setdefault(key, (one.metric, []))[1].extend(one.values)
        progress(number + 1)
    return list(held.values())


def parts(start: float, end: float) -> int:
    """Return how many requests that takes."""
    return int((end - start) // _PART) + 1


def _ask(url: str, query: str, start: float, end: float, headers: dict[str, str]) -> RangeAnswer:
    if not url.startswith(("http://", "https://")):
        raise FileError(f"--prometheus: expected http:// or https://, got {url!r}")
    form = urlencode({"query": query, "start": start, "end": end, "step": STEP}).encode()
    request = Request(url.rstrip("/") + "/api/v1/query_range", form, headers)  # noqa: S310 - the scheme was checked
    try:
        with urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310 - the scheme was checked
            body = response.read()
        return msgspec.json.decode(body, type=RangeAnswer)
    except HTTPError as exc:
        raise FileError(f"{url}: {exc.code} {_reason(exc)}") from None
    except (HTTPException, URLError, OSError) as exc:
        raise FileError(f"{url}: {getattr(exc, 'reason', exc)}") from None
    except msgspec.DecodeError as exc:
        raise FileError(f"{url}: no answer to a range query: {exc}") from None


def _reason(error: HTTPError) -> str:
    try:
        answer = json.load(error)
    except ValueError:
        return str(error.reason)
    return str(answer.get("error", error.reason)) if isinstance(answer, dict) else str(error.reason)
