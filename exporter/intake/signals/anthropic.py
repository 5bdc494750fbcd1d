"""Anthropic: the API's rate limits, and the windows of a subscription."""

import re
from collections.abc import Iterator

from exporter.core.signal import Limit
from exporter.intake.signals.response import QUOTA, LimitState, Response, mapping
from exporter.intake.signals.values import duration, moment, number

# https://platform.claude.com/docs/en/api/rate-limits#response-headers: every limit is one per
# minute, of the class of the model that was asked for. The reset is when a bucket is full again,
# an upper bound of the wait. Fast mode has limits of its own, on models of one family:
# https://platform.claude.com/docs/en/build-with-claude/fast-mode
_RATE = re.compile(
    r"anthropic-(ratelimit|fast)-((?:input-|output-)?tokens|requests)-(?:limit|remaining)"
)
_MINUTE = 60.0

# Subscriptions say instead, per window, what share is used and whether it refuses; there is
# no public documentation. A window's name starts with its length (5h, 7d), and may go on with
# the models it is for; what has another name (overage, …) is reported but refuses nothing.
_UNIFIED = re.compile(r"anthropic-ratelimit-unified-([\w-]+)-(?:utilization|status|reset)")
_LENGTH = re.compile(r"\d+[mhd]")
_OVERALL = "anthropic-ratelimit-unified"
_CLAIMS = {"five_hour": "5h", "seven_day": "7d"}

# Claude Code tells the same windows to the command of its status line, in percent:
# https://code.claude.com/docs/en/statusline (`rate_limits`, subscribers only).
_STATUS_LINE = re.compile(r"(?:five_hour|seven_day)(?:_\w+)?", re.ASCII)

# `oi` is Fable's (router-for-me/CLIProxyAPI#5033).
_MODELS = {
    "opus": "*opus*",
    "sonnet": "*sonnet*",
    "haiku": "*haiku*",
    "fable": "*fable*",
    "oi": "*fable*",
}


def windows(response: Response) -> Iterator[LimitState]:
    yield from _rates(response)
    yield from _subscription(response)
    yield from _status_line(response)


def is_status_line(response: Response) -> bool:
    """Whether this is no response, but what Claude Code's status line shows."""
    return any(map(_STATUS_LINE.fullmatch, response.event))


def _status_line(response: Response) -> Iterator[LimitState]:
    for claim in sorted(filter(_STATUS_LINE.fullmatch, response.event)):
        values = mapping(response.event[claim])
        used, reset = (
            number(values.get("used_percentage")),
            moment(values.get("resets_at"), response.at),
        )
        if used is not None:
            name = _claim(claim)
            yield _share(name, used / 100, reset, spent=False)


def _rates(response: Response) -> Iterator[LimitState]:
    headers, at = response.headers, response.at
    found = {(m[1], m[2]) for m in map(_RATE.fullmatch, headers) if m}
    for kind, unit in sorted(found, reverse=True):
        header = f"anthropic-{kind}-{unit}"
        name = ("fast_" if kind == "fast" else "") + unit.replace("-", "_")
        model = response.asked or ("*opus*" if kind == "fast" else "")
        remaining = number(headers.get(f"{header}-remaining"))
        reset = moment(headers.get(f"{header}-reset"), at)
        limit = Limit(
            name,
            number(headers.get(f"{header}-limit")),
            remaining,
            reset_at=reset,
            unit="requests" if unit == "requests" else "tokens",
            model=model,
            window=_MINUTE,
        )
        yield LimitState(name, _MINUTE, remaining == 0, reset, limit, model or None)


def _subscription(response: Response) -> Iterator[LimitState]:
    headers, at = response.headers, response.at
    named, refused = set(), set()
    matches = filter(None, map(_UNIFIED.fullmatch, headers))
    for unit in sorted({match[1] for match in matches}):
        header = f"{_OVERALL}-{unit}"
        name = unit.replace("-", "_")
        used = number(headers.get(f"{header}-utilization"))
        reset = moment(headers.get(f"{header}-reset"), at)
        status = headers.get(f"{header}-status")
        length = _LENGTH.match(name)
        full = status == "rejected" or (status is None and used is not None and used >= 1)
        spent = length is not None and full
        named.add(name)
        if spent:
            refused.add(_model(name))
        yield _share(name, used, reset, spent)

    claim = _claim(headers.get(f"{_OVERALL}-representative-claim", ""))
    if headers.get(f"{_OVERALL}-status") != "rejected" or (claim in named and refused):
        return
    if not refused or (claim and _model(claim) not in refused):
        # Proxies may forward this much and no window.
        reset = moment(headers.get(f"{_OVERALL}-reset"), at)
        yield LimitState(claim or "subscription", QUOTA, True, reset, model=_model(claim))


def _share(name: str, used: float | None, reset: float | None, spent: bool) -> LimitState:
    length, model = _LENGTH.match(name), _model(name)
    seconds = duration(length[0]) if length else None
    limit = Limit(name, utilization=used, reset_at=reset, unit="share", model=model, window=seconds)
    return LimitState(name, seconds or 0.0, spent, reset, limit, model)


def _model(name: str) -> str:
    return _MODELS.get(name.partition("_")[2], "")


def _claim(claim: str) -> str:
    """The name of the window that a claim such as `seven_day_opus` means; empty when none."""
    for words, length in _CLAIMS.items():
        if claim == words or claim.startswith(f"{words}_"):
            return length + claim.removeprefix(words)
    return ""
